//! Every policy is explained, objects to its own specimen and not to its own remedy.
#![expect(clippy::unwrap_used, reason = "a failing test is what is wanted")]

use dbird_core::{
    Cloud,
    environment::{Fault, Layer, Request, Severity, resolve},
    policy,
};

const BASE: &str = "schema = 1\nservice.name = \"bird\"\nservice.port = 8080\nservice.port_env = \"PORT\"\n\
                    env.DATA = \"/data/db\"\n";

/// The faults of a specimen, laid over a base that has none.
fn faults(specimen: &str, environment: &str, cloud: Cloud) -> Vec<Fault> {
    let base = Layer::new("base.toml", BASE);
    let overlay = Some(Layer::new("overlay.toml", specimen));
    let request = Request { environment, cloud, base, overlay, sets: &[], dbird_version: "0.1.0" };
    resolve(&request).map_or_else(|faults| faults.0, |(_, warnings)| warnings)
}

fn codes(specimen: &str, cloud: Cloud) -> Vec<&'static str> {
    faults(specimen, "dev", cloud).iter().map(|f| f.code.unwrap_or_else(|| panic!("{f}"))).collect()
}

#[test]
fn codes_are_in_order_and_without_gaps() {
    for (index, policy) in policy::all().iter().enumerate() {
        assert_eq!(policy.code, format!("DB{:03}", index + 1));
        assert_eq!(policy::explain(&policy.code.to_lowercase()).unwrap().title, policy.title);
    }
    assert!(policy::explain("DB000").is_none() && policy::explain("").is_none());
}

#[test]
fn every_policy_is_explained() {
    for policy in policy::all() {
        let text = policy.to_string();
        for part in [policy.title, policy.what, policy.why, policy.fix] {
            assert!(part.len() > 20, "{}: {part:?}", policy.code);
            assert!(text.contains(part), "{}", policy.code);
        }
        assert!(text.starts_with(policy.code));
        assert_eq!(text.contains("waive"), policy.waivable || policy.fix.contains("waive"), "{}", policy.code);
        assert!(!policy.clouds.is_empty());
    }
}

/// The specimens of the explanations are real: the wrong one is refused by exactly this policy, in each cloud that it is
/// about, and the right one by none.
#[test]
fn every_policy_objects_to_its_specimen_only() {
    for policy in policy::all() {
        let mut objected = false;
        for cloud in policy.clouds {
            let wrong = codes(policy.wrong, *cloud);
            assert!(wrong.iter().all(|code| *code == policy.code), "{} for {cloud}: {wrong:?}", policy.code);
            objected |= !wrong.is_empty();
            let right = codes(policy.right, *cloud);
            assert!(right.is_empty(), "{} for {cloud}: {right:?}", policy.code);
        }
        assert!(objected, "{} lets its own specimen pass", policy.code);
        for fault in faults(policy.wrong, "dev", policy.clouds[0]) {
            assert_eq!((fault.file.as_str(), fault.severity), ("overlay.toml", policy.severity), "{fault}");
        }
    }
}

const SQLITE: &str = "[storage]\nkind = \"sqlite\"\nmount = \"/data\"\n";
const CERTIFICATE: &str = "certificate = \"arn:aws:acm:us-east-1:1:certificate/x\"\n";

/// code, what is said, environment, cloud, and where it is told; no code where nothing is.
#[test]
fn cases() {
    use Cloud::{Aws, Azure, Local};
    let policy = |statement: &str| format!("[[cloud.aws.task_policy]]\n{statement}");
    let execution = |actions: &str| {
        format!(
            "[[cloud.aws.execution_policy]]\nactions = [{actions}]\nresources = [\"arn:aws:ecr:us-east-1:1:repository/bird\"]"
        )
    };
    let image = "[service.build]\nfolder = \"a\"\nentrypoint = [\"x\"]\nbase = \"node:22\"\n";
    let none: &[&str] = &[];
    let cases: Vec<(String, &str, Cloud, &[&str])> = vec![
        (format!("{SQLITE}[scale]\nmax = 3"), "dev", Local, &["DB001 5:7"]),
        (format!("{SQLITE}[scale]\nmin = 3"), "dev", Local, &["DB001 5:7"]),
        (format!("{SQLITE}writer = \"protocol\"\nstorage_protocol = 1\n[scale]\nmax = 3"), "dev", Aws, &["DB001 7:7"]),
        ("[scale]\nmax = 3".into(), "dev", Local, none),
        ("[storage]\nkind = \"files\"\nmount = \"/data\"\nwriter = \"many\"\n[scale]\nmax = 3".into(), "dev", Local, none),
        (format!("{SQLITE}[rollout]\nstrategy = \"linear\""), "dev", Local, &["DB002 5:12"]),
        (format!("{SQLITE}[rollout]\nstrategy = \"rolling\""), "dev", Azure, &["DB002 5:12"]),
        (format!("{SQLITE}[rollout]\nstrategy = \"canary\""), "dev", Aws, &["DB002 5:12"]),
        (format!("{SQLITE}[rollout]\nstrategy = \"blue-green\""), "dev", Aws, none),
        (format!("{SQLITE}[rollout]\nstrategy = \"recreate\""), "dev", Aws, none),
        (format!("{SQLITE}[rollout]\nstrategy = \"all-at-once\""), "dev", Aws, none),
        (format!("{SQLITE}journal = \"wal\""), "dev", Local, none),
        (format!("{SQLITE}journal = \"wal\""), "dev", Aws, &["DB003 4:11"]),
        (format!("{SQLITE}journal = \"rollback\""), "dev", Aws, none),
        (format!("{SQLITE}journal = \"rollback\""), "dev", Azure, &["DB003 4:11"]),
        (format!("{SQLITE}journal = \"rollback\"\n[cloud.azure]\nshare = \"nfs\""), "dev", Azure, none),
        (String::new(), "prod", Aws, &["DB004 1:1"]),
        (String::new(), "production", Aws, &["DB004 1:1"]),
        (String::new(), "prod", Azure, none),
        (String::new(), "prod", Local, none),
        (String::new(), "staging", Aws, none),
        ("[cloud.aws]\ndomain = \"a.b\"".into(), "staging", Aws, &["DB004 2:10"]),
        (format!("[cloud.aws]\n{CERTIFICATE}"), "prod", Aws, none),
        ("[cloud.azure]\nallow_insecure = true".into(), "prod", Azure, &["DB004 2:18"]),
        ("[cloud.azure]\nallow_insecure = true".into(), "dev", Azure, none),
        (policy("actions = [\"s3:Get*\"]\nresources = [\"arn:aws:s3:::b/*\"]"), "dev", Aws, &["DB005 2:11"]),
        (policy("actions = [\"s3:GetObject\"]\nresources = [\"*\"]"), "dev", Aws, &["DB005 3:13"]),
        (policy("actions = [\"s3:GetObject\"]\nresources = [\"arn:aws:s3:::*\"]"), "dev", Aws, &["DB005 3:13"]),
        (policy("actions = [\"s3:GetObject\"]\nresources = [\"arn:aws:s3:::b/x/*\"]"), "dev", Aws, none),
        (policy("actions = [\"dynamodb:GetItem\"]\nresources = [\"arn:aws:dynamodb:us-east-1:1:table/*\"]"), "dev", Aws, &["DB005 3:13"]),
        (policy("actions = [\"cloudwatch:PutMetricData\"]\nresources = [\"*\"]"), "dev", Aws, none),
        (policy("actions = [\"*\"]\nresources = [\"*\"]"), "dev", Azure, none),
        ("[env]\nAPI_TOKEN = \"abc\"".into(), "dev", Local, &["DB006 2:1"]),
        ("[telemetry]\notlp = \"https://u:p@h\"".into(), "dev", Local, &["DB006 2:1"]),
        ("[analysis]\nprometheus = \"http://u:p@h\"".into(), "dev", Local, &["DB006 2:1"]),
        (
            "[[rollout.hooks]]\nwhen = \"step\"\nurl = \"https://u:p@h/x\"".into(),
            "dev",
            Local,
            &["DB006 3:1"],
        ),
        ("[[rollout.hooks]]\nwhen = \"after\"\nrun = [\"tell\", \"ghp_0123456789abcdef0123\"]".into(), "dev", Local, &["DB006 3:1"]),
        ("[cloud.azure]\npublic_network_access = false".into(), "dev", Azure, none),
        (format!("{SQLITE}[cloud.azure]\npublic_network_access = false"), "dev", Azure, &["DB007 5:25"]),
        ("[cloud.azure]\ninternal = true\ndomain = \"a.b\"".into(), "dev", Azure, &["DB008 3:10"]),
        (execution("\"ecr:BatchGetImage\", \"ecr:GetDownloadUrlForLayer\""), "dev", Aws, &["DB009 1:1"]),
        (execution("\"ecr:BatchGetImage\", \"ecr:GetDownloadUrlForLayer\", \"ecr:GetAuthorizationToken\""), "dev", Aws, none),
        (format!("{}\n[cloud.aws]\nrepository = \"ghcr.io/a/b\"", execution("\"logs:PutLogEvents\"")), "dev", Aws, none),
        ("[service]\nkind = \"lambda\"".into(), "dev", Aws, &["DB010 2:8"]),
        ("[storage]\nkind = \"postgres\"\nmount = \"/data\"\nwriter = \"many\"".into(), "dev", Local, &["DB010 2:8"]),
        ("[rollout]\nstrategy = \"rolling\"\ncontroller = \"codedeploy\"".into(), "dev", Aws, &["DB011 3:14"]),
        ("[rollout]\nstrategy = \"rolling\"\ncontroller = \"codedeploy\"".into(), "dev", Azure, none),
        ("[rollout]\nstrategy = \"rolling\"".into(), "dev", Aws, none),
        ("[rollout]\nstrategy = \"linear\"\nevery = \"30s\"".into(), "dev", Aws, &["DB011 3:9"]),
        ("[rollout]\nstrategy = \"canary\"\nsteps = [{ weight = 5, pause = \"10s\" }, { weight = 100 }]".into(), "dev", Aws, &["DB011 3:32"]),
        ("[rollout]\nstrategy = \"canary\"\nsteps = [{ weight = 5, gate = true }, { weight = 100 }]".into(), "dev", Aws, &["DB011 3:31"]),
        ("[rollout]\nstrategy = \"canary\"\ncontroller = \"ecs\"\nsteps = [{ weight = 5, gate = true }, { weight = 100 }]".into(), "dev", Aws, none),
        (
            "[rollout]\nstrategy = \"canary\"\ncontroller = \"ecs\"\nsteps = [{ weight = 5, gate = true, pause = \"10s\" }, { weight = 100 }]".into(),
            "dev", Aws, &["DB011 4:45"],
        ),
        (
            "[rollout]\nstrategy = \"canary\"\ncontroller = \"ecs\"\nsteps = [{ weight = 5, gate = true }, { weight = 9, gate = true }, { weight = 100 }]".into(),
            "dev", Aws, &["DB011 4:9"],
        ),
        ("[rollout]\nstrategy = \"linear\"\npercent = 2\ndeadline = \"2h\"".into(), "dev", Aws, none),
        ("[rollout]\nstrategy = \"linear\"\npercent = 2\ndeadline = \"2h\"\ncontroller = \"ecs\"".into(), "dev", Aws, &["DB011 3:11"]),
        ("[rollout]\nbake = \"3d\"".into(), "dev", Aws, &["DB011 2:8"]),
        ("[rollout]\nbake = \"3d\"\nstrategy = \"rolling\"".into(), "dev", Aws, none),
        ("[rollout]\nbake = \"2d\"".into(), "dev", Aws, none),
        ("[rollout]\nbake = \"2d\"\ncontroller = \"ecs\"".into(), "dev", Aws, &["DB011 2:8"]),
        ("[rollout]\nstrategy = \"canary\"\npause = \"0s\"".into(), "dev", Aws, none),
        ("[rollout]\nstrategy = \"canary\"\npause = \"0s\"\n[analysis]\ncount = 0".into(), "dev", Aws, &["DB011 3:9"]),
        (format!("{SQLITE}snapshot = \"before-release\""), "dev", Local, &["DB017 4:12"]),
        (format!("{SQLITE}snapshot = \"none\""), "dev", Local, none),
        (
            "[rollout]\nstrategy = \"canary\"\nsteps = [{ weight = 5, gate = true }, { weight = 50, pause = \"1m\" }, { weight = 100 }]".into(),
            "dev", Aws, &["DB011 3:9"],
        ),
        (
            "[rollout]\nstrategy = \"canary\"\nsteps = [{ weight = 5, gate = true }, { weight = 50, pause = \"1s\" }, { weight = 100 }]".into(),
            "dev", Azure, none,
        ),
        (image.into(), "dev", Local, &["DB012 4:8"]),
        (format!("{image}[cloud.local]\nruntime = \"podman\""), "dev", Local, none),
        (image.into(), "dev", Aws, none),
        ("[storage]\nkind = \"files\"\nmount = \"/elsewhere\"".into(), "dev", Local, &["DB012 3:9"]),
        ("[storage]\nkind = \"files\"\nmount = \"/dat\"".into(), "dev", Local, &["DB012 3:9"]),
        ("[storage]\nkind = \"files\"\nmount = \"/elsewhere\"".into(), "dev", Azure, none),
        (format!("{SQLITE}writer = \"many\""), "dev", Local, &["DB013 4:10"]),
        ("[service]\ncpu = 0.3".into(), "dev", Aws, &["DB014 2:7"]),
        ("[service]\ncpu = 0.3".into(), "dev", Local, none),
        ("[service]\ncpu = 4\nmemory_mib = 30720".into(), "dev", Aws, none),
        ("[service]\ncpu = 4\nmemory_mib = 30720".into(), "dev", Azure, &["DB014 3:14"]),
        ("[service]\ncpu = 4\nmemory_mib = 30720\n[cloud.azure]\nprofile = \"D4\"".into(), "dev", Azure, none),
        ("[service]\ncpu = 0.75\nmemory_mib = 1536".into(), "dev", Azure, none),
        ("[service]\nstop_grace = \"3m\"".into(), "dev", Aws, &["DB014 2:14"]),
        ("[service]\nstop_grace = \"3m\"".into(), "dev", Azure, none),
        ("[service.build]\nfolder = \"a\"\nentrypoint = [\"./run\"]".into(), "dev", Aws, none),
        ("[service.build]\nfolder = \"a\"\nentrypoint = [\"python3\"]".into(), "dev", Local, none),
        ("[analysis]\nsource = \"cloudwatch\"".into(), "dev", Local, &["DB016 2:10"]),
        ("[analysis]\nsource = \"cloudwatch\"".into(), "dev", Aws, none),
    ];
    for (specimen, environment, cloud, want) in cases {
        let told: Vec<String> = faults(&specimen, environment, cloud)
            .iter()
            .map(|f| format!("{} {}:{}", f.code.unwrap_or(&f.message), f.line, f.column))
            .collect();
        assert_eq!(told, want, "{specimen}\nas {environment} for {cloud}");
    }
}

#[test]
fn a_process_must_be_told_its_port() {
    let base = Layer::new("base.toml", "schema = 1\nservice.name = \"bird\"\nservice.port = 8080\n");
    let request =
        Request { environment: "dev", cloud: Cloud::Local, base, overlay: None, sets: &[], dbird_version: "0.1.0" };
    let fault = resolve(&request).unwrap_err().0.remove(0);
    assert_eq!((fault.code, fault.line, fault.column), (Some("DB012"), 3, 16));
    assert!(fault.help.unwrap().contains("podman"));
    assert!(resolve(&Request { cloud: Cloud::Aws, ..request }).is_ok());
}

#[test]
fn what_is_waived_passes_and_what_can_not_be_does_not() {
    let waive = |code: &str, key: &str| {
        format!("[policies]\nwaive = [{{ code = \"{code}\", key = \"{key}\", why = \"it is so\" }}]\n")
    };
    let token = "[env]\nAPI_TOKEN = \"abc\"\n";
    let passes = format!("{token}{}", waive("DB006", "env.API_TOKEN"));
    assert!(faults(&passes, "dev", Cloud::Local).is_empty());
    let other = faults(&format!("{token}{}", waive("DB006", "env.OTHER")), "dev", Cloud::Local);
    let told: Vec<_> = other.iter().map(|f| (f.code, f.severity, f.line)).collect();
    assert_eq!(told, [(Some("DB006"), Severity::Error, 2), (None, Severity::Warning, 4)]);
    let never = faults(&format!("{SQLITE}[scale]\nmax = 2\n{}", waive("DB001", "scale.max")), "dev", Cloud::Local);
    assert_eq!(never.len(), 2);
    assert!(never[1].message.contains("DB001 can't be waived"), "{}", never[1]);
    // A waiver for one cloud says nothing elsewhere.
    assert!(faults(&waive("DB004", "cloud.aws.certificate"), "prod", Cloud::Local).is_empty());
    assert!(faults(&waive("DB004", "cloud.aws.certificate"), "prod", Cloud::Aws).is_empty());
}
