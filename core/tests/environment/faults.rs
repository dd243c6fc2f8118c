//! What is refused, where it is told, and what is suggested instead.

use dbird_core::{
    Cloud,
    environment::{FAULTS_MAX, LAYER_BYTES_MAX, Layer, Request, Severity, resolve},
};

use super::{MINIMAL, told, try_all};

/// The faults of the minimal file with more behind it.
fn with(more: &str, arguments: &[&str]) -> Vec<String> {
    told(&try_all(&format!("{MINIMAL}{more}\n"), None, arguments, Cloud::Local))
}

/// Each fault stands alone, at its place, in line 8 or later.
#[test]
fn one_fault_each() {
    for (more, want) in [
        ("[serice]", "8:2 there is no key `serice` at the top"),
        ("[cloud.gcp]", "8:8 there is no key `gcp` in `[cloud]`"),
        ("[health]\nintervall = \"1s\"", "9:1 there is no key `intervall` in `[health]`"),
        ("[health]\ninterval = 5", "9:12 `health.interval` takes a time with a unit, not a whole number"),
        ("[health]\ninterval = \"5\"", "9:12 `health.interval` takes a time with a unit"),
        ("[health]\ninterval = \"2h\"", "9:12 `health.interval` must be from 100ms to 1h"),
        ("[health]\nlive = \"healthz\"", "9:8 `health.live` can't be this: it does not start with a slash"),
        ("[health]\nhealthy_after = 0", "9:17 `health.healthy_after` must be from 1 to 10"),
        ("[health]\nhealthy_after = 1.5", "9:17 `health.healthy_after` takes a whole number, not a decimal number"),
        ("[health]\nhealthy_after = 99999999999999999999", "9:17 `health.healthy_after` must be from 1 to 10"),
        ("[storage]\nkind = \"files\"", "8:1 `[storage]` lacks the required key `mount`"),
        (
            "[storage]\nkind = \"file\"\nmount = \"/d\"\n[env]\nD = \"/d\"",
            "9:8 `storage.kind` takes \"sqlite\", \"files\" or \"postgres\"",
        ),
        ("[scale]\nmin = 0", "9:7 `scale.min` must be from 1 to 1000"),
        ("[scale]\nmin = 3\nmax = 2", "10:7 at least 3 and at most 2 copies can't both hold"),
        (
            "[scale]\nmax = 2\nsteps = [{ above = 1, below = 2, for = \"1m\", add = 1 }]",
            "10:10 a step is either `above` or `below` a percentage",
        ),
        (
            "[scale]\nmax = 2\nsteps = [{ above = 70, for = \"1m\", add = -1 }]",
            "10:42 `above` a load, copies are added, not removed",
        ),
        ("[scale]\nmax = 2\nsteps = [{ above = 70, add = 1 }]", "10:10 `[scale.steps.0]` lacks the required key `for`"),
        ("[scale]\nsteps = { above = 70 }", "9:9 `scale.steps` takes a list of tables, not a table"),
        (
            "[rollout]\nstrategy = \"canary\"\nsteps = [{ weight = 5, pause = \"1m\" }]",
            "10:9 the last step must give the new release all traffic",
        ),
        (
            "[rollout]\nstrategy = \"canary\"\nsteps = [{ weight = 5 }, { weight = 100 }]\n[analysis]\ncount = 0",
            "10:10 nothing holds the rollout at 5 %",
        ),
        ("[[rollout.hooks]]\nwhen = \"before\"", "8:1 a hook needs something to do: `run` or `url`"),
        (
            "[[rollout.hooks]]\nwhen = \"before\"\nrun = [\"a\"]\nurl = \"http://127.0.0.1/\"",
            "8:1 a hook has either `run` or `url`; write two hooks for both",
        ),
        ("[analysis]\nsource = \"prometheus\"", "9:10 source = \"prometheus\" needs the address of the server"),
        ("[analysis]\nselector = \"job='a'\"", "9:12 the selector tells no release from another: {release} is missing"),
        (
            "[storage]\nkind = \"files\"\nmount = \"/d\"\nbackup = [\"copy\"]\n[env]\nD = \"/d\"",
            "11:10 the backup command is not told where the copy is: {file} is missing",
        ),
        (
            "[chaos]\nstored = [\"list\"]",
            "9:10 the command is not told which scores are asked for: {prefix} is missing",
        ),
        (
            "[rollout]\nstrategy = \"canary\"\nsteps = [{ weight = 100, gate = true }]",
            "10:33 nothing is left to wait for at 100 %",
        ),
        (
            "[rollout]\nstrategy = \"canary\"\nsteps = [{ weight = 9, gate = true }, { weight = 5, gate = true }, { weight = 100 }]",
            "10:50 weights only grow: 5 comes after 9",
        ),
        (
            "[rollout]\nstrategy = \"canary\"\npause = \"1h\"",
            "8:1 the pauses take 1h, and a rollout that takes 30m has failed",
        ),
        (
            "[rollout]\nstrategy = \"linear\"\nevery = \"1h\"\ndeadline = \"2h\"",
            "11:12 the pauses take 9h, and a rollout that takes 2h has failed",
        ),
        ("[[rollout.hooks]]\nwhen = \"before\"\nrun = []", "10:7 `rollout.hooks.0.run` is empty"),
        (
            "[[rollout.hooks]]\nwhen = \"before\"\nrun = [1]",
            "10:8 `rollout.hooks.0.run.0` takes text, not a whole number",
        ),
        ("[analysis]\nbaseline = \"yes\"", "9:12 `analysis.baseline` takes true or false, not text"),
        ("[analysis]\nerror_rate_max = 1.5", "9:18 `analysis.error_rate_max` must be from 0 to 1"),
        ("[analysis]\nerror_rate_max = nan", "9:18 `analysis.error_rate_max` must be from 0 to 1"),
        ("[analysis]\nfailure_limit = 11", "9:17 11 bad looks can't happen in 10"),
        ("[env]\nA = 1", "9:5 `env.A` takes text, not a whole number"),
        ("[env]\n\"1A\" = \"x\"", "9:1 `env.1A` can't be a key here"),
        (
            "[env]\nA = \"a\\u0000b\"",
            "9:5 `env.A` can't be this: it holds a NUL character, which no program can be given",
        ),
        ("env = 1", "8:1 there is no key `env` in `[service.build]`"),
        ("[env]\nPORT = \"80\"", "9:1 `PORT` tells the service its port (`service.port_env`), so it can't be set here"),
        ("[env]\nA = \"x\"\n[secrets]\nA = { name = \"a\" }", "9:1 `A` is set both in [env] and in [secrets]"),
        ("[secrets]\nA = \"x\"", "9:5 `secrets.A` takes a table, not text"),
        ("[secrets]\nA = {}", "9:5 `[secrets.A]` lacks the required key `name`"),
        (
            "[secrets]\nA = { name = \"a b\" }",
            "9:14 `secrets.A.name` can't be this: a secret's name has letters, digits, `-`, `_`, `.` and `/`",
        ),
        (
            "[telemetry]\notlp = \"ftp://x\"",
            "9:8 `telemetry.otlp` can't be this: it is not an http:// or https:// address",
        ),
        (
            "[state]\nurl = \"gs://x\"",
            "9:7 `state.url` can't be this: it is not file:PATH, s3://BUCKET/PREFIX or az://ACCOUNT/CONTAINER/PREFIX",
        ),
        (
            "[state]\nurl = \"az://account\"",
            "9:7 `state.url` can't be this: it does not name an account and a container",
        ),
        (
            "[cloud.local]\nlisten = \"localhost:80\"",
            "9:10 `cloud.local.listen` can't be this: it is not an IP address and a port",
        ),
        (
            "[cloud.local]\nlisten = \"127.0.0.1:0\"",
            "9:10 `cloud.local.listen` can't be this: port 0 is any port, and clients need to know which",
        ),
        (
            "[cloud.local]\nlisten = \"127.0.0.1:8081\"",
            "8:1 the front door and the test door can't both listen on port 8081",
        ),
        (
            "[cloud.local]\nlisten = \"0.0.0.0:9\"\ntest_listen = \"127.0.0.1:9\"",
            "10:15 the front door and the test door can't both listen on port 9",
        ),
        (
            "[cloud.aws]\nregion = \"eu-west-1\"\ncertificate = \"arn:aws:acm:us-east-1:1:certificate/x\"",
            "10:15 the certificate is in `us-east-1` and the load balancer will be in `eu-west-1`",
        ),
        ("[cloud.aws]\ndomain = \"https://a.b/\"", "9:10 `cloud.aws.domain` can't be this: only the name is wanted"),
        ("[cloud.aws]\naccount = \"1234\"", "9:11 `cloud.aws.account` can't be this: an account of AWS is 12 digits"),
        (
            "[cloud.aws]\nlog_days = 31",
            "9:12 `cloud.aws.log_days` takes 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653",
        ),
        ("[cloud.aws]\nlog_days = 0", "9:12 `cloud.aws.log_days` must be from 1 to 3653"),
        ("[cloud.aws]\nlog_days = \"7\"", "9:12 `cloud.aws.log_days` takes a whole number, not text"),
        ("[cloud.aws]\ncidr = \"10.0.0.0/8\"", "9:8 `cloud.aws.cidr` can't be this: its length is from /16 to /24"),
        ("[cloud.aws]\ncidr = \"10.0.0.0/28\"", "9:8 `cloud.aws.cidr` can't be this: its length is from /16 to /24"),
        (
            "[cloud.aws]\ncidr = \"fd00::/16\"",
            "9:8 `cloud.aws.cidr` can't be this: it is not a network of IPv4, such as 10.0.0.0/16",
        ),
        (
            "[cloud.aws]\ncidr = \"10.0.1.0/16\"",
            "9:8 `cloud.aws.cidr` can't be this: it does not begin at the network's first address",
        ),
        (
            "[cloud.aws]\negress = \"nat-everywhere\"",
            "9:10 `cloud.aws.egress` takes \"nat\", \"nat-per-zone\" or \"public-ip\"",
        ),
        (
            "[cloud.aws]\naccess_logs = \"s3://b/p\"",
            "9:15 `cloud.aws.access_logs` can't be this: only the name is wanted",
        ),
        (
            "[secrets]\nA = { name = \"arn:aws:s3:::a\" }",
            "9:14 `secrets.A.name` can't be this: it is neither the ARN of a secret nor that of a parameter",
        ),
        (
            "[secrets]\nA = { name = \"ssm:\" }",
            "9:14 `secrets.A.name` can't be this: a secret's name has letters, digits, `-`, `_`, `.` and `/`",
        ),
        ("[cloud.aws]\ntest_cidrs = [\"1.2.3.4\"]", "9:15 `cloud.aws.test_cidrs.0` can't be this: it has no length"),
        ("[project]\ndbird = \"new\"", "9:9 `project.dbird` can't be this: it is not a requirement on a version"),
        ("[project]\ndbird = \"0.1\"", "9:9 `project.dbird` can't be this: it does not say whether newer ones will do"),
        (
            "[storage]\nkind = \"files\"\nmount = \"/\"",
            "10:9 `storage.mount` can't be this: the root of the container can't be replaced",
        ),
        (
            "[storage]\nkind = \"files\"\nmount = \"/a/../b\"",
            "10:9 `storage.mount` can't be this: it is not a plain path",
        ),
        (
            "[storage]\nkind = \"files\"\nmount = \"/d\"\nwriter = \"protocol\"\n[env]\nD = \"/d\"",
            "8:1 writer = \"protocol\" needs the version of the protocol, and `storage_protocol` is 0",
        ),
        ("[policies]\nwaive = [{ code = \"DB999\", key = \"a\", why = \"b\" }]", "9:19 there is no policy DB999"),
        ("[a\nx = 1", "8:3 this is not TOML: unclosed table, expected `]`"),
        ("[health]\n[health]", "9:2 this key is set twice"),
        ("[health]\nlive = \"/a\"\nlive = \"/b\"", "10:1 this key is set twice"),
    ] {
        let told = with(more, &[]);
        assert_eq!(told.len(), 1, "{more}:\n{}", told.join("\n"));
        assert_eq!(told[0], format!("base.toml:{want}"), "{more}");
    }
}

#[test]
fn one_fault_hides_no_other() {
    let base = "schema = \"one\"\n[service]\nname = \"Bird\"\nport = true\nmemory = 5\n[scale]\nmin = 3\nmax = 2\n\
                [storage]\nkind = \"sqlite\"\nwriter = 7\n[rollout]\nstrategy = \"canry\"\nweight = 10\nbake = 5\n\
                [env]\nDB_PASSWORD = \"hunter2\"\n[cloud.local]\nlisten = 1\n";
    let told =
        told(&try_all(base, Some("[health]\nlive = 1\n[x]\n"), &["scale.max=two", "a.b=1", "c"][..2], Cloud::Local));
    assert_eq!(
        told,
        [
            "base.toml:1:10 `schema` takes the number of the schema, not text",
            "base.toml:3:8 `service.name` can't be this: a name starts with a lower-case letter",
            "base.toml:4:8 `service.port` takes a whole number, not true or false",
            "base.toml:5:1 there is no key `memory` in `[service]`",
            "base.toml:9:1 `[storage]` lacks the required key `mount`",
            "base.toml:11:10 `storage.writer` takes \"exclusive\", \"protocol\" or \"many\", not a whole number",
            "base.toml:13:12 `rollout.strategy` takes \"all-at-once\", \"rolling\", \"blue-green\", \"canary\", \"linear\" or \"recreate\"",
            "base.toml:15:8 `rollout.bake` takes a time with a unit, not a whole number",
            "base.toml:17:1 `DB_PASSWORD` looks like a secret in plain text",
            "base.toml:19:10 `cloud.local.listen` takes text, not a whole number",
            "dev.toml:2:8 `health.live` takes text, not a whole number",
            "dev.toml:3:2 there is no key `x` at the top",
            "--set #1:1:11 `scale.max` takes a whole number, not text",
            "--set #2:1:1 there is no key `a` at the top",
        ]
    );
}

#[test]
fn a_broken_line_hides_only_itself() {
    let base =
        "schema = 1\n[service]\nname = bird\nport = \n[scale]\nmin = 3\nmax = 2\nextra = 1\n[health]\nlive = 5\n";
    let told = told(&try_all(base, None, &[], Cloud::Local));
    assert_eq!(told.len(), 5, "{told:#?}");
    assert!(told[0].starts_with("base.toml:3:8 this is not TOML: string values must be quoted"), "{}", told[0]);
    assert!(told[1].starts_with("base.toml:4:"), "{}", told[1]);
    assert_eq!(
        told[2..],
        [
            "base.toml:7:7 at least 3 and at most 2 copies can't both hold",
            "base.toml:8:1 there is no key `extra` in `[scale]`",
            "base.toml:10:8 `health.live` takes text, not a whole number",
        ]
    );
}

#[test]
fn what_is_missing_is_told_at_its_table() {
    for (base, want) in [
        (
            "",
            &[
                "base.toml:1:1 the file does not say which schema it has",
                "base.toml:1:1 `[service]` lacks the required key `name`",
                "base.toml:1:1 `[service]` lacks the required key `port`",
            ][..],
        ),
        ("schema = 1\n\n[service]\nname = \"bird\"\n", &["base.toml:3:1 `[service]` lacks the required key `port`"]),
        ("schema = 1\nservice = { port = 1 }\n", &["base.toml:2:11 `[service]` lacks the required key `name`"]),
        ("schema = 1\nservice.port = 1\n", &["base.toml:2:1 `[service]` lacks the required key `name`"]),
    ] {
        let told: Vec<_> = told(&try_all(base, None, &[], Cloud::Aws));
        assert_eq!(told, want, "{base}");
    }
    // An overlay may give what the base lacks, but not its head.
    let base = MINIMAL.replace("port = 8080\n", "").replace("schema = 1\n", "");
    let told = told(&try_all(&base, Some("schema = 1\n[service]\nport = 1\n"), &[], Cloud::Local));
    assert_eq!(told, ["base.toml:1:1 the file does not say which schema it has"]);
}

#[test]
fn files_for_a_newer_dbird_are_not_judged() {
    let future = "[service]\nwarp = 9\n";
    for (base, want) in [
        (format!("schema = 2\n{future}"), "base.toml:1:10 this file has schema 2, and this dbird reads schema 1"),
        (
            format!("schema = 99999999999999999999\n{future}"),
            "base.toml:1:10 this file has schema 9223372036854775807, and this dbird reads schema 1",
        ),
        (
            format!("schema = 1\n[project]\ndbird = \">=0.2\"\n{future}"),
            "base.toml:3:9 this project wants dbird >=0.2, and this is dbird 0.1.0",
        ),
    ] {
        assert_eq!(told(&try_all(&base, None, &[], Cloud::Local)), [want]);
    }
    assert_eq!(with("", &["schema=0"]), ["--set #1:1:8 there is no schema 0"]);
    // A development version is the version that it leads to.
    let base = Layer::new("base.toml", format!("{MINIMAL}[project]\ndbird = \">=0.1\"\n"));
    let request =
        Request { environment: "dev", cloud: Cloud::Local, base, overlay: None, sets: &[], dbird_version: "0.1.0-dev" };
    assert!(resolve(&request).is_ok());
}

#[test]
fn suggestions_can_stand_in_place_of_the_span() {
    for (more, want) in [
        ("[health]\nintervall = \"1s\"", "interval"),
        ("[health]\nmemory_mib = 1", "service.memory_mib"),
        ("[health]\ninterval = 5", "\"5s\""),
        ("[health]\ninterval = \"5 min\"", "\"5m\""),
        ("[health]\nlive = \"up\"", "\"/up\""),
        ("[health]\nhealthy_after = \"3\"", "3"),
        ("[rollout]\nstrategy = \"bluegreen\"", "\"blue-green\""),
        ("[rollout]\nstrategy = \"Canary\"", "\"canary\""),
        ("[analysis]\nbaseline = \"yes\"", "true"),
        ("[env]\nA = 80", "\"80\""),
        ("[alerts]\nnotify = \"a@b.c\"", "[\"a@b.c\"]"),
        ("[cloud.local]\nlisten = \":80\"", "\"127.0.0.1:80\""),
        ("[cloud.aws]\ntest_cidrs = [\"::1\"]", "\"::1/128\""),
        ("[cloud.aws]\nlog_days = 31", "60"),
        ("[cloud.aws]\nlog_days = 9999", "3653"),
        ("[cloud.aws]\ncidr = \"10.0.1.0/16\"", "\"10.0.0.0/16\""),
        ("[cloud.aws]\naccess_logs = \"s3://logs/p\"", "\"logs\""),
    ] {
        let text = format!("{MINIMAL}{more}\n");
        let faults = try_all(&text, None, &[], Cloud::Local).unwrap_err();
        assert_eq!(faults.0[0].suggestion.as_deref(), Some(want), "{more}");
    }
    let text = format!("{MINIMAL}[service]\n");
    assert!(try_all(&text, None, &[], Cloud::Local).is_err());
}

#[test]
fn names_are_names() {
    let name = |name: &str| {
        let base = Layer::new("base.toml", MINIMAL);
        let request =
            Request { environment: name, cloud: Cloud::Local, base, overlay: None, sets: &[], dbird_version: "0.1.0" };
        resolve(&request).map(|(spec, _)| spec.environment)
    };
    for right in ["dev", "a", "prod-eu-1", "a1234567890123456789012345678901"] {
        assert_eq!(name(right).unwrap(), right);
    }
    for wrong in ["", "Dev", "1dev", "-dev", "dev-", "de_v", "dev/../x", "a12345678901234567890123456789012", "dév"] {
        let fault = name(wrong).unwrap_err().0.remove(0);
        assert_eq!((fault.file.as_str(), fault.line, fault.column), ("--env", 1, 1), "{wrong}");
        let service = with("", &[&format!("service.name=\"{wrong}\"")]);
        assert_eq!(service.len(), 1, "{wrong}: {service:?}");
    }
}

#[test]
fn odd_files_are_read_or_refused_sanely() {
    let crlf = MINIMAL.replace('\n', "\r\n");
    assert!(try_all(&crlf, None, &[], Cloud::Local).is_ok());
    assert!(try_all(&format!("\u{feff}{MINIMAL}"), None, &[], Cloud::Local).is_ok());
    let marked = told(&try_all("\u{feff}shema = 1", Some(""), &[], Cloud::Aws));
    assert!(marked.contains(&"base.toml:1:1 there is no key `shema` at the top".to_owned()), "{marked:?}");
    let inline =
        "schema = 1\nservice = { name = \"bird\", port = 80, port_env = \"PORT\", build = { binary = \"b\" } }";
    assert!(try_all(inline, None, &[], Cloud::Local).is_ok());
    let dotted = "schema = 1\nservice.name = \"bird\"\nservice.port = 80\nservice.port_env = \"P\"\nservice.build.binary = \"b\"";
    assert!(try_all(dotted, None, &[], Cloud::Local).is_ok());
    let unicode = with("[env]\nÄ = \"ü\"\nA = \"🐦\"\n[health]\nlive = \"/ü\" # ü\n", &[]);
    assert_eq!(unicode, ["base.toml:9:1 this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`"]);

    let long = format!("{MINIMAL}# {}\n", "x".repeat(LAYER_BYTES_MAX));
    assert_eq!(told(&try_all(&long, None, &[], Cloud::Local)), ["base.toml:1:1 the file is longer than 1024 KiB"]);
    let deep = format!("{MINIMAL}[alerts]\nnotify = {}{}\n", "[".repeat(5000), "]".repeat(5000));
    assert!(try_all(&deep, None, &[], Cloud::Local).is_err());
    let dots = format!("{MINIMAL}[x{}]\n", ".x".repeat(5000));
    assert!(try_all(&dots, None, &[], Cloud::Local).is_err());
    let flood: String = (0..20_000).map(|i| format!("k{i} = 1\n")).collect();
    let flood = try_all(&flood, None, &[], Cloud::Local).unwrap_err().0;
    assert_eq!(flood.len(), FAULTS_MAX + 1);
    assert!(flood[FAULTS_MAX].message.starts_with("and 199"), "{}", flood[FAULTS_MAX].message);
    let many: String = (0..300).map(|i| format!("K{i} = \"1\"\n")).collect();
    assert_eq!(with(&format!("[env]\n{many}"), &[]), ["base.toml:8:1 `env` has more than 256 keys"]);
}

#[test]
fn nothing_that_looks_secret_is_repeated() {
    let canary = "canary-5521-hunter2";
    let base = format!(
        "{MINIMAL}[env]\nDB_PASSWORD = \"{canary}\"\nURL = \"postgres://u:{canary}@h/d\"\nAPI_TOKEN = 5521\n\
         [secrets]\nKEY = \"{canary}\"\nTICKET = {{ name = \"a\", value = \"{canary}\" }}\n"
    );
    let sets = super::sets(&[&format!("env.SECRET={canary}"), &format!("secrets.X={canary}")]);
    let base = Layer::new("base.toml", base);
    let request =
        Request { environment: "dev", cloud: Cloud::Local, base, overlay: None, sets: &sets, dbird_version: "0.1.0" };
    let faults = resolve(&request).unwrap_err();
    assert!(faults.errors() >= 6, "{faults}");
    assert!(!format!("{faults} {faults:?}").contains("5521"), "{faults}");
    for source in request.sources() {
        assert!(!source.text.contains("5521"), "{}", source.text);
    }
    for fault in &faults.0 {
        let source = request.sources().into_iter().find(|s| s.file == fault.file).unwrap();
        assert!(source.text.get(fault.span.clone()).is_some(), "{fault}");
        assert_eq!(fault.severity, Severity::Error);
    }
}
