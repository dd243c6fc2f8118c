//! Specifications to render: every environment of this project and of the examples as it is, and one changed in every way
//! that changes a template.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};

use dbird_core::{
    Cloud, Spec,
    environment::{Layer, Request, resolve},
};

/// An environment, the settings that change it, and what it is called.
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) spec: Spec,
}

const ECS: &str = "rollout.controller=ecs";
const STATELESS: &str = "dev:examples/quest";

/// Environment and settings: `dev:examples/quest`, or `dev` of the project itself.
const CHANGED: &[(&str, &[&str])] = &[
    ("dev", &["rollout.strategy=blue-green"]),
    ("dev", &["rollout.strategy=all-at-once"]),
    ("staging", &["rollout.strategy=linear", "rollout.percent=10", "rollout.every=3m"]),
    ("staging", &["rollout.strategy=linear", "rollout.percent=25", "rollout.every=2m"]),
    ("dev", &[ECS]),
    ("dev", &[ECS, "rollout.strategy=blue-green"]),
    ("dev", &[ECS, "rollout.strategy=all-at-once"]),
    ("dev", &[ECS, "rollout.strategy=linear", "rollout.percent=20"]),
    ("dev", &[ECS, "rollout.strategy=rolling"]),
    ("dev", &[ECS, "rollout.strategy=recreate"]),
    ("dev", &["rollout.strategy=blue-green", "storage.writer=exclusive"]),
    ("dev", &["cloud.aws.network=shared"]),
    ("dev", &["cloud.aws.network=shared", "cloud.aws.egress=nat-per-zone", "cloud.aws.vpc_endpoints=true"]),
    ("dev", &["cloud.aws.network=shared", "cloud.aws.egress=public-ip", "cloud.aws.flow_logs=false"]),
    ("dev", &["cloud.aws.egress=nat-per-zone"]),
    ("dev", &["cloud.aws.egress=public-ip", "cloud.aws.vpc_endpoints=true"]),
    ("dev", &["cloud.aws.vpc_endpoints=true", "cloud.aws.flow_logs=false", "cloud.aws.cidr=10.9.8.0/24"]),
    ("dev", &["cloud.aws.exec=true", "cloud.aws.container_insights=true", "cloud.aws.access_logs=my-logs"]),
    ("dev", &["telemetry.collector=sidecar"]),
    ("dev", &["telemetry.collector=sidecar", "telemetry.otlp=https://traces.example.com"]),
    ("dev", &["cloud.aws.backup=false", "cloud.aws.log_days=365"]),
    ("dev", &["cloud.aws.repository=123456789012.dkr.ecr.us-east-1.amazonaws.com/bird"]),
    ("dev", &["cloud.aws.repository=ghcr.io/example/bird"]),
    ("dev", &["cloud.aws.execution_role=arn:aws:iam::123456789012:role/start"]),
    ("prod", &["cloud.aws.test_cidrs=[\"203.0.113.0/24\", \"2001:db8::/32\"]"]),
    (
        "prod",
        &[
            "alerts.notify=[\"oncall@example.com\", \"https://example.com/a\", \"arn:aws:sns:us-east-1:123456789012:t\"]",
        ],
    ),
    (STATELESS, &["cloud.aws.egress=nat"]),
    (
        STATELESS,
        &[
            "secrets.A_B.name=one",
            "secrets.AB.name=ssm:/two",
            "secrets.C.name=arn:aws:secretsmanager:us-east-1:123456789012:secret:three-AbCdEf:key::",
            "secrets.D.name=arn:aws:ssm:us-east-1:123456789012:parameter/four",
            "secrets.a-b.name=five",
        ],
    ),
    (STATELESS, &[r#"cloud.aws.task_policy=[{ actions = ["s3:GetObject"], resources = ["arn:aws:s3:::bird/*"] }]"#]),
];

pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn resolved(folder: &str, environment: &str, sets: &[&str]) -> Variant {
    let folder = project().join(folder).join("environments");
    let layer = |name: &str| {
        let file = folder.join(format!("{name}.toml"));
        std::fs::read_to_string(&file).ok().map(|text| Layer::new(format!("environments/{name}.toml"), text))
    };
    let base = layer("base").expect("base.toml");
    let name = format!("{}/{environment} {}", folder.display(), sets.join(" "));
    let pair = |set: &&str| set.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let sets: Vec<_> = sets.iter().filter_map(pair).collect();
    let overlay = layer(environment);
    let cloud = Cloud::Aws;
    let request = Request { environment, cloud, base, overlay, sets: &sets, dbird_version: "0.1.0" };
    let spec = resolve(&request).unwrap_or_else(|faults| panic!("{name}: {faults}")).0;
    Variant { name, spec }
}

/// Every environment there is.
pub(crate) fn environments() -> Vec<Variant> {
    let mut all = Vec::new();
    for folder in [".", "examples/mashroom", "examples/quest"] {
        let files = std::fs::read_dir(project().join(folder).join("environments")).unwrap();
        let mut names: Vec<String> =
            files.map(|f| f.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
        names.sort();
        all.extend(names.iter().filter(|n| *n != "base").map(|name| resolved(folder, name, &[])));
    }
    assert!(all.len() >= 7, "{}", all.len());
    all
}

/// Every environment, and the changed ones.
pub(crate) fn all() -> Vec<Variant> {
    let changed = CHANGED.iter().map(|(environment, sets)| {
        let (name, folder) = environment.split_once(':').unwrap_or((environment, "."));
        resolved(folder, name, sets)
    });
    environments().into_iter().chain(changed).collect()
}
