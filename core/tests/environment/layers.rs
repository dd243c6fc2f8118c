//! How layers go over each other, and what settings on the command line mean.

use dbird_core::{
    Cloud,
    environment::split_set,
    spec::{Analysis, Artefact, Collector, Controller, Snapshot, Strategy, WeightStep, Writer},
};

use super::{MINIMAL, spec, told, try_all};

#[test]
fn a_minimal_file_has_sane_defaults() {
    let spec = spec(MINIMAL, None, &[]);
    assert_eq!(spec.service.cpu, 0.25);
    assert_eq!(spec.service.memory_mib, 512);
    assert_eq!(spec.service.stop_grace_ms, 30_000);
    assert_eq!(spec.service.build.as_ref().unwrap().base, "scratch");
    assert!(spec.service.build.as_ref().unwrap().command.is_empty());
    assert_eq!((spec.health.live.as_str(), spec.health.ready.as_str()), ("/healthz", "/healthz"));
    assert_eq!((spec.scale.min, spec.scale.max, spec.scale.target_cpu_percent), (1, 1, None));
    assert_eq!(spec.rollout.strategy, Strategy::BlueGreen);
    assert_eq!(spec.rollout.keep, 10);
    assert_eq!(spec.storage, None);
    assert_eq!(spec.analysis, Analysis::default());
    assert_eq!(spec.telemetry.otlp, None);
    assert_eq!(spec.telemetry.collector, Collector::None);
    assert_eq!(spec.state_url, "file:.dbird/state");
    assert_eq!(spec.local.listen, "127.0.0.1:8080");
    assert!(!spec.drills_allowed);
    for cloud in Cloud::ALL {
        assert!(try_all(MINIMAL, None, &[], cloud).unwrap().1.is_empty(), "{cloud}");
    }
}

#[test]
fn later_layers_win_key_by_key() {
    let base = format!(
        "{MINIMAL}[env]\nA = \"1\"\nB = \"1\"\n[secrets]\nS = {{ name = \"one\" }}\nT = {{ name = \"t\" }}\n\
         [alerts]\nnotify = [\"a@b.c\", \"d@e.f\"]\n[health]\nlive = \"/live\"\n"
    );
    let overlay = "env.B = \"2\"\nenv.C = \"2\"\n[secrets.S]\nname = \"two\"\n[alerts]\nnotify = [\"x@y.z\"]\n\
                   [health]\ninterval = \"1s\"\n";
    let spec = spec(&base, Some(overlay), &["env.C=3", "health.interval=2s"]);
    let env: Vec<_> = spec.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["A=1", "B=2", "C=3"]);
    assert_eq!((spec.secrets["S"].name.as_str(), spec.secrets["T"].name.as_str()), ("two", "t"));
    assert_eq!(spec.alerts.notify, ["x@y.z"]);
    assert_eq!((spec.health.live.as_str(), spec.health.interval_ms), ("/live", 2000));
}

#[test]
fn storage_and_state_are_as_they_are_written() {
    let base = format!("{MINIMAL}[storage]\nkind = \"sqlite\"\nmount = \"/data\"\n[env]\nDB = \"/data/db\"\n");
    let spec = spec(&base, None, &[]);
    let storage = spec.storage.unwrap();
    assert_eq!((storage.writer, storage.storage_protocol, storage.snapshots_kept), (Writer::Exclusive, 0, 10));
    assert_eq!(storage.snapshot, Snapshot::None, "nobody can take one");
    let backup = base.replace("[env]", "backup = [\"bird\", \"backup\", \"{file}\"]\n[env]");
    assert_eq!(self::spec(&backup, None, &[]).storage.unwrap().snapshot, Snapshot::BeforeRelease);
    let base = format!("{MINIMAL}[state]\nurl = \"s3://all/x\"\n[cloud.azure]\nstate = \"az://a/b\"\n");
    for (cloud, want) in [(Cloud::Local, "s3://all/x"), (Cloud::Aws, "s3://all/x"), (Cloud::Azure, "az://a/b")] {
        assert_eq!(try_all(&base, None, &[], cloud).unwrap().0.state_url, want);
    }
}

fn step(weight: u8, pause_ms: u64, gate: bool) -> WeightStep {
    WeightStep { weight, pause_ms, gate }
}

#[test]
fn strategies_take_their_parameters() {
    for (rollout, want) in [
        ("strategy = \"all-at-once\"", Strategy::AllAtOnce),
        ("strategy = \"recreate\"", Strategy::Recreate),
        ("strategy = \"rolling\"", Strategy::Rolling { batch_percent: 50, min_healthy_percent: 50 }),
        (
            "strategy = \"rolling\"\nbatch_percent = 25\nmin_healthy_percent = 100",
            Strategy::Rolling { batch_percent: 25, min_healthy_percent: 100 },
        ),
        ("strategy = \"linear\"\nevery = \"2m\"", Strategy::Linear { percent: 10, every_ms: 120_000 }),
        (
            "strategy = \"canary\"\nweight = 5",
            Strategy::Canary { steps: vec![step(5, 300_000, false), step(100, 0, false)] },
        ),
        (
            "strategy = \"canary\"\nsteps = [{ weight = 5, pause = \"1m\" }, { weight = 25, gate = true }, { weight = 100 }]",
            Strategy::Canary { steps: vec![step(5, 60_000, false), step(25, 0, true), step(100, 0, false)] },
        ),
    ] {
        assert_eq!(spec(&format!("{MINIMAL}[rollout]\n{rollout}\n"), None, &[]).rollout.strategy, want, "{rollout}");
    }
}

#[test]
fn another_choice_in_a_later_layer_forgets_the_first() {
    let canary = format!("{MINIMAL}[rollout]\nstrategy = \"canary\"\ncontroller = \"codedeploy\"\nweight = 5\n");
    // base, overlay, settings
    let cases: [(&str, &[&str], Strategy); 5] = [
        ("[rollout]\nstrategy = \"blue-green\"", &[], Strategy::BlueGreen),
        ("", &["rollout.strategy=rolling"], Strategy::Rolling { batch_percent: 50, min_healthy_percent: 50 }),
        (
            "[rollout]\nstrategy = \"blue-green\"",
            &["rollout.strategy=canary"],
            Strategy::Canary { steps: vec![step(5, 300_000, false), step(100, 0, false)] },
        ),
        (
            "[rollout]\nsteps = [{ weight = 50, pause = \"1m\" }, { weight = 100 }]",
            &[],
            Strategy::Canary { steps: vec![step(50, 60_000, false), step(100, 0, false)] },
        ),
        (
            "[rollout]\npause = \"1m\"",
            &[],
            Strategy::Canary { steps: vec![step(5, 60_000, false), step(100, 0, false)] },
        ),
    ];
    for (overlay, arguments, want) in cases {
        assert_eq!(spec(&canary, Some(overlay), arguments).rollout.strategy, want, "{overlay} {arguments:?}");
    }
    // CodeDeploy was chosen for the canary; what it can't do is ECS's.
    let rolling = try_all(&canary, Some("[rollout]\nstrategy = \"rolling\"\n"), &[], Cloud::Aws).unwrap().0;
    assert_eq!(rolling.rollout.controller, Controller::Ecs);

    let scale = format!("{MINIMAL}[scale]\nmax = 4\ntarget_cpu_percent = 60\n");
    let spec_of = |overlay: &str| spec(&scale, Some(overlay), &[]).scale;
    assert_eq!(spec_of("").target_cpu_percent, Some(60));
    let stepped =
        spec_of("[scale]\nsteps = [{ above = 70, for = \"2m\", add = 1 }, { below = 50, for = \"5m\", add = -1 }]");
    assert_eq!((stepped.target_cpu_percent, stepped.steps.len()), (None, 2));
    assert_eq!((stepped.steps[1].above, stepped.steps[1].cpu_percent, stepped.steps[1].add), (false, 50, -1));
    assert_eq!(spec(MINIMAL, None, &["scale.max=3"]).scale.target_cpu_percent, Some(70));

    let folder = "[service.build]\nfolder = \"app\"\nentrypoint = [\"./run\"]\n";
    let artefact = spec(MINIMAL, Some(folder), &[]).service.build.unwrap().artefact;
    assert_eq!(artefact, Artefact::Folder { path: "app".into(), entrypoint: vec!["./run".into()] });
}

#[test]
fn two_ways_in_one_layer_are_a_fault() {
    for (more, overlay, want) in [
        (
            "[rollout]\nstrategy = \"blue-green\"\nweight = 5\n",
            "",
            "base.toml:10:1 `rollout.weight` belongs to strategy \"canary\", and the strategy is \"blue-green\"",
        ),
        (
            "[rollout]\nstrategy = \"canary\"\n",
            "[rollout]\npercent = 5",
            "dev.toml:2:1 `rollout.percent` belongs to strategy \"linear\", and the strategy is \"canary\"",
        ),
        (
            "[rollout]\nstrategy = \"canary\"\nweight = 5\nsteps = [{ weight = 100 }]\n",
            "",
            "base.toml:11:1 `rollout.steps` and `rollout.weight` are two ways of saying the same",
        ),
        (
            "[scale]\nmax = 2\ntarget_cpu_percent = 5\nsteps = [{ above = 70, for = \"2m\", add = 1 }]\n",
            "",
            "base.toml:11:1 `scale.steps` and `scale.target_cpu_percent` are two ways of saying the same",
        ),
        (
            "folder = \"app\"\nentrypoint = [\"./run\"]\n",
            "",
            "base.toml:9:1 `service.build.entrypoint` and `service.build.binary` are two ways of saying the same",
        ),
    ] {
        assert_eq!(told(&try_all(&format!("{MINIMAL}{more}"), Some(overlay), &[], Cloud::Local)), [want]);
    }
}

#[test]
fn settings_are_toml_or_else_text() {
    for (argument, want) in [
        ("env.GREETING=hi", "hi"),
        ("env.GREETING=\"hi\"", "hi"),
        ("env.GREETING='hi'", "hi"),
        ("env.\"GREETING\"=hi", "hi"),
        ("env.GREETING=", ""),
        ("env.GREETING=hi there", "hi there"),
        ("env.GREETING=1", "1"),
        ("env.GREETING=0x10", "0x10"),
        ("env.GREETING=true", "true"),
        ("env.GREETING=2024-01-01", "2024-01-01"),
        ("env.GREETING={\"a\":1}", "{\"a\":1}"),
        ("env.GREETING=[1, 2]", "[1, 2]"),
        ("env.GREETING=a=b", "a=b"),
        ("env.GREETING=a # b", "a # b"),
        ("env.GREETING=a\nschema = 9", "a\nschema = 9"),
        ("env.GREETING=\"a\" # b", "\"a\" # b"),
        ("env.GREETING=\"unclosed", "\"unclosed"),
        ("env.GREETING=grüß dich 🐦", "grüß dich 🐦"),
    ] {
        assert_eq!(spec(MINIMAL, None, &[argument]).env["GREETING"], want, "{argument}");
    }
    let several = [
        "scale.max=3",
        "rollout.strategy=\"canary\"",
        "rollout.weight=7",
        "alerts.notify=[\"a@b.c\"]",
        "analysis.error_rate_max=1",
    ];
    let spec = spec(MINIMAL, None, &several);
    assert_eq!((spec.scale.max, spec.rollout.strategy.name(), spec.analysis.error_rate_max), (3, "canary", 1.0));
    assert_eq!(spec.alerts.notify, ["a@b.c"]);
}

#[test]
fn settings_split_at_the_first_bare_equals_sign() {
    for (argument, want) in [
        ("a.b=c", Some(("a.b", "c"))),
        ("a=b=c", Some(("a", "b=c"))),
        ("env.\"x=y\"=z", Some(("env.\"x=y\"", "z"))),
        ("env.'x=y'=z", Some(("env.'x=y'", "z"))),
        ("a=", Some(("a", ""))),
        ("=b", Some(("", "b"))),
        ("a", None),
        ("\"a=b", None),
    ] {
        assert_eq!(split_set(argument), want.map(|(k, v)| (k.to_owned(), v.to_owned())), "{argument}");
    }
}
