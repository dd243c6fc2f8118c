//! Policies about what the engine that moves traffic in a cloud can and can't do.

use super::{AWS, EVERYWHERE, Policy};
use crate::{
    Cloud, Spec,
    delivery::MINUTE_MS,
    environment::{Finding, Severity, duration_text},
    spec::{AnalysisSource, Controller, Strategy, WeightStep},
};

/// What an engine can wait for, in minutes, and how it is called.
struct Engine {
    name: &'static str,
    gates: bool,
    pause_minutes_max: u64,
    bake_minutes_max: u64,
    step_percent_min: u8,
}

impl Engine {
    fn of(controller: Controller) -> Engine {
        match controller {
            Controller::Codedeploy => Engine {
                name: "CodeDeploy",
                gates: false,
                pause_minutes_max: 2880,
                bake_minutes_max: 2880,
                step_percent_min: 1,
            },
            Controller::Ecs => Engine {
                name: "ECS",
                gates: true,
                pause_minutes_max: 1440,
                bake_minutes_max: 1440,
                step_percent_min: 3,
            },
        }
    }
}

pub(super) const ENGINE_CANNOT: Policy = Policy {
    code: "DB011",
    title: "a rollout that the cloud's engine can't do",
    severity: Severity::Error,
    waivable: false,
    clouds: AWS,
    what: "On AWS traffic is moved by CodeDeploy or by ECS. Both know one canary weight with one pause, or equal linear \
           steps, in whole minutes. A pause that is left to the looks (0s) is rounded up to the next minute. CodeDeploy \
           can't replace tasks in place (rolling, recreate) and does not stop at a gate between weights; ECS can and \
           does, with linear steps of at least 3 %. CodeDeploy waits at most two days at once, ECS one.",
    why: "The engine would refuse the deployment, or round what was asked for.",
    fix: "Use `weight` and `pause` in whole minutes, `controller = \"ecs\"` for rolling, recreate and gates; or keep the \
          lists of weights for the clouds where dbird itself moves the traffic, local and azure.",
    wrong: "[rollout]\nstrategy = \"canary\"\nweight = 10\npause = \"90s\"",
    right: "[rollout]\nstrategy = \"canary\"\nweight = 10\npause = \"2m\"",
    check: |spec, found| {
        let engine = Engine::of(spec.delivery().controller);
        match &spec.rollout.strategy {
            Strategy::Rolling { .. } | Strategy::Recreate if spec.rollout.controller == Controller::Codedeploy => {
                let name = spec.rollout.strategy.name();
                let message =
                    format!("on aws, CodeDeploy can't do {name}: it always starts all new tasks beside the old");
                found.push(Finding::at("rollout.controller", message).reads(&["rollout.strategy"]).suggest("\"ecs\""));
            }
            Strategy::Canary { steps } => canary(&engine, steps, spec.analysis.count > 0, found),
            Strategy::Linear { every_ms, percent } => linear(&engine, *every_ms, *percent, found),
            _ => {}
        }
        let in_place = matches!(spec.delivery().strategy, Strategy::Rolling { .. } | Strategy::Recreate);
        let bake_max_ms = engine.bake_minutes_max * MINUTE_MS;
        if !in_place && spec.rollout.bake_ms > bake_max_ms {
            let most = duration_text(bake_max_ms);
            let message = format!("on aws, {} keeps the previous release for at most {most}", engine.name);
            let finding = Finding::at("rollout.bake", message).reads(&["rollout.controller", "rollout.strategy"]);
            found.push(finding.suggest(format!("\"{most}\"")));
        }
    },
};

fn linear(engine: &Engine, every_ms: u64, percent: u8, found: &mut Vec<Finding>) {
    if let Some(why) = not_minutes(every_ms, engine) {
        let message = format!("on aws, {} waits whole minutes between steps: {why}", engine.name);
        found.push(Finding::at("rollout.every", message));
    }
    if percent < engine.step_percent_min {
        let message = format!("on aws, {} moves at least {} % at a time", engine.name, engine.step_percent_min);
        let finding = Finding::at("rollout.percent", message).reads(&["rollout.controller"]);
        found.push(finding.suggest(engine.step_percent_min.to_string()));
    }
}

/// A pause that is left to the looks (`0s`) is rounded up there, since nobody asked for seconds.
fn canary(engine: &Engine, steps: &[WeightStep], judged: bool, found: &mut Vec<Finding>) {
    let Engine { name, gates, .. } = engine;
    let before_all: Vec<&WeightStep> = steps.iter().filter(|step| step.weight < 100).collect();
    if before_all.len() > 1 {
        let message = format!("on aws, {name} knows one canary weight before 100 %, not {}", before_all.len());
        found.push(Finding::at("rollout.steps", message).help("use `weight` and `pause`, or strategy = \"linear\""));
        return;
    }
    for (i, step) in steps.iter().enumerate().filter(|(_, step)| step.weight < 100) {
        if step.gate && !gates {
            let message = format!("on aws, {name} can't wait for a person between weights");
            let finding = Finding::at(format!("rollout.steps.{i}.gate"), message).reads(&["rollout.controller"]);
            found.push(finding.help("controller = \"ecs\" can; or use `pause` in whole minutes"));
        } else if let Some(why) =
            not_minutes(step.pause_ms, engine).filter(|_| step.pause_ms > 0 || !(judged || step.gate))
        {
            let message = format!("on aws, {name} pauses for whole minutes: {why}");
            found.push(Finding::at("rollout.pause", message).else_at(format!("rollout.steps.{i}.pause")));
        }
    }
}

fn not_minutes(ms: u64, engine: &Engine) -> Option<String> {
    let most_ms = engine.pause_minutes_max * MINUTE_MS;
    match ms {
        0 => Some("at least 1m".to_owned()),
        _ if ms > most_ms => Some(format!("at most {}", duration_text(most_ms))),
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
