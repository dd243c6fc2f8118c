//! What is done with what a dead driver left: the journal's tail as far as it came, and what the provider says of it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use dbird_core::{
    Action, Cloud, Digest, Documents, Handle, Outcome, Phase, Plan, Progress, Reason, ReleaseId, Scope, Steer, Step,
    StepId, StepKind, Weights,
    journal::{Begun, Unfinished, What},
    provider::Driver,
    recovery::{Recovery, Seen, decide},
    rollout::Course,
};

const OLD: ReleaseId = ReleaseId(1);
const NEW: ReleaseId = ReleaseId(2);

fn begun(reason: Reason, parent: Option<ReleaseId>) -> What {
    let destroy = reason == Reason::Destroy;
    let step = |id: &str, kind| Step {
        id: StepId::new(id),
        kind,
        title: id.into(),
        action: if destroy { Action::Delete } else { Action::Update },
        scope: Scope::Release,
        document: Digest::of(b""),
        changes: Vec::new(),
    };
    let plan = Plan {
        format: 1,
        service: "bird".into(),
        environment: "dev".into(),
        cloud: Cloud::Local,
        reason,
        parent,
        documents: Digest::of(b""),
        observed: Digest::of(b""),
        image: None,
        rollout: String::new(),
        course: None,
        steps: vec![step("data", StepKind::Data), step("service", StepKind::Service)],
        risks: Vec::new(),
    };
    What::Begin(Box::new(Begun {
        release: NEW,
        plan_digest: plan.digest(),
        plan,
        documents: Documents {
            service: "bird".into(),
            environment: "dev".into(),
            cloud: Cloud::Local,
            steps: Vec::new(),
        },
        actor: "ann@nest".into(),
        git_revision: String::new(),
        started_unix_ms: 0,
    }))
}

fn handle(step: &str) -> Handle {
    Handle { step: StepId::new(step), release: NEW, token: step.into() }
}

fn entry(name: &str) -> What {
    let step = StepId::new(name.split(' ').nth(1).unwrap_or("service"));
    match name.split(' ').next().unwrap() {
        "begin" => begun(Reason::Deploy, Some(OLD)),
        "first" => begun(Reason::Deploy, None),
        "destroy" => begun(Reason::Destroy, Some(OLD)),
        "taken" => What::TakenOver { by: "bob".into() },
        "intent" => What::Intent { step, body: Digest::of(b"") },
        "applied" => What::Applied { handle: handle(&step.0) },
        "shift" => What::Steering { steer: Steer::shift(Weights::all(NEW)), why: String::new(), logs: Vec::new() },
        "undo" => What::Steering {
            steer: Steer::Stop { roll_back: true },
            why: "it died".into(),
            logs: vec!["last words".into()],
        },
        "done" => What::Done { step, outputs: BTreeMap::from([("path".to_owned(), "/srv".into())]), took_ms: 5 },
        "end" => What::End { release: NEW, outcome: Outcome::Succeeded },
        other => panic!("what is {other}?"),
    }
}

fn tail(names: &str) -> Option<Unfinished> {
    let entries: Vec<_> = names.split(", ").map(entry).collect();
    Unfinished::from_tail(&entries)
}

#[test]
fn the_tail_says_how_far_it_came() {
    for ended in ["end", "intent service", "begin, intent service, end", "taken, end", "begin, end, taken"] {
        assert_eq!(tail(ended), None, "{ended}");
    }
    let found = tail(
        "end, begin, intent data, applied data, done data, intent service, intent service, applied service, shift",
    )
    .unwrap();
    assert_eq!(found.intended, [StepId::new("data"), StepId::new("service")]);
    assert_eq!(found.handles[&StepId::new("service")], handle("service"));
    assert!(found.is_done(&StepId::new("data")) && !found.is_done(&StepId::new("service")));
    assert_eq!(found.outputs.0[&StepId::new("data")]["path"], "/srv");
    assert_eq!(found.undoing, None);
    let found = tail("begin, intent service, applied service, undo, taken").unwrap();
    assert_eq!(found.undoing, Some(("it died".to_owned(), vec!["last words".to_owned()])));
    // A second beginning without an end can't be, and the last one counts.
    assert!(tail("begin, intent data, begin").unwrap().intended.is_empty());
}

#[test]
fn it_is_finished_or_undone() {
    let died = "the command that made it died before it had all traffic";
    let undo = |why: &str| Recovery::Undo { why: why.into() };
    let record = |outcome, why: &str| Recovery::Record { outcome, why: why.into() };
    let progress = |phase: Phase, share: u8| {
        let weights = match share {
            100 => Weights::all(NEW),
            0 => Weights::all(OLD),
            share => Weights([(NEW, share), (OLD, 100 - share)].into()),
        };
        Progress { weights, ..Progress::in_phase(phase) }
    };
    let failed = || Phase::Failed { why: "it died".into(), logs: Vec::new() };
    let started = "begin, intent service, applied service";
    // (what was written down, what the provider says, what is done)
    let nothing = [
        ("begin", record(Outcome::RolledBack, died)),
        ("first, intent data, done data", record(Outcome::Removed, died)),
        ("begin, intent service", record(Outcome::RolledBack, died)),
        ("destroy", Recovery::Resume),
        ("destroy, intent service, done service", Recovery::Resume),
        ("begin, intent service, applied service, done service", Recovery::Resume),
    ];
    for (written, expected) in nothing {
        assert_eq!(decide(&tail(written).unwrap(), Seen::Nothing), expected, "{written}");
    }
    let seen = [
        (started, progress(Phase::Working, 0), undo(died)),
        (started, progress(Phase::Ready, 0), undo(died)),
        (started, progress(Phase::Ready, 99), undo(died)),
        (started, progress(Phase::Ready, 100), Recovery::Finish),
        (started, progress(Phase::Shifting, 0), Recovery::Settle),
        (started, progress(Phase::Shifting, 100), Recovery::Settle),
        (started, progress(Phase::Finishing, 100), Recovery::Finish),
        (started, progress(Phase::Finishing, 50), undo(died)),
        (started, progress(Phase::Finished, 100), Recovery::Resume),
        (started, progress(Phase::Finished, 0), undo(died)),
        (started, progress(Phase::RollingBack, 0), undo(died)),
        (started, progress(Phase::RolledBack, 0), record(Outcome::RolledBack, died)),
        (started, progress(failed(), 100), undo("it died")),
        (started, progress(failed(), 0), undo("it died")),
        ("first, intent service", progress(Phase::Ready, 100), Recovery::Finish),
        ("first, intent service", progress(Phase::RolledBack, 0), record(Outcome::Removed, died)),
        // Once it was to be undone, it is.
        ("begin, intent service, applied service, undo", progress(Phase::Ready, 100), undo("it died")),
        ("begin, intent service, applied service, undo", progress(Phase::Shifting, 100), undo("it died")),
        (
            "begin, intent service, applied service, undo",
            progress(Phase::RolledBack, 0),
            record(Outcome::RolledBack, "it died"),
        ),
        ("begin, intent service, applied service, undo", progress(failed(), 0), undo("it died")),
    ];
    for (written, progress, expected) in seen {
        assert_eq!(decide(&tail(written).unwrap(), Seen::Progress(&progress)), expected, "{written}: {progress:?}");
    }
    // A cloud that drives goes on, and is gone with.
    let late = "it died; it was too late to undo it";
    let lost = "the cloud calls it finished, but it does not have all traffic";
    let beside = [
        (started, progress(Phase::Working, 0), Recovery::Follow),
        (started, progress(Phase::Shifting, 10), Recovery::Follow),
        (started, progress(Phase::Ready, 100), Recovery::Follow),
        (started, progress(Phase::Finished, 100), Recovery::Follow),
        (started, progress(Phase::RolledBack, 0), Recovery::Follow),
        (started, progress(failed(), 0), Recovery::Follow),
        (started, progress(Phase::Finished, 0), record(Outcome::Failed, lost)),
        ("begin, intent service, applied service, undo", progress(Phase::Shifting, 10), undo("it died")),
        ("begin, intent service, applied service, undo", progress(Phase::Finished, 100), record(Outcome::Failed, late)),
        (
            "begin, intent service, applied service, undo",
            progress(Phase::RolledBack, 0),
            record(Outcome::RolledBack, "it died"),
        ),
    ];
    for (written, progress, expected) in beside {
        let mut found = tail(written).unwrap();
        found.begun.plan.course = Some(Course { driven: Driver::Cloud, ..Course::default() });
        assert_eq!(decide(&found, Seen::Progress(&progress)), expected, "cloud, {written}: {progress:?}");
    }
    let unknown = [
        (None, Some(OLD), record(Outcome::RolledBack, died)),
        (Some(100), Some(NEW), Recovery::Resume),
        (
            Some(0),
            Some(OLD),
            record(Outcome::Failed, &format!("{died}; the cloud does not know it any more, and r1 serves")),
        ),
        (
            None,
            None,
            record(Outcome::Failed, &format!("{died}; the cloud does not know it any more, and nothing serves")),
        ),
    ];
    for (candidate, serving, expected) in unknown {
        let decided = decide(&tail(started).unwrap(), Seen::Unknown { candidate, serving });
        assert_eq!(decided, expected, "{candidate:?} {serving:?}");
    }
}
