//! Values that are right one by one and wrong together, whatever the service and the cloud. What is unwise, or what a cloud
//! can't do, is a policy and has a code.

use std::net::SocketAddr;

use super::{Finding, duration, file::Root, slot::Slot};
use crate::{
    Spec,
    spec::{AnalysisSource, Strategy, Writer},
};

/// Every contradiction within a configuration.
pub(crate) fn of(root: &Root, spec: &Spec) -> Vec<Finding> {
    let mut found = Vec::new();
    build(root, &mut found);
    scale(root, spec, &mut found);
    canary_steps(root, spec, &mut found);
    times(spec, &mut found);
    variables(spec, &mut found);
    clouds(root, spec, &mut found);
    hooks(root, &mut found);
    if spec.analysis.source == AnalysisSource::Prometheus && spec.analysis.prometheus.is_none() {
        let message = "source = \"prometheus\" needs the address of the server";
        found.push(Finding::at("analysis.source", message).help("prometheus = \"http://127.0.0.1:9090\""));
    }
    if !spec.analysis.selector.contains("{release}") {
        let message = "the selector tells no release from another: {release} is missing";
        found.push(Finding::at("analysis.selector", message).suggest("\"release=\\\"{release}\\\"\""));
    }
    for (key, command) in spec.storage.iter().flat_map(|s| [("backup", &s.backup), ("restore", &s.restore)]) {
        if !command.is_empty() && !command.iter().any(|argument| argument.contains("{file}")) {
            let message = format!("the {key} command is not told where the copy is: {{file}} is missing");
            found.push(
                Finding::at(format!("storage.{key}"), message)
                    .help("for example [\"my-service\", \"backup\", \"{file}\"]"),
            );
        }
    }
    if !spec.drill_stored.is_empty() && !spec.drill_stored.iter().any(|argument| argument.contains("{prefix}")) {
        let message = "the command is not told which scores are asked for: {prefix} is missing";
        found.push(Finding::at("chaos.stored", message).help("for example [\"my-service\", \"stored\", \"{prefix}\"]"));
    }
    if spec.storage.as_ref().is_some_and(|s| s.writer == Writer::Protocol && s.storage_protocol == 0) {
        let message = "writer = \"protocol\" needs the version of the protocol, and `storage_protocol` is 0";
        found.push(Finding::at("storage.storage_protocol", message).reads(&["storage.writer"]).suggest("1"));
    }
    if spec.analysis.count > 0 && spec.analysis.failure_limit > spec.analysis.count {
        let message = format!("{} bad looks can't happen in {}", spec.analysis.failure_limit, spec.analysis.count);
        found.push(Finding::at("analysis.failure_limit", message).reads(&["analysis.count"]));
    }
    found
}

fn build(root: &Root, found: &mut Vec<Finding>) {
    let table = &root.service.keys.build;
    if table.is_absent() {
        return;
    }
    let (binary, folder) = (!table.keys.binary.is_absent(), !table.keys.folder.is_absent());
    let entrypoint = !table.keys.entrypoint.is_absent();
    let (key, message) = match (binary, folder, entrypoint) {
        (false, false, false) => ("service.build", "the build says neither which `binary` nor which `folder` it makes"),
        (_, true, false) => ("service.build.folder", "a `folder` needs an `entrypoint` that starts what is in it"),
        (false, false, true) => ("service.build.entrypoint", "an `entrypoint` needs the `folder` that it starts"),
        _ => return,
    };
    let help = "binary = \"target/release/NAME\", or folder = \"app\" and entrypoint = [\"node\", \"server.js\"]";
    found.push(Finding::at(key, message).help(help));
}

fn scale(root: &Root, spec: &Spec, found: &mut Vec<Finding>) {
    let Spec { scale, .. } = spec;
    if scale.min > scale.max {
        let message = format!("at least {} and at most {} copies can't both hold", scale.min, scale.max);
        // Told at whichever of the two was written last.
        let of = |entry: &super::slot::Entry<u32>| entry.origin().map(|o| (o.value.layer, o.value.start));
        let last = if of(&root.scale.keys.min) > of(&root.scale.keys.max) { "scale.min" } else { "scale.max" };
        found.push(Finding::at(last, message).reads(&["scale.min", "scale.max"]));
    }
    for (i, step) in root.scale.keys.steps.items.iter().enumerate() {
        let (above, below) = (!step.keys.above.is_absent(), !step.keys.below.is_absent());
        if above == below {
            let message = "a step is either `above` or `below` a percentage";
            found.push(Finding::at(format!("scale.steps.{i}"), message));
            continue;
        }
        let add = step.keys.add.get().copied();
        let wrong = match add {
            Some(0) => "a step that adds nothing does nothing",
            Some(add) if above && add < 0 => "`above` a load, copies are added, not removed",
            Some(add) if below && add > 0 => "`below` a load, copies are removed, not added",
            _ => continue,
        };
        found.push(Finding::at(format!("scale.steps.{i}.add"), wrong));
    }
}

fn canary_steps(root: &Root, spec: &Spec, found: &mut Vec<Finding>) {
    let Strategy::Canary { steps } = &spec.rollout.strategy else { return };
    let slot = &root.rollout.keys.steps;
    if slot.is_absent() || slot.faulty || slot.items.len() != steps.len() {
        return;
    }
    let mut before = 0;
    for (i, step) in steps.iter().enumerate() {
        let key = |key: &str| format!("rollout.steps.{i}.{key}");
        if step.weight <= before {
            let message = format!("weights only grow: {} comes after {before}", step.weight);
            found.push(Finding::at(key("weight"), message));
        }
        // Where looks are taken, a weight lasts as long as they do.
        let waits = step.pause_ms > 0 || step.gate || spec.analysis.count > 0;
        let waits_at_all = step.pause_ms > 0 || step.gate;
        if step.weight == 100 && waits_at_all {
            let which = if step.gate { "gate" } else { "pause" };
            let message = "nothing is left to wait for at 100 %";
            found.push(Finding::at(key(which), message).help("`rollout.bake` keeps the previous release after 100 %"));
        } else if step.weight < 100 && !waits {
            let message = format!("nothing holds the rollout at {} %", step.weight);
            found.push(Finding::at(format!("rollout.steps.{i}"), message).help("add pause = \"1m\" or gate = true"));
        }
        before = step.weight;
    }
    if before != 100 {
        let message = "the last step must give the new release all traffic";
        found.push(Finding::at("rollout.steps", message).help("end with { weight = 100 }"));
    }
}

/// A hook does one thing.
fn hooks(root: &Root, found: &mut Vec<Finding>) {
    for (i, hook) in root.rollout.keys.hooks.items.iter().enumerate() {
        let message = match (hook.keys.run.is_absent(), hook.keys.url.is_absent()) {
            (true, true) => "a hook needs something to do: `run` or `url`",
            (false, false) => "a hook has either `run` or `url`; write two hooks for both",
            _ => continue,
        };
        found.push(Finding::at(format!("rollout.hooks.{i}"), message).help("run = [\"my-service\", \"check\"]"));
    }
}

/// The pauses must fit into the deadline.
fn times(spec: &Spec, found: &mut Vec<Finding>) {
    let (key, pauses_ms) = match &spec.rollout.strategy {
        Strategy::Canary { steps } => ("rollout.pause", steps.iter().map(|s| s.pause_ms).sum::<u64>()),
        Strategy::Linear { percent, every_ms } => {
            ("rollout.every", every_ms.saturating_mul(u64::from(99 / (*percent).max(1))))
        }
        _ => return,
    };
    if pauses_ms >= spec.rollout.deadline_ms {
        let (pauses, deadline) = (duration::text(pauses_ms), duration::text(spec.rollout.deadline_ms));
        let message = format!("the pauses take {pauses}, and a rollout that takes {deadline} has failed");
        let finding = Finding::at("rollout.deadline", message).help("a longer deadline, or shorter pauses");
        found.push(match key {
            "rollout.every" => finding.reads(&["rollout.every", "rollout.percent", "rollout.strategy"]),
            _ => finding.reads(&["rollout.pause", "rollout.steps", "rollout.strategy"]),
        });
    }
}

fn variables(spec: &Spec, found: &mut Vec<Finding>) {
    for name in spec.secrets.keys().filter(|name| spec.env.contains_key(*name)) {
        let message = format!("`{name}` is set both in [env] and in [secrets]");
        found.push(Finding::at(format!("env.{name}"), message).at_key().help("leave it in [secrets] only"));
    }
    if let Some(port) = spec.service.port_env.as_deref() {
        for table in ["env", "secrets"] {
            let has = if table == "env" { spec.env.contains_key(port) } else { spec.secrets.contains_key(port) };
            if has {
                let message =
                    format!("`{port}` tells the service its port (`service.port_env`), so it can't be set here");
                let finding = Finding::at(format!("{table}.{port}"), message).at_key();
                found.push(finding.reads(&["service.port_env"]).help("set `service.port` instead"));
            }
        }
    }
}

fn clouds(root: &Root, spec: &Spec, found: &mut Vec<Finding>) {
    let parse = |text: &str| text.parse::<SocketAddr>().ok();
    if let (Some(front), Some(test)) = (parse(&spec.local.listen), parse(&spec.local.test_listen)) {
        let all = front.ip().is_unspecified() || test.ip().is_unspecified();
        if front.port() == test.port() && (front.ip() == test.ip() || all) {
            let message = format!("the front door and the test door can't both listen on port {}", front.port());
            found.push(Finding::at("cloud.local.test_listen", message).reads(&["cloud.local.listen"]));
        }
    }
    let aws = &root.cloud.keys.aws.keys;
    if let Some(certificate) = &spec.aws.certificate {
        let region = certificate.split(':').nth(3).unwrap_or_default();
        if region != spec.aws.region {
            let message =
                format!("the certificate is in `{region}` and the load balancer will be in `{}`", spec.aws.region);
            let finding = Finding::at("cloud.aws.certificate", message).reads(&["cloud.aws.region"]);
            found.push(finding.help("a load balancer takes certificates of its own region only"));
        }
    }
    if !aws.execution_role.is_absent() && !aws.execution_policy.is_absent() {
        let message = "`execution_policy` is for the role that dbird makes, and `execution_role` names another";
        found.push(Finding::at("cloud.aws.execution_policy", message).at_key().help("leave one of them out"));
    }
}
