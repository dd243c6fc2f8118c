//! What holds for any file: nothing panics, what is written reads back, and layers may be merged in any grouping.

use dbird_core::{
    Cloud,
    environment::{EnvFile, Layer, Request, fuzz_environment, resolve},
};
use proptest::prelude::*;

/// Lines of a file, right and wrong ones, that often meet.
fn line() -> impl Strategy<Value = String> {
    let right = prop::sample::select(vec![
        "schema = 1",
        "service.name = \"bird\"",
        "service.port = 8080",
        "service.build.binary = \"b\"",
        "service.cpu = 0.5",
        "health.interval = \"1h30m\"",
        "scale.min = 2",
        "scale.max = 4",
        "scale.steps = [{ above = 70, for = \"2m\", add = 1 }]",
        "scale.target_cpu_percent = 60",
        "rollout.strategy = \"canary\"",
        "rollout.strategy = \"linear\"",
        "rollout.weight = 5",
        "rollout.pause = \"90s\"",
        "rollout.steps = [{ weight = 5, gate = true }, { weight = 100 }]",
        "rollout.hooks = [{ when = \"after\", run = [\"a\", \"\"] }]",
        "storage.kind = \"sqlite\"",
        "storage.mount = \"/data\"",
        "storage.writer = \"protocol\"",
        "env.A = \"ü\"",
        "env.\"B.C\" = \"x\"",
        "secrets.S = { name = \"s\" }",
        "alerts.notify = [\"a@b.c\"]",
        "analysis.error_rate_max = 1",
        "cloud.aws.task_policy = [{ actions = [\"s3:*\"], resources = [\"*\"] }]",
        "cloud.local.listen = \"[::1]:80\"",
    ])
    .prop_map(str::to_owned);
    let wrong = prop_oneof![
        "[a-z_]{1,8}(\\.[a-z_]{1,8}){0,2} = (1|\"x\"|\\[\\]|\\{\\}|true|1\\.5|nan|2024-01-01)",
        "\\[{1,2}(service|health|scale|rollout|env|cloud\\.aws|x)\\]{1,2}",
        "[\\[\\]{}=\"'.,#a-z0-9\\\\ \u{feff}é]{0,16}",
    ];
    prop_oneof![4 => right, 1 => wrong]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(line(), 0..16).prop_map(|lines| lines.join("\n"))
}

/// A file as its right lines make it: what is faulty is left out.
fn file() -> impl Strategy<Value = EnvFile> {
    text().prop_map(|text| EnvFile::parse(&Layer::new("base.toml", text)).0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(base in text(), overlay in text(), key in "[a-z.\"'=#\\[\\]]{0,12}", value in ".{0,12}") {
        fuzz_environment(format!("{base}\0{overlay}\0{key}={value}").as_bytes());
    }

    /// Whatever stands around it, and however broken, no report shows a secret.
    #[test]
    fn no_secret_is_shown(before in text(), after in text(), form in 0usize..4) {
        let secret = [
            "API_KEY = \"canary-77\"",
            "env.DB_PASSWORD = 'canary-77'",
            "URL = \"amqp://bird:canary-77@queue\"",
            "secrets = { S = \"canary-77\", A_TOKEN = \"canary-77\" }",
        ][form];
        let base = Layer::new("base.toml", format!("{before}\n{secret}\n{after}"));
        let length = base.text.len();
        let request =
            Request { environment: "dev", cloud: Cloud::Local, base, overlay: None, sets: &[], dbird_version: "0.1.0" };
        let source = request.sources().swap_remove(0);
        prop_assert!(!source.text.contains("canary-77"), "{}", source.text);
        prop_assert_eq!(source.text.len(), length);
        let told = match resolve(&request) {
            Ok((_, warnings)) => format!("{warnings:?}"),
            Err(faults) => format!("{faults} {faults:?}"),
        };
        prop_assert!(!told.contains("canary-77"), "{told}");
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        fuzz_environment(&bytes);
    }

    #[test]
    fn what_is_written_reads_back(file in file()) {
        let written = file.to_toml();
        let (again, faults) = EnvFile::parse(&Layer::new("base.toml", written.to_string()));
        prop_assert!(faults.is_empty(), "{written}\n{faults:?}");
        prop_assert_eq!(again.to_toml(), written);
    }

    #[test]
    fn merging_is_associative_and_the_empty_file_changes_nothing(a in file(), b in file(), c in file()) {
        let left = a.clone().merge(b.clone()).merge(c.clone());
        let right = a.clone().merge(b.merge(c));
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(&EnvFile::default().merge(a.clone()), &a);
        prop_assert_eq!(&a.clone().merge(EnvFile::default()), &a);
    }
}
