//! One step of a rolling deployment: how many tasks of the new release may begin and how many of the old may go, within the
//! fewest healthy and the most of all that the service allows. It is a pure function of what is counted.

use super::{
    scheduler::{Counted, Doing, Ending, scaling, worst},
    service::Service,
};

/// What to do now. At 0/100 nothing begins while a process of the old release is left.
pub(super) fn step(service: &Service, counted: &[Counted], now_ms: u64) -> Doing {
    let mut doing = Doing::default();
    let desired = if service.status == "ACTIVE" { service.desired } else { 0 };
    let (least, most) = service.bounds();
    let all = || service.sets.iter().zip(counted);
    let Some((primary, new)) = all().find(|(s, _)| s.is_primary) else { return doing };
    let goal = if primary.is_wanted { desired } else { 0 };
    let left: u32 = counted.iter().map(|c| c.left).sum();
    let missing = goal.saturating_sub(new.alive());
    if missing > 0 && now_ms >= primary.not_before_ms {
        // Where nothing else is there, the most does not count: a service of one task at 200 % is still one task.
        let room = most.max(if left == 0 { 1 } else { 0 }).saturating_sub(left);
        let n = missing.min(room);
        if n > 0 {
            doing.begin.push((primary.id.clone(), n));
        }
    }
    let ends = |count: &Counted, n: u32, id: &str| -> Vec<Ending> {
        let reason = scaling(id);
        worst(count, n).map(|task| Ending { task, reason: reason.clone() }).collect()
    };
    doing.end.extend(ends(new, new.alive().saturating_sub(goal), &primary.id));
    let healthy: u32 = counted.iter().map(Counted::healthy).sum();
    // More than the service needs, or as many as it can do without where there is no room for new ones.
    let is_full = missing > 0 && left >= most;
    let keep = if is_full { least } else { desired };
    let mut spare = healthy.saturating_sub(keep);
    for (set, old) in all().filter(|(s, _)| !s.is_primary) {
        // What isn't healthy is missed by nobody.
        let idle = old.alive() - old.healthy();
        let idle = if is_full || new.healthy() >= goal || set.rollout == "FAILED" { idle } else { 0 };
        let n = spare.min(old.healthy());
        spare -= n;
        doing.end.extend(ends(old, idle + n, &primary.id));
    }
    doing
}
