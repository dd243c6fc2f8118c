//! Policies about what the engine that moves traffic in a cloud can and can't do.

use super::{AWS, EVERYWHERE, Policy};
use crate::{
    Cloud, Spec,
    environment::{Finding, Severity, duration_text},
    spec::{AnalysisSource, Controller, Strategy, WeightStep},
};

const MINUTE_MS: u64 = 60_000;

pub(super) const ENGINE_CANNOT: Policy = Policy {
    code: "DB011",
    title: "a rollout that the cloud's engine can't do",
    severity: Severity::Error,
    waivable: false,
    clouds: AWS,
    what: "On AWS traffic is moved by CodeDeploy or by ECS. Both know one canary weight with one pause, or equal linear \
           steps, in whole minutes, and neither stops at a gate between weights. A pause that is left to the looks (0s) is \
           rounded up to the next minute. CodeDeploy can't replace tasks in \
           place (rolling, recreate); ECS can.",
    why: "The engine would refuse the deployment, or round what was asked for.",
    fix: "Use `weight` and `pause` in whole minutes, `controller = \"ecs\"` for rolling and recreate; or keep the lists \
          of weights and the gates for the clouds where dbird itself moves the traffic, local and azure.",
    wrong: "[rollout]\nstrategy = \"canary\"\nweight = 10\npause = \"90s\"",
    right: "[rollout]\nstrategy = \"canary\"\nweight = 10\npause = \"2m\"",
    check: |spec, found| {
        let engine = match spec.rollout.controller {
            Controller::Codedeploy => "CodeDeploy",
            Controller::Ecs => "ECS",
        };
        match &spec.rollout.strategy {
            Strategy::Rolling { .. } | Strategy::Recreate if spec.rollout.controller == Controller::Codedeploy => {
                let name = spec.rollout.strategy.name();
                let message =
                    format!("on aws, CodeDeploy can't do {name}: it always starts all new tasks beside the old");
                found.push(Finding::at("rollout.controller", message).reads(&["rollout.strategy"]).suggest("\"ecs\""));
            }
            Strategy::Canary { steps } => canary(engine, steps, spec.analysis.count > 0, found),
            Strategy::Linear { every_ms, .. } => {
                if let Some(why) = not_whole_minutes(*every_ms) {
                    let message = format!("on aws, {engine} waits whole minutes between steps: {why}");
                    found.push(Finding::at("rollout.every", message));
                }
            }
            _ => {}
        }
    },
};

/// A pause that is left to the looks (`0s`) is rounded up there, since nobody asked for seconds.
fn canary(engine: &str, steps: &[WeightStep], judged: bool, found: &mut Vec<Finding>) {
    let before_all: Vec<&WeightStep> = steps.iter().filter(|step| step.weight < 100).collect();
    if before_all.len() > 1 {
        let message = format!("on aws, {engine} knows one canary weight before 100 %, not {}", before_all.len());
        found.push(Finding::at("rollout.steps", message).help("use `weight` and `pause`, or strategy = \"linear\""));
        return;
    }
    for (i, step) in steps.iter().enumerate().filter(|(_, step)| step.weight < 100) {
        if step.gate {
            let message = format!("on aws, {engine} can't wait for a person between weights");
            found.push(Finding::at(format!("rollout.steps.{i}.gate"), message).help("use `pause` in whole minutes"));
        } else if let Some(why) = not_whole_minutes(step.pause_ms).filter(|_| step.pause_ms > 0 || !judged) {
            let message = format!("on aws, {engine} pauses for whole minutes: {why}");
            found.push(Finding::at("rollout.pause", message).else_at(format!("rollout.steps.{i}.pause")));
        }
    }
}

fn not_whole_minutes(ms: u64) -> Option<String> {
    match ms {
        0 => Some("at least 1m".to_owned()),
        _ if !ms.is_multiple_of(MINUTE_MS) => {
            Some(format!("not {}, but {}", duration_text(ms), duration_text(ms.next_multiple_of(MINUTE_MS))))
        }
        _ => None,
    }
}

pub(super) const NUMBERS_OF_ANOTHER_CLOUD: Policy = Policy {
    code: "DB016",
    title: "an analysis that reads another cloud's numbers",
    severity: Severity::Error,
    waivable: false,
    clouds: EVERYWHERE,
    what: "`[analysis] source` is \"cloudwatch\" elsewhere than on AWS, or \"azure-monitor\" elsewhere than on Azure.",
    why: "There are no numbers of this environment there, so every look at a release would be inconclusive.",
    fix: "Say `source = \"auto\"`, which takes each cloud's own, or \"metrics\", which works everywhere.",
    wrong: "[analysis]\nsource = \"azure-monitor\"",
    right: "[analysis]\nsource = \"auto\"",
    check: |spec: &Spec, found| {
        let home = match spec.analysis.source {
            AnalysisSource::Cloudwatch => Cloud::Aws,
            AnalysisSource::AzureMonitor => Cloud::Azure,
            _ => return,
        };
        if home != spec.cloud {
            let message = format!("these are the numbers of {home}, and this is for {}", spec.cloud);
            found.push(Finding::at("analysis.source", message).suggest("\"auto\""));
        }
    },
};
