//! Looks at every target once a simulated minute and sets its count. It decides nothing that a policy could.

use std::sync::{Arc, Weak};

use super::{Inner, fleet::Fleet};

const MINUTE_MS: u64 = 60_000;

/// Begins to look after the targets, unless somebody does.
pub(super) fn look_after<F: Fleet>(fleet: &Arc<F>) {
    if fleet.own().with(|inner| std::mem::replace(&mut inner.is_looked_after, true)) {
        return;
    }
    let (clock, weak) = (fleet.clock(), Arc::downgrade(fleet));
    tokio::spawn(async move {
        let mut next_ms = clock.now_ms() + MINUTE_MS;
        loop {
            clock.sleep_until_ms(next_ms).await;
            next_ms = (next_ms + MINUTE_MS).max(clock.now_ms());
            if !turn(&weak).await {
                return;
            }
        }
    });
}

/// One minute's look at everything; whether there is anything left to look at.
async fn turn<F: Fleet>(weak: &Weak<F>) -> bool {
    let Some(fleet) = weak.upgrade() else { return false };
    let resources = fleet.own().with(|inner| {
        inner.is_looked_after = !inner.targets.is_empty();
        inner.targets.keys().cloned().collect::<Vec<_>>()
    });
    for resource in &resources {
        one(&fleet, resource).await;
    }
    !resources.is_empty()
}

async fn one<F: Fleet>(fleet: &Arc<F>, resource: &str) {
    let Some(desired) = fleet.desired(resource) else { return };
    let cpu_percent = fleet.cpu_percent(resource);
    let policies = |inner: &Inner| -> Vec<(String, String)> {
        let target = inner.targets.get(resource);
        target.into_iter().flat_map(|t| t.policies.iter().map(|(name, p)| (name.clone(), p.arn.clone()))).collect()
    };
    let now = fleet.clock().now_ms();
    // Of several policies the one that wants most tasks wins.
    let mut wanted: Option<(u32, String, String)> = None;
    for (name, arn) in fleet.own().with(|inner| policies(inner)) {
        let ringing = fleet.ringing(&arn).await;
        let beyond = ringing.as_ref().map(|(_, threshold)| cpu_percent.unwrap_or(*threshold) - threshold);
        let wants = fleet.own().with(|inner| {
            inner.targets.get_mut(resource)?.policies.get_mut(&name)?.wants(desired, cpu_percent, beyond, now)
        });
        let Some(wants) = wants.filter(|wants| wanted.as_ref().is_none_or(|(most, ..)| wants > most)) else { continue };
        let cause = match ringing {
            Some((alarm, _)) => format!("monitor alarm {alarm} in state ALARM triggered policy {name}"),
            None => format!("the average CPU utilisation triggered policy {name}"),
        };
        wanted = Some((wants, name, cause));
    }
    let set = fleet.own().with(|inner| {
        let target = inner.targets.get_mut(resource).filter(|t| !t.policies.is_empty())?;
        let (count, name, cause) =
            wanted.unwrap_or((desired, String::new(), "the capacity was outside of its limits".to_owned()));
        let count = count.clamp(target.min, target.max);
        let [no_in, no_out, _] = target.suspended;
        if count == desired || (count < desired && no_in) || (count > desired && no_out) {
            return None;
        }
        if let Some(policy) = target.policies.get_mut(&name) {
            policy.acted(now);
        }
        inner.note(resource, count, &cause, now);
        Some(count)
    });
    if let Some(count) = set {
        fleet.set_desired(resource, count);
    }
}
