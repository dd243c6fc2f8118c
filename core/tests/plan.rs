//! Plans: which step does what over what is live, the fields that differ, the risks, and plan files.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use dbird_core::{
    Action, Change, Cloud, Digest, Document, Documents, ImageRef, LiveRelease, Observed, Plan, Preview, Reason,
    ReleaseId, Scope, StepId, StepKind,
    planning::{Input, PlanError, PlanFileError, check_saved, diff, plan},
    rollout::Course,
    spec::WeightStep,
};
use serde_json::{Value, json};

fn course() -> Course {
    Course {
        strategy: "blue-green".into(),
        swap: false,
        weights: vec![WeightStep { weight: 100, pause_ms: 0, gate: false }],
        bake_ms: 0,
        deadline_ms: 60_000,
        pause_limit_ms: 60_000,
        hooks: Vec::new(),
        ..Course::default()
    }
}

fn service(greeting: &str) -> Value {
    json!({
        "image": { "digest": Digest::of(greeting.as_bytes()) },
        "env": { "GREETING": greeting },
        "mounts": [{ "name": "data", "path": "/data" }],
        "listen": "127.0.0.1:8080",
        "port_env": null,
    })
}

fn documents(steps: &[(&str, StepKind, Value)]) -> Documents {
    let document = |(step, kind, body): &(&str, StepKind, Value)| Document {
        step: StepId::new(*step),
        kind: *kind,
        title: format!("the {step}"),
        body: body.clone(),
    };
    Documents {
        service: "bird".into(),
        environment: "dev".into(),
        cloud: Cloud::Local,
        steps: steps.iter().map(document).collect(),
    }
}

fn all(greeting: &str) -> Documents {
    documents(&[
        ("network", StepKind::Infrastructure, json!({ "cidr": "10.0.0.0/16" })),
        ("image", StepKind::Image, json!({ "digest": Digest::of(greeting.as_bytes()) })),
        ("data", StepKind::Data, json!({ "name": "scores", "path": "/data" })),
        ("service", StepKind::Service, service(greeting)),
    ])
}

/// These documents are live, served by this release.
fn live(documents: &Documents, release: u64) -> Observed {
    let bodies = documents.steps.iter().map(|d| (d.step.clone(), d.body.clone()));
    Observed {
        documents: bodies.collect(),
        releases: vec![LiveRelease {
            id: ReleaseId(release),
            weight: 100,
            image: Digest::of(b"image"),
            ready: true,
            since_unix_ms: 0,
            tasks: Vec::new(),
        }],
        data: BTreeMap::from([("scores".to_owned(), "somewhere".to_owned())]),
        ..Observed::default()
    }
}

fn make(documents: &Documents, observed: &Observed, reason: Reason, delete_data: &[String]) -> Result<Plan, PlanError> {
    let course = course();
    plan(&Input {
        documents,
        observed,
        preview: &Preview::default(),
        image: Some(ImageRef { repository: "oci:.dbird/images".into(), digest: Digest::of(b"image") }),
        course: (reason != Reason::Destroy).then_some(&course),
        reason,
        copies: 1,
        delete_data,
    })
}

fn actions(plan: &Plan) -> String {
    let name = |a: Action| serde_json::to_value(a).unwrap().as_str().unwrap().to_owned();
    plan.steps.iter().map(|s| format!("{}:{}", s.id, name(s.action))).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_step_acts_only_where_live_differs_from_wanted() {
    let one = live(&all("one"), 3);
    let nothing = Observed::default();
    let only_data = Observed { data: one.data.clone(), ..Observed::default() };
    let mut unread = one.clone();
    unread.documents.remove(&StepId::new("service"));
    let cases = [
        ("nothing is live", &nothing, "one", Reason::Deploy, "network:create image:create data:create service:create"),
        ("data was left", &only_data, "one", Reason::Deploy, "network:create image:create data:adopt service:create"),
        ("the same", &one, "one", Reason::Deploy, "network:none image:none data:none service:none"),
        ("a new greeting", &one, "two", Reason::Deploy, "network:none image:update data:none service:update"),
        (
            "a rollback",
            &one,
            "two",
            Reason::Rollback { to: ReleaseId(1) },
            "network:none image:update data:none service:update",
        ),
        ("a restart", &one, "one", Reason::Restart, "network:none image:none data:none service:update"),
        ("unreadable", &unread, "one", Reason::Deploy, "network:none image:none data:none service:update"),
    ];
    for (what, observed, greeting, reason, expected) in cases {
        let plan = make(&all(greeting), observed, reason, &[]).unwrap();
        assert_eq!(actions(&plan), expected, "{what}");
        assert_eq!(plan.is_empty(), !expected.contains(":update") && !expected.contains(":create"), "{what}");
        assert_eq!(plan.course.is_some(), !plan.is_empty(), "{what}");
        assert_eq!(plan.parent, observed.current().map(|r| r.id), "{what}");
        assert_eq!(plan.steps[0].scope, Scope::Shared);
    }
}

#[test]
fn a_reference_to_what_stays_is_no_change() {
    let path = dbird_core::document::reference(&StepId::new("data"), "path");
    let mounts = |path: Value| json!({ "mounts": [{ "name": "data", "path": path }], "first": [path] });
    let wanted = documents(&[
        ("data", StepKind::Data, json!({ "name": "scores" })),
        ("service", StepKind::Service, mounts(path.clone())),
    ]);
    let filled = documents(&[
        ("data", StepKind::Data, json!({ "name": "scores" })),
        ("service", StepKind::Service, mounts(json!("/srv/scores"))),
    ]);
    let mut observed = live(&filled, 3);
    let same = make(&wanted, &observed, Reason::Deploy, &[]).unwrap();
    assert_eq!(actions(&same), "data:none service:none");
    // Made anew, it may give something else.
    observed.documents.remove(&StepId::new("data"));
    let anew = make(&wanted, &observed, Reason::Deploy, &[]).unwrap();
    assert_eq!(actions(&anew), "data:adopt service:update");
    let changed: Vec<_> = anew.steps[1].changes.iter().map(|c| (c.path.as_str(), c.after.clone())).collect();
    assert_eq!(changed, [("first.0", Some(path.clone())), ("mounts.data.path", Some(path))]);
}

#[test]
fn destroy_keeps_data_unless_it_is_named() {
    let observed = live(&all("one"), 3);
    let cases = [
        (&observed, vec![], "service:delete image:keep network:delete data:keep", 1),
        (&observed, vec!["scores".to_owned()], "service:delete image:keep network:delete data:delete", 2),
        (&observed, vec!["data".to_owned()], "service:delete image:keep network:delete data:delete", 2),
        (&Observed::default(), vec![], "service:none image:none network:none data:none", 0),
    ];
    for (observed, delete, expected, risks) in cases {
        let plan = make(&all("one"), observed, Reason::Destroy, &delete).unwrap();
        assert_eq!(actions(&plan), expected);
        assert_eq!(plan.risks.len(), risks, "{:?}", plan.risks);
        assert_eq!(plan.is_empty(), risks == 0);
    }
    let wrong = make(&all("one"), &observed, Reason::Destroy, &["score".to_owned()]).unwrap_err();
    assert_eq!(wrong.to_string(), "there is no data called `score` here; there is scores");
}

#[test]
fn what_others_use_as_well_is_kept() {
    let shared = documents(&[
        ("network", StepKind::Infrastructure, json!({ "shared": true })),
        ("own", StepKind::Infrastructure, json!({ "shared": false })),
        ("service", StepKind::Service, service("one")),
    ]);
    for (observed, expected) in [
        (live(&shared, 3), "service:delete own:delete network:keep"),
        (Observed::default(), "service:none own:none network:none"),
    ] {
        assert_eq!(actions(&make(&shared, &observed, Reason::Destroy, &[]).unwrap()), expected);
    }
}

#[test]
fn what_the_cloud_calls_a_risk_is_one() {
    let observed = live(&all("one"), 3);
    let change = |path: &str| Change { path: path.into(), before: Some(json!("a")), after: Some(json!("b")) };
    let preview = Preview {
        changes: [(StepId::new("network"), vec![change("Vpc.CidrBlock")])].into(),
        risks: [
            (StepId::new("network"), vec!["Vpc is replaced".to_owned()]),
            (StepId::new("data"), vec!["nothing happens to it".to_owned()]),
        ]
        .into(),
        ..Preview::default()
    };
    let input = Input {
        documents: &all("one"),
        observed: &observed,
        preview: &preview,
        image: None,
        reason: Reason::Deploy,
        course: Some(&course()),
        copies: 1,
        delete_data: &[],
    };
    let plan = plan(&input).unwrap();
    assert_eq!(actions(&plan), "network:update image:none data:none service:none");
    let texts: Vec<_> = plan.risks.iter().map(|r| (r.step.0.as_str(), r.text.as_str())).collect();
    let shared = "the network changes for the release that serves as well, at once";
    assert_eq!(texts, [("network", shared), ("network", "Vpc is replaced")]);
}

#[test]
fn no_plan_without_what_it_needs() {
    let nothing = Observed::default();
    assert_eq!(make(&all("one"), &nothing, Reason::Restart, &[]).unwrap_err(), PlanError::NothingLive);
    let input = Input {
        documents: &all("one"),
        observed: &nothing,
        preview: &Preview::default(),
        image: None,
        reason: Reason::Deploy,
        course: None,
        copies: 1,
        delete_data: &[],
    };
    assert_eq!(plan(&input).unwrap_err(), PlanError::NoCourse);
}

#[test]
fn risks_are_said() {
    let swap = Course { swap: true, ..course() };
    let observed = live(&all("one"), 3);
    let mut moved = all("one");
    moved.steps[3].body["listen"] = json!("127.0.0.1:9090");
    moved.steps[3].body["mounts"][0]["path"] = json!("/elsewhere");
    moved.steps[0].body["cidr"] = json!("10.1.0.0/16");
    moved.steps[2].body["path"] = json!("/elsewhere");
    let risks = |documents: &Documents, observed: &Observed, course: &Course| -> Vec<String> {
        let input = Input {
            documents,
            observed,
            preview: &Preview::default(),
            image: None,
            reason: Reason::Deploy,
            course: Some(course),
            copies: 1,
            delete_data: &[],
        };
        plan(&input).unwrap().risks.into_iter().map(|r| format!("{}: {}", r.step, r.text)).collect()
    };
    assert_eq!(
        risks(&moved, &observed, &swap),
        [
            "network: the network changes for the release that serves as well, at once",
            "data: the data changes under the release that serves",
            "service: requests wait while the store passes from r3 to the new release, at most 1.5 s",
            "service: `listen` moves for r3 as well: clients of the old address must follow",
            "service: its mounts change: it may find its data elsewhere, or not at all",
        ]
    );
    assert_eq!(risks(&all("one"), &observed, &swap), Vec::<String>::new(), "nothing is done, so nothing is risked");
    assert_eq!(
        risks(&all("one"), &Observed::default(), &course()),
        ["service: one copy runs: while it is started again after a crash, nothing answers"]
    );
}

#[test]
fn the_fields_that_differ_are_told() {
    // (before, after, `path: before -> after`)
    let cases = [
        (json!({}), json!({}), ""),
        (json!({ "a": null }), json!({}), ""),
        (json!({ "a": 1 }), json!({ "a": 1.5 }), "a: 1 -> 1.5"),
        (
            json!({ "env": { "A": "x", "B": "y" } }),
            json!({ "env": { "A": "z" } }),
            "env.A: \"x\" -> \"z\"; env.B: \"y\" -> -",
        ),
        (json!({ "a.b": 1 }), json!({ "a.b": 2 }), "\"a.b\": 1 -> 2"),
        (
            json!({ "argv": ["a", "b"] }),
            json!({ "argv": ["a", "c", "d"] }),
            "argv.1: \"b\" -> \"c\"; argv.2: - -> \"d\"",
        ),
        (
            json!({ "mounts": [{ "name": "data", "path": "/data" }, { "name": "logs", "path": "/logs" }] }),
            json!({ "mounts": [{ "name": "logs", "path": "/log" }] }),
            "mounts.data.name: \"data\" -> -; mounts.data.path: \"/data\" -> -; mounts.logs.path: \"/logs\" -> \"/log\"",
        ),
        (
            json!([{ "name": "a" }, { "name": "b" }]),
            json!([{ "name": "b" }, { "name": "a" }]),
            ": [{\"name\":\"a\"},{\"name\":\"b\"}] -> [{\"name\":\"b\"},{\"name\":\"a\"}]",
        ),
        (json!([{ "name": "a" }, { "name": "a" }]), json!([{ "name": "a" }]), "1.name: \"a\" -> -"),
        (json!({ "a": {} }), json!({}), "a: {} -> -"),
        (json!({ "a": [] }), json!({ "a": { "b": 1 } }), "a.b: - -> 1"),
        (json!({ "a": "x" }), json!({ "a": { "b": 1 } }), "a: \"x\" -> {\"b\":1}"),
        (Value::Null, json!({ "a": 1, "b": [] }), "a: - -> 1; b: - -> []"),
    ];
    for (before, after, expected) in cases {
        let text = |v: &Option<Value>| v.as_ref().map_or("-".to_owned(), Value::to_string);
        let changes: Vec<_> = diff(&before, &after)
            .iter()
            .map(|c| format!("{}: {} -> {}", c.path, text(&c.before), text(&c.after)))
            .collect();
        assert_eq!(changes.join("; "), expected, "{before} -> {after}");
    }
}

#[test]
fn a_plan_file_is_read_back_and_only_by_who_understands_it() {
    let plan = make(&all("two"), &live(&all("one"), 3), Reason::Deploy, &[]).unwrap();
    let text = plan.to_json();
    let read = Plan::read(text.as_bytes()).unwrap();
    assert_eq!((&read, read.digest()), (&plan, plan.digest()));
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["rollout"] = json!("another");
    assert_ne!(Plan::read(value.to_string().as_bytes()).unwrap().digest(), plan.digest());
    value["format"] = json!(3);
    value["steps"] = json!("in another shape");
    let newer = Plan::read(value.to_string().as_bytes()).unwrap_err();
    assert!(matches!(newer, PlanFileError::NewerFormat { found: 3 }), "{newer}");
    for wrong in ["", "{}", "[]", "{\"format\":1}", "\u{0}", "format = 1"] {
        assert!(matches!(Plan::read(wrong.as_bytes()), Err(PlanFileError::NotAPlan(_))), "{wrong}");
    }
}

#[test]
fn a_saved_plan_says_what_moved() {
    let saved = make(&all("two"), &live(&all("one"), 3), Reason::Deploy, &[]).unwrap();
    assert_eq!(check_saved(&saved, &saved), Ok(()));
    let mut drifted = live(&all("one"), 3);
    drifted.documents.insert(StepId::new("network"), json!({ "cidr": "10.9.0.0/16" }));
    let fresh = |greeting: &str, observed: &Observed, reason| make(&all(greeting), observed, reason, &[]).unwrap();
    let one = live(&all("one"), 3);
    let mut other_course = saved.clone();
    other_course.course = Some(Course { bake_ms: 60_000, ..course() });
    other_course.rollout = "blue-green; kept".into();
    let mut other_image = saved.clone();
    other_image.image = None;
    let mut elsewhere = saved.clone();
    elsewhere.environment = "prod".into();
    let cases = [
        (fresh("two", &live(&all("one"), 4), Reason::Deploy), "it was made while r3 served, now r4 serves"),
        (fresh("two", &drifted, Reason::Deploy), "what is live has changed since"),
        (fresh("three", &one, Reason::Deploy), "the configuration has changed since (`image`, `service`)"),
        (fresh("two", &one, Reason::Restart), "it was made by another command"),
        (
            other_course,
            "the rollout has changed since: \"blue-green: all traffic moves once the new release is ready\", now \"blue-green; kept\"",
        ),
        (elsewhere, "it is for bird in dev on local, not for bird in prod on local"),
    ];
    for (fresh, what) in cases {
        assert_eq!(check_saved(&saved, &fresh).unwrap_err().what, [what]);
    }
    let moved = check_saved(&saved, &other_image).unwrap_err();
    assert!(moved.to_string().starts_with("the plan does not stand any more: it is for image "), "{moved}");
}

#[test]
fn a_new_storage_protocol_stops_the_old_release_first_and_there_is_no_way_back() {
    let with = |protocol: Option<u64>| {
        let mut body = service("hello");
        if let Some(protocol) = protocol {
            body["storage_protocol"] = json!(protocol);
        }
        documents(&[("service", StepKind::Service, body)])
    };
    for (from, to, outcome) in [
        (None, Some(0), Ok(false)),
        (Some(1), Some(1), Ok(false)),
        (None, Some(1), Ok(true)),
        (Some(0), Some(1), Ok(true)),
        (Some(1), Some(2), Ok(true)),
        (Some(1), Some(0), Err(())),
        (Some(1), None, Err(())),
    ] {
        let live = with(from);
        let mut observed = self::live(&live, 1);
        observed.documents.get_mut(&StepId::new("service")).unwrap()["env"] = json!({});
        let planned = make(&with(to), &observed, Reason::Deploy, &[]);
        match outcome {
            Ok(swap) => {
                let planned = planned.unwrap();
                let chosen = planned.course.unwrap();
                assert_eq!((chosen.swap, chosen.strategy == "recreate"), (swap, swap), "{from:?} to {to:?}");
                let told = planned.risks.iter().any(|risk| risk.text.contains("storage protocol changes"));
                assert_eq!(told, swap, "{:?}", planned.risks);
            }
            Err(()) => assert!(matches!(planned, Err(PlanError::StorageProtocol { .. })), "{planned:?}"),
        }
    }
}
