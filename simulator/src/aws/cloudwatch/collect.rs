//! What AWS measures by itself, once a simulated minute: load balancers, target groups and services. Alarms are evaluated right
//! after.

use std::sync::{Arc, Weak, atomic::Ordering::SeqCst};

use super::{Inside, MINUTE_MS, alarm, series::Key};
use crate::aws::{
    World,
    ecs::Ecs,
    elb::{Counted, Measured},
};

/// Measures from now on, for as long as the account lives. Calling it again does nothing.
pub(crate) fn keep_up(world: &Arc<World>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if !world.cloudwatch.collecting.swap(true, SeqCst) {
        runtime.spawn(each_minute(Arc::downgrade(world)));
    }
}

async fn each_minute(world: Weak<World>) {
    loop {
        let Some(clock) = world.upgrade().map(|world| world.clock) else { return };
        let next_ms = (clock.now_ms() / MINUTE_MS + 1) * MINUTE_MS;
        clock.sleep_until_ms(next_ms).await;
        let Some(world) = world.upgrade() else { return };
        minute(&world, next_ms);
    }
}

/// Measures the minute that ended at this instant and lets the alarms follow.
pub(super) fn minute(world: &Arc<World>, end_ms: u64) {
    let at_ms = end_ms.saturating_sub(MINUTE_MS);
    let measured = world.elb.measured();
    {
        let mut inside = world.cloudwatch.lock();
        for one in &measured {
            balancer(&mut inside, one, at_ms);
        }
        let named =
            |key: &(String, Option<String>)| measured.iter().any(|one| one.balancer == key.0 && one.group == key.1);
        inside.counted.retain(|key, _| named(key));
    }
    services(world, at_ms);
    alarm::follow(world, end_ms);
}

/// Counts are told where there were any; how many hosts are healthy only where targets are registered: an idle colour is silent.
fn balancer(inside: &mut Inside, one: &Measured, at_ms: u64) {
    let before = inside.counted.insert((one.balancer.clone(), one.group.clone()), one.counted.clone());
    let new = one.counted.since(&before.unwrap_or_default());
    let mut put = |name: &str, value: f64, count: f64| {
        let mut dimensions = vec![("LoadBalancer".to_owned(), one.balancer.clone())];
        dimensions.extend(one.group.iter().map(|group| ("TargetGroup".to_owned(), group.clone())));
        let key = Key {
            namespace: "AWS/ApplicationELB".to_owned(),
            name: name.to_owned(),
            dimensions: dimensions.into_iter().collect(),
        };
        inside.measured.at(key, at_ms).add(value, count);
    };
    let Counted { requests, classes, own_5xx, latency, .. } = new;
    let own = if one.group.is_some() { "TargetConnectionErrorCount" } else { "HTTPCode_ELB_5XX_Count" };
    let counts = [
        ("RequestCount", requests),
        ("HTTPCode_Target_2XX_Count", classes[1]),
        ("HTTPCode_Target_3XX_Count", classes[2]),
        ("HTTPCode_Target_4XX_Count", classes[3]),
        ("HTTPCode_Target_5XX_Count", classes[4]),
        (own, own_5xx),
    ];
    for (name, count) in
        counts.into_iter().filter(|(name, count)| *count > 0 || *name == "RequestCount" && one.targets > 0)
    {
        put(name, count as f64, 1.0);
    }
    for (us, count) in &latency {
        put("TargetResponseTime", *us as f64 / 1e6, *count as f64);
    }
    if one.targets > 0 {
        put("HealthyHostCount", one.healthy as f64, 1.0);
        put("UnHealthyHostCount", one.unhealthy as f64, 1.0);
    }
}

/// How busy the services are that an alarm watches; others are measured by whoever asks for them.
fn services(world: &Arc<World>, at_ms: u64) {
    let mut watched = alarm::watched(world, "AWS/ECS");
    watched.sort_unstable();
    watched.dedup();
    for key in watched {
        let part = |name: &str| key.dimensions.get(name).map(String::as_str).unwrap_or_default();
        let percent = match key.name.as_str() {
            "CPUUtilization" => Ecs::cpu_percent(world, part("ClusterName"), part("ServiceName")),
            _ => None,
        };
        if let Some(percent) = percent {
            world.cloudwatch.lock().measured.at(key, at_ms).add(percent, 1.0);
        }
    }
}
