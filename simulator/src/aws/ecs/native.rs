//! ECS's own blue/green, canary and linear deployments: stages, pauses, test traffic and the weights of the listener rules. It
//! decides the order; the weights are the load balancer's to follow.

use std::sync::Arc;

use serde_json::Value;

use super::{
    balance,
    deployment::{Deployment, Halt, Hook, both, minutes, until, with},
    names,
    service::Service,
};
use crate::aws::{World, list as members, number, text};

/// Where nobody says how long a pause may last, and what follows.
const PAUSE_MINUTES: i64 = 1440;
/// Where nobody says how long it bakes.
const BAKE_MINUTES: i64 = 15;

/// The weights of production on the way to all of it, each with the minutes that follow it.
fn steps(config: &Value) -> Vec<(u32, f64)> {
    let real = |group: &str, name: &str, default: f64| {
        config.pointer(&format!("/{group}/{name}")).and_then(Value::as_f64).unwrap_or(default)
    };
    match text(config, "strategy") {
        Some("CANARY") => {
            let percent = real("canaryConfiguration", "canaryPercent", 5.0);
            vec![(percent.round() as u32, real("canaryConfiguration", "canaryBakeTimeInMinutes", 10.0)), (100, 0.0)]
        }
        Some("LINEAR") => {
            let percent = real("linearConfiguration", "stepPercent", 10.0).max(1.0);
            let bake = real("linearConfiguration", "stepBakeTimeInMinutes", 6.0);
            let count = (100.0 / percent).ceil() as u32;
            let weight = |n: u32| (f64::from(n) * percent).min(100.0).round() as u32;
            (1..=count).map(|n| (weight(n), if n == count { 0.0 } else { bake })).collect()
        }
        _ => vec![(100, 0.0)],
    }
}

/// Every stage of the way forth.
pub(super) async fn forth(world: &Arc<World>, arn: &str) -> Result<(), Halt> {
    let (is_first, config) = both(world, arn, |_, d| (d.sources.is_empty(), d.config.clone()))?;
    let is_ready = |service: &Service, d: &Deployment| service.sets.iter().any(|s| s.id == d.set && s.is_steady);
    if is_first {
        enter(world, arn, "SCALE_UP");
        point(world, arn, "productionListenerRule", 100)?;
        point(world, arn, "testListenerRule", 100)?;
        until(world, arn, is_ready).await?;
        with(world, arn, |d| (d.production_weight, d.test_weight) = (100, 100));
        return Ok(());
    }
    // A deployment that this one took the place of may have left traffic on the group that is to be filled anew.
    point(world, arn, "productionListenerRule", 0)?;
    point(world, arn, "testListenerRule", 0)?;
    enter(world, arn, "PRE_SCALE_UP");
    pause(world, arn, "PRE_SCALE_UP").await?;
    enter(world, arn, "SCALE_UP");
    until(world, arn, is_ready).await?;
    enter(world, arn, "POST_SCALE_UP");
    pause(world, arn, "POST_SCALE_UP").await?;
    enter(world, arn, "TEST_TRAFFIC_SHIFT");
    point(world, arn, "testListenerRule", 100)?;
    with(world, arn, |d| d.test_weight = 100);
    // Rules are known everywhere a little later.
    minutes(world, arn, 0.1).await?;
    enter(world, arn, "POST_TEST_TRAFFIC_SHIFT");
    pause(world, arn, "POST_TEST_TRAFFIC_SHIFT").await?;
    enter(world, arn, "PRODUCTION_TRAFFIC_SHIFT");
    for (weight, bake) in steps(&config) {
        pause(world, arn, "PRE_PRODUCTION_TRAFFIC_SHIFT").await?;
        point(world, arn, "productionListenerRule", weight)?;
        with(world, arn, |d| d.production_weight = weight);
        minutes(world, arn, bake).await?;
    }
    enter(world, arn, "POST_PRODUCTION_TRAFFIC_SHIFT");
    pause(world, arn, "POST_PRODUCTION_TRAFFIC_SHIFT").await?;
    enter(world, arn, "BAKE_TIME");
    minutes(world, arn, number(&config, "bakeTimeInMinutes").unwrap_or(BAKE_MINUTES) as f64).await?;
    enter(world, arn, "CLEAN_UP");
    both(world, arn, |service, d| {
        for set in service.sets.iter_mut().filter(|s| s.id != d.set) {
            set.want(false);
        }
        service.wake.notify_one();
    })?;
    // The old is gone before the deployment is over; nothing could be rolled back to any more.
    until(world, arn, |service, d| service.sets.iter().filter(|s| s.id != d.set).all(|s| s.is_steady)).await
}

/// All traffic where it was.
pub(super) fn back(world: &Arc<World>, arn: &str) -> Result<(), Halt> {
    // The deployment's set is the old one by now.
    point(world, arn, "productionListenerRule", 100)?;
    point(world, arn, "testListenerRule", 100)?;
    with(world, arn, |d| (d.production_weight, d.test_weight) = (0, 0));
    Ok(())
}

fn enter(world: &Arc<World>, arn: &str, stage: &'static str) {
    with(world, arn, |d| {
        d.stage = Some(stage);
        d.hooks.clear();
    });
}

/// Gives the deployment's set this much of a rule's traffic, and the other target group the rest.
fn point(world: &Arc<World>, arn: &str, rule: &str, weight: u32) -> Result<(), Halt> {
    let (rule, ours, other) = both(world, arn, |service, d| {
        let balancer = service.load_balancers.first().cloned().unwrap_or_default();
        let advanced = balancer.get("advancedConfiguration").cloned().unwrap_or_default();
        let ours = service.sets.iter().find(|s| s.id == d.set).and_then(|s| s.revision.target_group.clone());
        let all = [text(&balancer, "targetGroupArn"), text(&advanced, "alternateTargetGroupArn")];
        let other = all.into_iter().flatten().find(|g| Some(*g) != ours.as_deref()).map(str::to_owned);
        (text(&advanced, rule).map(str::to_owned), ours, other)
    })?;
    let (Some(rule), Some(ours)) = (rule, ours) else { return Ok(()) };
    let mut weights = vec![(ours, weight)];
    weights.extend(other.map(|group| (group, 100 - weight.min(100))));
    balance::set_forward(world, &rule, weights)
        .map_err(|why| Halt::Undo(format!("unable to update the listener rule {rule}: {}", why.message)))
}

/// Waits at a stage for whoever must say that it goes on.
async fn pause(world: &Arc<World>, arn: &str, stage: &'static str) -> Result<(), Halt> {
    let hooks: Vec<Value> = both(world, arn, |_, d| {
        let at = |hook: &&Value| members(hook, "lifecycleStages").iter().any(|s| s == stage);
        members(&d.config, "lifecycleHooks").iter().filter(at).cloned().collect()
    })?;
    for hook in hooks {
        let timeout = hook.get("timeoutConfiguration").cloned().unwrap_or_default();
        let minutes = number(&timeout, "timeoutInMinutes").unwrap_or(PAUSE_MINUTES);
        let waits = Hook {
            id: names::id(),
            status: "AWAITING_ACTION",
            expires_ms: world.clock.now_ms() + u64::try_from(minutes).unwrap_or(0) * 60_000,
            action: text(&timeout, "action").unwrap_or("ROLLBACK").to_owned(),
        };
        let id = waits.id.clone();
        with(world, arn, |d| d.hooks = vec![waits]);
        let clock = world.clock;
        let mut ended = "AWAITING_ACTION";
        until(world, arn, |_, d| {
            let hook = d.hooks.iter().find(|h| h.id == id);
            ended = match hook {
                Some(hook) if hook.status == "AWAITING_ACTION" && clock.now_ms() < hook.expires_ms => return false,
                Some(hook) if hook.status == "AWAITING_ACTION" && hook.action == "CONTINUE" => "SUCCEEDED",
                Some(hook) if hook.status == "AWAITING_ACTION" => "TIMED_OUT",
                Some(hook) => hook.status,
                None => "SUCCEEDED",
            };
            true
        })
        .await?;
        with(world, arn, |d| d.hooks.iter_mut().filter(|h| h.id == id).for_each(|h| h.status = ended));
        if ended != "SUCCEEDED" {
            let how = if ended == "TIMED_OUT" { "timed out" } else { "failed" };
            return Err(Halt::Undo(format!("Lifecycle hook {id} {how} at stage {stage}.")));
        }
    }
    with(world, arn, |d| d.hooks.clear());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn weights_rise_to_all_of_the_traffic() {
        for (config, expected) in [
            (json!({ "strategy": "BLUE_GREEN" }), vec![(100, 0.0)]),
            (
                json!({ "strategy": "CANARY", "canaryConfiguration": { "canaryPercent": 20.0, "canaryBakeTimeInMinutes": 3 } }),
                vec![(20, 3.0), (100, 0.0)],
            ),
            (
                json!({ "strategy": "LINEAR", "linearConfiguration": { "stepPercent": 40.0, "stepBakeTimeInMinutes": 1 } }),
                vec![(40, 1.0), (80, 1.0), (100, 0.0)],
            ),
        ] {
            assert_eq!(steps(&config), expected, "{config}");
        }
    }
}
