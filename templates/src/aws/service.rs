//! The values of the service's document and of what delivers it: the task's definition, the engine that moves the traffic,
//! and how the service grows.

use std::collections::{BTreeMap, BTreeSet};

use dbird_core::{
    ImageRef, Spec, StepId,
    delivery::MINUTE_MS,
    document,
    spec::{Controller, HookWhen, Strategy},
};
use serde_json::{Value, json};

use super::{
    access::{self, Place},
    base, has_collector,
    values::{output, seconds, volume},
};

/// The variable by which OpenTelemetry's libraries are told their collector.
const OTLP_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Where the collector beside the task listens.
const SIDECAR_OTLP: &str = "http://127.0.0.1:4318";
/// CodeDeploy keeps nothing waiting for longer.
const WAIT_MINUTES_MAX: u64 = 2880;
/// ECS waits for a person for two weeks at most.
const PAUSE_MINUTES_MAX: u64 = 20_160;
/// A new task's own time before the load balancer's judgement counts.
const GRACE_S: u64 = 30;

/// Adds what the templates of service and delivery refer to.
pub(super) fn add(spec: &Spec, image: Option<&ImageRef>, values: &mut Value) {
    let step = StepId::new("image");
    let (volumes, mounts) = volume(spec);
    let (secrets, secret_outputs) = secrets(spec);
    values["output"] = json!({
        "cluster": output("Cluster"),
        "execution_role": output("ExecutionRole"), "task_role": output("TaskRole"),
        "subnet_a": output("SubnetA"), "subnet_b": output("SubnetB"),
        "task_security_group": output("TaskSecurityGroup"),
        "blue": output("BlueTargetGroup"), "green": output("GreenTargetGroup"),
        "listener": output("ProductionListener"), "test_listener": output("TestListener"),
    });
    values["image_reference"] = document::reference(&step, "reference");
    values["image_digest"] =
        image.map_or_else(|| document::reference(&step, "digest"), |i| Value::from(i.digest.as_str()));
    values["cpu"] = ((spec.service.cpu * 1024.0).round() as u64).to_string().into();
    values["memory"] = spec.service.memory_mib.to_string().into();
    values["environment"] = environment(spec);
    values["secrets"] = secrets;
    values["secret_outputs"] = secret_outputs;
    values["volumes"] = volumes;
    values["mounts"] = mounts;
    values["storage_protocol"] = spec.storage.as_ref().map_or(0, |s| s.storage_protocol).into();
    // Nothing in an empty image is for writing but the mount; a shell of ECS Exec writes.
    let bare = spec.service.build.as_ref().is_some_and(|build| build.base == "scratch");
    values["read_only"] = (bare && !spec.aws.exec).into();
    values["stop_s"] = seconds(spec.service.stop_grace_ms, 2, 120).into();
    let until_healthy_ms = spec.health.interval_ms.max(5000) * u64::from(spec.health.healthy_after.max(2));
    values["grace_s"] = (GRACE_S + until_healthy_ms.div_ceil(1000)).into();
    values["scaling"] = scaling(spec);
    delivery(spec, values);
}

fn environment(spec: &Spec) -> Value {
    let mut env: BTreeMap<String, String> = spec.env.clone();
    if let Some(variable) = &spec.service.port_env {
        env.insert(variable.clone(), spec.service.port.to_string());
    }
    let collector = if has_collector(spec) { Some(SIDECAR_OTLP) } else { spec.telemetry.otlp.as_deref() };
    if let Some(address) = collector.filter(|_| !spec.secrets.contains_key(OTLP_VARIABLE)) {
        env.entry(OTLP_VARIABLE.to_owned()).or_insert_with(|| address.to_owned());
    }
    env.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

/// The secrets as a container refers to them, and the outputs that give the whole ARN of those known by name.
fn secrets(spec: &Spec) -> (Value, Value) {
    let mut names = BTreeSet::new();
    let (mut references, mut outputs) = (Vec::new(), Vec::new());
    for (variable, secret) in &spec.secrets {
        let place = Place::of(secret);
        let value_from = match (&place, place.output()) {
            (_, Some(value)) => {
                // Names of outputs have letters and digits only, so two variables may come to the same.
                let plain: String = variable.chars().filter(char::is_ascii_alphanumeric).collect();
                let free = |name: &String| !names.contains(name);
                let name = std::iter::once(format!("Secret{plain}"))
                    .chain((2..).map(|n| format!("Secret{plain}x{n}")))
                    .find(free)
                    .unwrap_or_default();
                outputs.push(json!({ "output": name, "value": value }));
                names.insert(name.clone());
                output(&name)
            }
            (Place::Named(name) | Place::Arn(name) | Place::Parameter(name), None) => json!(name),
        };
        references.push(json!({ "name": variable, "valueFrom": value_from }));
    }
    (Value::Array(references), Value::Array(outputs))
}

fn minutes(ms: u64) -> u64 {
    ms.div_ceil(MINUTE_MS)
}

fn delivery(spec: &Spec, values: &mut Value) {
    let base = base(spec);
    let delivery = spec.delivery();
    let alarms = ["blue-errors", "blue-slow", "green-errors", "green-slow"].map(|name| format!("{base}-{name}"));
    values["codedeploy"] = Value::Null;
    values["service_codedeploy"] = Value::Null;
    values["service_ecs"] = Value::Null;
    values["controller"] = json!(delivery.controller);
    values["delivery_roles"] = json!([]);
    let held = spec.rollout.hooks.iter().any(|hook| hook.when == HookWhen::BeforeTraffic);
    let judged = spec.analysis.count > 0;
    let (bake, person) = (minutes(spec.rollout.bake_ms), minutes(spec.rollout.pause_limit_ms).max(1));
    match delivery.controller {
        Controller::Codedeploy => {
            let (config, shift) = shift(&base, &delivery.strategy);
            values["codedeploy"] = json!({ "config": config, "shift": shift });
            values["delivery_roles"] = json!([access::deployment_role(spec, &base)]);
            values["service_codedeploy"] = json!({
                "application": base, "group": base, "config": config, "role": output("DeploymentRole"),
                "ready_wait_minutes": if held { person.min(WAIT_MINUTES_MAX) } else { 0 },
                "termination_wait_minutes": (bake + if judged { person } else { 0 }).min(WAIT_MINUTES_MAX),
                "alarms": alarms,
            });
        }
        Controller::Ecs => {
            let native = !matches!(delivery.strategy, Strategy::Rolling { .. } | Strategy::Recreate);
            if native {
                values["delivery_roles"] = json!([access::ecs_role()]);
            }
            let (strategy, percent, every) = ecs_strategy(&delivery.strategy);
            let mut pauses = Vec::new();
            if native && held {
                pauses.push("POST_TEST_TRAFFIC_SHIFT");
            }
            if delivery.waits_at_weights(judged) {
                pauses.push("PRE_PRODUCTION_TRAFFIC_SHIFT");
            }
            let (minimum, maximum) = bounds(spec, &delivery.strategy);
            values["service_ecs"] = json!({
                "strategy": strategy, "minimum_percent": minimum, "maximum_percent": maximum,
                "circuit_breaker": !native, "percent": percent, "minutes": every,
                "bake_minutes": if native { bake } else { 0 },
                "pauses": pauses,
                "pause_minutes": if pauses.is_empty() { Value::Null } else { json!(person.min(PAUSE_MINUTES_MAX)) },
                "role": if native { output("EcsRole") } else { Value::Null },
                "alarms": alarms,
            });
        }
    }
}

/// The deployment configuration by name, and how it shifts where CodeDeploy has none of its own that does.
fn shift(base: &str, strategy: &Strategy) -> (String, Value) {
    const BUILT_IN: &str = "CodeDeployDefault.ECS";
    match strategy {
        Strategy::Canary { steps } => {
            let (weight, every) = steps.first().map_or((100, 0), |step| (step.weight, minutes(step.pause_ms)));
            if weight == 10 && (every == 5 || every == 15) {
                return (format!("{BUILT_IN}Canary10Percent{every}Minutes"), Value::Null);
            }
            let shift = json!({ "Type": "TimeBasedCanary",
                "TimeBasedCanary": { "CanaryPercentage": weight, "CanaryInterval": every } });
            (format!("{base}-canary-{weight}-percent-{every}-minutes"), shift)
        }
        Strategy::Linear { percent, every_ms } => {
            let every = minutes(*every_ms);
            if *percent == 10 && (every == 1 || every == 3) {
                return (format!("{BUILT_IN}Linear10PercentEvery{every}Minutes"), Value::Null);
            }
            let shift = json!({ "Type": "TimeBasedLinear",
                "TimeBasedLinear": { "LinearPercentage": percent, "LinearInterval": every } });
            (format!("{base}-linear-{percent}-percent-{every}-minutes"), shift)
        }
        _ => (format!("{BUILT_IN}AllAtOnce"), Value::Null),
    }
}

/// The strategy as ECS calls it, its share in percent, and the minutes between shares.
fn ecs_strategy(strategy: &Strategy) -> (&'static str, Option<u8>, Option<u64>) {
    match strategy {
        Strategy::Canary { steps } => {
            let first = steps.first();
            ("CANARY", first.map(|step| step.weight), first.map(|step| minutes(step.pause_ms)))
        }
        Strategy::Linear { percent, every_ms } => ("LINEAR", Some(*percent), Some(minutes(*every_ms))),
        Strategy::Rolling { .. } | Strategy::Recreate => ("ROLLING", None, None),
        Strategy::AllAtOnce | Strategy::BlueGreen => ("BLUE_GREEN", None, None),
    }
}

/// How few and how many tasks there may be on the way, in percent of those wanted.
fn bounds(spec: &Spec, strategy: &Strategy) -> (u64, u64) {
    match strategy {
        Strategy::Recreate => (0, 100),
        Strategy::Rolling { batch_percent, min_healthy_percent } => {
            let (least, most) = (u64::from(*min_healthy_percent), 100 + u64::from(*batch_percent));
            let copies = u64::from(spec.scale.min.max(1));
            // ECS rounds the one up and the other down: with few copies there would be room for no step at all.
            let stuck = (least * copies).div_ceil(100) >= copies && most * copies / 100 <= copies;
            (least, if stuck { 100 + 100_u64.div_ceil(copies) } else { most })
        }
        _ => (100, 200),
    }
}

fn scaling(spec: &Spec) -> Value {
    let scale = &spec.scale;
    let (min, max) = (scale.min, scale.max);
    if max <= min {
        return Value::Null;
    }
    match scale.target_cpu_percent {
        Some(percent) => json!({ "min": min, "max": max, "target_cpu_percent": percent }),
        None => {
            let step = |s: &dbird_core::spec::ScaleStep| json!({ "above": s.above, "cpu_percent": s.cpu_percent, "for_minutes": minutes(s.for_ms), "add": s.add });
            json!({ "min": min, "max": max, "steps": scale.steps.iter().map(step).collect::<Vec<_>>() })
        }
    }
}
