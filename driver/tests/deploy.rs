//! Deploys from their plan to their record, over the in-memory provider.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::sync::Arc;

use dbird_core::{Action, Outcome, Reason, StepId, spec::HookWhen};
use dbird_driver::{Error, Event};
use dbird_testkit::memory::Behaviour;
use serde_json::json;
use support::{R1, R2, Twist, Twisted, World, body, canary, course, documents, hook};

#[tokio::test]
async fn releases_follow_each_other() {
    let world = World::new();
    let first = world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    assert_eq!((first.release.outcome, first.exit_code(), first.live), (Outcome::Succeeded, 0, Some(R1)));
    assert_eq!(world.live().await, "r1=100");
    assert_eq!(first.endpoints["service"], "memory://service");
    let second = world.deploy(body("two", Behaviour::Healthy), &canary()).await.unwrap();
    assert_eq!((second.release.outcome, second.release.parent, second.live), (Outcome::Succeeded, Some(R1), Some(R2)));
    assert_eq!(world.live().await, "r2=100");
    let steps: Vec<_> = second.release.step_ms.iter().map(|(step, _)| step.0.as_str()).collect();
    assert_eq!(steps, ["service"], "data was there already");
    assert!(second.release.took_ms >= 3_000, "it paused: {}", second.release.took_ms);
    let shares: Vec<u8> = world
        .events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|e| if let Event::Shifting { weights } = e { Some(weights.of(R2)) } else { None })
        .filter(|w| *w > 0)
        .collect();
    assert_eq!(shares, [5, 50, 100]);
    let history = world.operator().history(10).await.unwrap();
    assert_eq!(history.iter().map(|r| r.id).collect::<Vec<_>>(), [R1, R2]);
    assert_eq!(history[1].git_revision, "abc123");
    assert!(
        world.operator().holder().await.unwrap().is_none() && world.operator().unfinished().await.unwrap().is_none()
    );
    // The same configuration again has nothing to do.
    let again = world.order(documents(body("two", Behaviour::Healthy)), Reason::Deploy, &canary()).await;
    assert!(again.plan.is_empty());
    assert!(matches!(world.operator().carry_out(again).await, Err(Error::Order(_))));
}

#[tokio::test]
async fn bad_releases_are_undone() {
    let short = dbird_core::rollout::Course { deadline_ms: 5_000, ..course() };
    let swap = dbird_core::rollout::Course { swap: true, ..course() };
    let bake = dbird_core::rollout::Course { bake_ms: 30_000, ..course() };
    let cases = [
        ("dies", Behaviour::Dies { last_words: "no config".into() }, course(), "r2 died before it was ready"),
        ("never ready", Behaviour::NeverReady, short, "not done within the deadline of 5s: waiting for readiness"),
        ("dies while it bakes", Behaviour::DiesUnderTraffic { after_ms: 9_000 }, bake, "r2 died under traffic"),
        ("dies as a canary", Behaviour::DiesUnderTraffic { after_ms: 900 }, canary(), "r2 died under traffic"),
        ("can't open the store", Behaviour::FailsSwap, swap, "r2 could not open the store"),
        ("is refused", Behaviour::Refused, course(), "apply: the document asks to be refused"),
    ];
    for (what, behaves, course, why) in cases {
        let exclusive = course.swap;
        for first_release in [false, true] {
            if first_release && matches!(behaves, Behaviour::DiesUnderTraffic { .. }) {
                continue; // a first release has no previous one to wait beside
            }
            let world = World::new();
            let mut expected = (Outcome::Removed, 1, None);
            if !first_release {
                let mut one = body("one", Behaviour::Healthy);
                one.exclusive = exclusive;
                world.deploy(one, &course).await.unwrap();
                expected = (Outcome::RolledBack, 3, Some(R1));
            }
            let mut bad = body("two", behaves.clone());
            bad.exclusive = exclusive;
            let ended = world.deploy(bad, &course).await.unwrap();
            assert_eq!((ended.release.outcome, ended.exit_code(), ended.live), expected, "{what}");
            let why = if first_release { why.replace("r2", "r1") } else { why.to_owned() };
            assert_eq!(ended.release.why, why, "{what}, first release: {first_release}");
            assert_eq!(world.live().await, if first_release { "" } else { "r1=100" }, "{what}");
            if what == "dies" {
                assert_eq!(ended.logs, ["no config"]);
            }
            if what == "is refused" {
                assert!(ended.error.is_some());
            }
            assert!(world.provider.is_quiet(&world.target), "{what}");
        }
    }
}

#[tokio::test]
async fn hooks_run_at_their_moments() {
    let world = World::new();
    let one = body("one", Behaviour::Healthy);
    let hooks = vec![
        hook(HookWhen::After, &["lines", "2"]),
        hook(HookWhen::Before, &["lines", "1"]),
        hook(HookWhen::Step, &["exit", "0"]),
        hook(HookWhen::BeforeTraffic, &["exit", "0"]),
        hook(HookWhen::Rollback, &["exit", "0"]),
    ];
    let good = dbird_core::rollout::Course { hooks, ..canary() };
    let moments = |world: &World| -> Vec<HookWhen> {
        let events = world.events.lock().unwrap();
        let moment = |e: &Event| if let Event::HookStarted { when, .. } = e { Some(*when) } else { None };
        events.iter().filter_map(moment).collect()
    };
    use HookWhen::{After, Before, BeforeTraffic, Rollback, Step};
    world.deploy(one, &good).await.unwrap();
    assert_eq!(moments(&world), [BeforeTraffic, Step, After], "nothing to run the first in, nobody to share with");
    assert_eq!(world.told(|e| matches!(e, Event::Note { .. })), 1);
    assert_eq!(world.told(|e| matches!(e, Event::TaskOutput { .. })), 2);
    world.events.lock().unwrap().clear();
    world.deploy(body("two", Behaviour::Healthy), &good).await.unwrap();
    assert_eq!(moments(&world), [Before, BeforeTraffic, Step, Step, Step, After]);

    // What fails, and how that ends.
    let cases = [
        (Before, Outcome::RolledBack, vec![Before]),
        (BeforeTraffic, Outcome::RolledBack, vec![BeforeTraffic, Rollback]),
        (Step, Outcome::RolledBack, vec![Step, Rollback]),
        (After, Outcome::Succeeded, vec![After]),
    ];
    for (n, (when, outcome, expected)) in cases.into_iter().enumerate() {
        world.events.lock().unwrap().clear();
        let before = world.live().await;
        let hooks = vec![hook(when, &["exit", "4"]), hook(Rollback, &["exit", "0"])];
        let course = dbird_core::rollout::Course { hooks, ..course() };
        let ended = world.deploy(body(&format!("try {n}"), Behaviour::Healthy), &course).await.unwrap();
        assert_eq!(ended.release.outcome, outcome, "{when:?}");
        assert_eq!(moments(&world), expected, "{when:?}");
        assert_eq!(ended.release.why, "the hook `exit 4` ended with exit code 4");
        assert_eq!(world.live().await == before, outcome == Outcome::RolledBack, "{when:?}");
    }
    // A hook that takes too long has failed too.
    let hooks = vec![hook(BeforeTraffic, &["sleep", "60000"])];
    let slow = dbird_core::rollout::Course { hooks, ..course() };
    let ended = world.deploy(body("slow hook", Behaviour::Healthy), &slow).await.unwrap();
    assert_eq!(ended.release.outcome, Outcome::RolledBack);
    assert!(ended.release.why.contains("ran out of time"), "{}", ended.release.why);
}

#[tokio::test]
async fn destroy_leaves_the_data_and_the_next_deploy_adopts_it() {
    let world = World::new();
    let one = || body("one", Behaviour::Healthy);
    world.deploy(one(), &course()).await.unwrap();
    let order = world.order(documents(one()), Reason::Destroy, &course()).await;
    let actions: Vec<_> = order.plan.steps.iter().map(|s| (s.id.0.as_str(), s.action)).collect();
    assert_eq!(actions, [("service", Action::Delete), ("data", Action::Keep)]);
    let ended = world.operator().carry_out(order).await.unwrap();
    assert_eq!((ended.release.outcome, ended.exit_code(), ended.live), (Outcome::Destroyed, 0, None));
    assert_eq!(world.live().await, "");
    assert_eq!(world.observed().await.data.len(), 1);
    let again = world.deploy(one(), &course()).await.unwrap();
    assert_eq!((again.release.id.0, again.release.outcome, again.release.parent), (3, Outcome::Succeeded, None));
}

#[tokio::test]
async fn a_person_can_stop_it_until_it_has_all_traffic() {
    // (when it is raised, what serves afterwards, the exit code)
    type When = fn(&Event) -> bool;
    let cases: [(&str, When, &str, u8); 4] = [
        ("while it is made", |e| matches!(e, Event::StepStarted { .. }), "r1=100", 130),
        ("at a weight", |e| matches!(e, Event::Shifted { weights } if weights.of(R2) == 5), "r1=100", 130),
        ("in a hook", |e| matches!(e, Event::HookStarted { when: HookWhen::BeforeTraffic, .. }), "r1=100", 130),
        ("while it bakes", |e| matches!(e, Event::Shifted { weights } if weights.of(R2) == 100), "r2=100", 0),
    ];
    let hooks = vec![hook(HookWhen::BeforeTraffic, &["sleep", "2000"]), hook(HookWhen::Step, &["exit", "0"])];
    let course = dbird_core::rollout::Course { hooks, bake_ms: 50_000, ..canary() };
    for (what, when, live, code) in cases {
        let world = World::new();
        world.deploy(body("one", Behaviour::Healthy), &support::course()).await.unwrap();
        let (events, interrupt) = (world.events.clone(), world.interrupt.clone());
        let operator = world.operator().reporting_to(Arc::new(move |e: &Event| {
            if when(e) {
                interrupt.raise();
            }
            events.lock().unwrap().push(e.clone());
        }));
        let order = world.order(documents(body("two", Behaviour::Healthy)), Reason::Deploy, &course).await;
        let ended = operator.carry_out(order).await.unwrap();
        assert_eq!((world.live().await.as_str(), ended.exit_code()), (live, code), "{what}");
        assert!(ended.release.took_ms < 20_000, "{what}: it did not wait for the bake time to pass");
        assert!(world.provider.is_quiet(&world.target), "{what}");
    }
    // Before anything began.
    let world = World::new();
    world.interrupt.raise();
    let ended = world.deploy(body("one", Behaviour::Healthy), &support::course()).await;
    assert!(matches!(ended, Err(Error::Interrupted)));
    assert!(world.operator().history(1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_plan_that_does_not_stand_any_more_is_refused() {
    let world = World::new();
    world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    let stale = world.order(documents(body("two", Behaviour::Healthy)), Reason::Deploy, &course()).await;
    world.deploy(body("three", Behaviour::Healthy), &course()).await.unwrap();
    let refused = world.operator().carry_out(stale).await.unwrap_err();
    assert!(matches!(refused, Error::Moved { .. }), "{refused}");
    assert!(refused.to_string().contains("it was made while r1 served, now r2 serves"), "{refused}");
    assert!(world.operator().holder().await.unwrap().is_none(), "the lease was given back");
}

#[tokio::test]
async fn a_candidate_that_the_cloud_does_not_know_any_more_is_taken_away() {
    for first_release in [false, true] {
        let world = World::new();
        if !first_release {
            world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
        }
        let twist = Twist::Forgetful(Default::default());
        let provider = Arc::new(Twisted { inner: world.provider.clone(), twist });
        let operator = world.operator_with(provider, world.store.clone());
        let order = world.order(documents(body("two", Behaviour::Healthy)), Reason::Deploy, &course()).await;
        let ended = operator.carry_out(order).await.unwrap();
        assert_eq!(ended.exit_code(), if first_release { 1 } else { 3 });
        assert_eq!(ended.release.why, "poll: no step `nobody`");
        assert_eq!(world.live().await, if first_release { "" } else { "r1=100" });
        assert!(world.provider.is_quiet(&world.target));
    }
}

#[tokio::test]
async fn a_one_off_task_is_followed_to_its_end() {
    let world = World::new();
    world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    let command = |argv: &[&str]| dbird_core::Command {
        release: R1,
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        timeout_ms: None,
        key: argv.join("-"),
    };
    let operator = world.operator();
    for code in [0, 3, 255] {
        let ended = operator.run_task(command(&["exit", &code.to_string()]), None).await.unwrap();
        assert_eq!(ended.exit_code, code);
    }
    assert_eq!(operator.run_task(command(&["lines", "300"]), None).await.unwrap().exit_code, 0);
    let lines: Vec<String> = {
        let events = world.events.lock().unwrap();
        events
            .iter()
            .filter_map(|e| if let Event::TaskOutput { text, .. } = e { Some(text.clone()) } else { None })
            .collect()
    };
    assert_eq!(lines, (1..=300).map(|n| format!("line {n}")).collect::<Vec<_>>());
    let late = operator.run_task(command(&["sleep", "60000"]), Some(5_000)).await.unwrap_err();
    assert!(matches!(&late, Error::Task(why) if why == "it ran out of time"), "{late}");
    let unknown =
        operator.run_task(dbird_core::Command { release: R2, ..command(&["exit", "0"]) }, None).await.unwrap_err();
    assert!(matches!(&unknown, Error::Provider(_)), "{unknown}");
    world.interrupt.raise();
    let stopped = operator.run_task(command(&["sleep", "50000"]), None).await.unwrap_err();
    assert!(matches!(stopped, Error::Interrupted), "{stopped}");
    assert!(world.provider.is_quiet(&world.target), "nothing goes on behind the command's back");
}

#[tokio::test]
async fn references_are_filled_also_from_steps_with_nothing_to_do() {
    let world = World::new();
    let referring = |greeting: &str| {
        let mut documents = documents(body("", Behaviour::Healthy));
        let id = dbird_core::document::reference(&StepId::new("data"), "id");
        documents.steps[1].body =
            json!({ "greeting": id, "behaves": { "is": "healthy" }, "exclusive": greeting == "two" });
        documents
    };
    for greeting in ["one", "two"] {
        let order = world.order(referring(greeting), Reason::Deploy, &course()).await;
        assert_eq!(order.plan.steps[0].action == Action::None, greeting == "two");
        let ended = world.operator().carry_out(order).await.unwrap();
        assert_eq!(ended.release.outcome, Outcome::Succeeded, "{}", ended.release.why);
        let live = world.observed().await.documents;
        assert_eq!(live[&StepId::new("service")]["greeting"], "memory:data");
    }
    assert!(world.order(referring("two"), Reason::Deploy, &course()).await.plan.is_empty());
    let mut unknown = referring("three");
    unknown.steps[1].body["greeting"] = dbird_core::document::reference(&StepId::new("data"), "nothing");
    unknown.steps[1].body["exclusive"] = json!(false);
    let ended = world.operator().carry_out(world.order(unknown, Reason::Deploy, &course()).await).await.unwrap();
    assert_eq!(ended.release.outcome, Outcome::RolledBack);
    assert!(ended.release.why.contains("needs output `nothing` of step `data`"), "{}", ended.release.why);
}
