//! One plan with its faults and deaths, and the truth that must hold afterwards.

use std::sync::Arc;

use dbird_core::{Observed, Outcome, Release, ReleaseId, rollout::Request};
use dbird_driver::{Asked, Error, Event, Machine, Operator, Order, Series};
use dbird_testkit::{
    broken::Fault,
    faulty::{Dice, Faulty, Fuse, Rates},
};

use crate::{
    broken::Breaks,
    plan::{Plan, request},
    support::{Fused, World, course, dead, documents, far_away},
};

/// Lives that a plan may take before it has to end without a fault.
const LIVES_MAX: u32 = 5;
/// Gates that a plan may be left at.
const GATES_MAX: u32 = 4;

/// What the record says where a cloud had ended what was to be undone.
const TOO_LATE: &str = "; it was too late to undo it";

/// How a plan ended, with its strategy.
pub(crate) type End = (&'static str, Outcome);

/// Lives through one seed; what was found wrong.
pub(crate) async fn live_through(seed: u64, fault: Option<Fault>, breaks: Option<Breaks>) -> Result<End, String> {
    let dice = Dice::new(seed);
    let plan = Plan::choose(&dice);
    let world = World::with(fault);
    let mut old = None;
    if !plan.first_release {
        old = world.deploy(plan.before(), &course()).await.map_err(|e| e.to_string())?.live;
    }
    let before = world.observed().await;
    world.events.lock().map_err(|e| e.to_string())?.clear();
    let order = world.order(documents(plan.body.clone()), plan.reason.clone(), &plan.course).await;
    let candidate = ReleaseId(old.map_or(1, |r| r.0 + 1));

    // In some nobody dies: what takes many steps comes to its end only there.
    let calm = dice.below(3) == 0;
    let (mut networks, mut sleepers) = (Vec::new(), Vec::new());
    for life in 0..LIVES_MAX {
        let last = life + 1 == LIVES_MAX;
        let fuse = Fuse::new((!last && !calm).then(|| 1 + dice.below(90)));
        let rates = if last { Rates::default() } else { plan.rates };
        let seed = dice.below(u64::MAX);
        let network = Arc::new(Faulty::new(world.provider.clone(), world.clock.clone(), seed, rates, fuse.clone()));
        let store = Arc::new(Fused { inner: world.store.clone(), fuse: fuse.clone() });
        let far = !last && dice.below(4) == 0;
        let machine = match (last, far) {
            (true, _) => Machine::here(),
            (_, true) => far_away(),
            _ => dead(),
        };
        let store = breaks.map_or(store.clone() as _, |b| b.store(store));
        let mut operator = world.operator_with(network.clone(), store).running_as(machine);
        if let Some(breaks) = breaks {
            operator = breaks.operator(operator, candidate);
        }
        networks.push(network);
        if plan.people && dice.below(2) == 0 {
            stray_request(&world, candidate, &dice).await?;
        }
        let no_wait = dice.below(2) == 0;
        let person = (plan.people && dice.below(3) == 0).then(|| request(&dice));
        let mut one = Box::pin(one_life(operator, order.clone(), old, no_wait, person));
        let ended: Result<bool, Error> = tokio::select! {
            biased;
            ended = &mut one => ended,
            () = fuse.death() => Ok(false),
        };
        // A laptop far away may only have been closed. Before it began it may begin later, which is nothing wrong.
        let begun = world.operator().unfinished().await.map_err(|e| e.to_string())?.is_some();
        if far && fuse.blown() && begun {
            sleepers.push((one, fuse.clone()));
        }
        match ended {
            Ok(true) => break,
            Ok(false) if !last => {}
            Err(Error::Parked { .. } | Error::AtGate { .. }) => {
                parked(&world, old).await?;
                if last {
                    break;
                }
            }
            // The cloud goes on alone.
            Err(Error::Left { .. }) if plan.course.is_cloud_driven() => {
                if last {
                    break;
                }
            }
            // The network was too bad for too long, or somebody else is still thought to be at work: the next life goes on.
            Err(Error::Unfinished { .. } | Error::Provider(_)) if !last => {}
            // It was asked for what makes no sense there; that changes nothing.
            Err(Error::NoRollout | Error::Refused(_)) => {}
            Ok(false) => return Err("it died without a reason to".to_owned()),
            Err(e) => return Err(format!("life {} ended with: {e}", life + 1)),
        }
    }
    let promotes = dice.below(2) == 0;
    let operator = match breaks {
        Some(breaks) => breaks.operator(world.operator(), candidate),
        None => world.operator(),
    };
    pass_gates(&world, &operator, old, promotes).await?;
    // A hook whose driver died ends by itself.
    world.clock.advance(10_000);
    settled(&world, &before, old).await?;
    // Whoever wakes up now was overtaken long ago: it stops, and nothing changes.
    for (one, fuse) in sleepers {
        fuse.wake();
        // It may also find that all was done by others.
        let woken = tokio::time::timeout(std::time::Duration::from_secs(10), one).await;
        drop(woken.map_err(|_| "whoever woke up does not come to an end")?);
    }
    world.clock.advance(10_000);
    settled(&world, &before, old).await?;
    let quiet = world.observed().await;
    for network in &networks {
        network.deliver_late().await;
    }
    world.clock.advance(10_000);
    let after = world.observed().await;
    if after.digest() != quiet.digest() || after.releases.len() != quiet.releases.len() {
        return Err(format!("a late call changed {:?} to {:?}", shares(&quiet), shares(&after)));
    }
    if plan.course.is_cloud_driven() && world.told(|e| matches!(e, Event::Shifting { .. })) > 0 {
        return Err("traffic was moved that the cloud moves".to_owned());
    }
    let outcome = settled(&world, &before, old).await?;
    if outcome == Outcome::Succeeded && plan.must_be_noticed() && !(promotes && plan.strategy == "gated") {
        return Err("its errors went unnoticed".to_owned());
    }
    Ok((plan.strategy, outcome))
}

/// What one command does before it ends or dies. True when the plan has ended.
async fn one_life(
    operator: Operator,
    order: Order,
    old: Option<ReleaseId>,
    no_wait: bool,
    person: Option<Request>,
) -> Result<bool, Error> {
    if let Some(request) = person
        && operator.unfinished().await?.is_some()
    {
        return match operator.ask(request, no_wait).await? {
            Asked::Ended(_) => Ok(true),
            // Whoever was thought to drive it is not there any more.
            Asked::Taken { .. } | Asked::Noted { .. } => Ok(false),
        };
    }
    if operator.recover().await?.is_some() {
        return Ok(true);
    }
    // A death before anything began leaves the plan to the next life.
    if operator.history(1).await?.last().map(|r| r.id) > old {
        return Ok(true);
    }
    operator.carry_out(Order { no_wait, ..order }).await.map(|_| true)
}

/// Somebody has asked for something, of this release or of another one.
async fn stray_request(world: &World, candidate: ReleaseId, dice: &Dice) -> Result<(), String> {
    let last = world.store.last(Series::Requests, 1).await.map_err(|e| e.to_string())?.pop().unwrap_or(0);
    let release = candidate.0 + dice.below(2);
    let asked = serde_json::json!({
        "format": 1, "release": release, "request": request(dice), "by": "bob@far", "run": format!("stray-{last}"),
        "at_unix_ms": 1
    });
    world.store.create(Series::Requests, last + 1, asked.to_string().into_bytes()).await.map_err(|e| e.to_string())?;
    Ok(())
}

/// What was left at gates is taken to an end.
async fn pass_gates(world: &World, operator: &Operator, old: Option<ReleaseId>, promotes: bool) -> Result<(), String> {
    for _ in 0..GATES_MAX {
        match operator.recover().await {
            Ok(_) => return Ok(()),
            Err(Error::AtGate { .. }) => parked(world, old).await?,
            Err(e) => return Err(format!("afterwards: {e}")),
        }
        let request = if promotes { Request::Promote } else { Request::Abort { why: String::new() } };
        match operator.ask(request, true).await {
            Ok(Asked::Ended(_)) | Err(Error::Parked { .. }) => {}
            other => return Err(format!("at a gate: {other:?}")),
        }
    }
    Err("there is no end of gates".to_owned())
}

/// At a recorded gate both releases share the traffic as the journal says, and nobody is at work.
async fn parked(world: &World, old: Option<ReleaseId>) -> Result<(), String> {
    let operator = world.operator();
    let unfinished = operator.unfinished().await.map_err(|e| e.to_string())?.ok_or("it is parked nowhere")?;
    let weight = unfinished.parked.ok_or("nobody knows at which gate it is parked")?;
    let observed = world.observed().await;
    let share = observed.releases.iter().find(|r| r.id == unfinished.release).map(|r| r.weight);
    let other = observed.releases.iter().find(|r| Some(r.id) == old).map(|r| r.weight);
    if share != Some(weight) || other != Some(100 - weight) {
        return Err(format!("parked at {weight} %, but {:?} serve", shares(&observed)));
    }
    match unfinished.holder {
        Some(held) if held.by.machine != far_away() => Err(format!("parked, and still held: {held}")),
        _ => Ok(()),
    }
}

fn shares(observed: &Observed) -> Vec<(ReleaseId, u8)> {
    observed.releases.iter().map(|r| (r.id, r.weight)).collect()
}

/// The truth: exactly one release has everything, or none where none should be, and the record says so.
async fn settled(world: &World, before: &Observed, old: Option<ReleaseId>) -> Result<Outcome, String> {
    let operator = world.operator();
    let history: Vec<Release> = operator.history(10).await.map_err(|e| e.to_string())?;
    let Some(record) = history.last().filter(|r| Some(r.id) > old) else {
        return Err("there is no record".to_owned());
    };
    if history.iter().filter(|r| Some(r.id) > old).count() != 1 {
        let ids: Vec<_> = history.iter().map(|r| r.id).collect();
        return Err(format!("the plan was carried out more than once: {ids:?}"));
    }
    let wanted = match record.outcome {
        Outcome::Succeeded => vec![(record.id, 100)],
        Outcome::RolledBack if old.is_some() => old.map(|id| (id, 100)).into_iter().collect(),
        Outcome::Removed if old.is_none() => Vec::new(),
        Outcome::Destroyed => Vec::new(),
        // A cloud may have been faster than whoever wanted it undone.
        Outcome::Failed if record.why.ends_with(TOO_LATE) => vec![(record.id, 100)],
        other => return Err(format!("the record says {other:?}: {}", record.why)),
    };
    let live = world.observed().await;
    if shares(&live) != wanted {
        return Err(format!("the record says {:?} ({}), but {:?} serve", record.outcome, record.why, shares(&live)));
    }
    if record.outcome != Outcome::Succeeded && record.outcome != Outcome::Destroyed && record.why.is_empty() {
        return Err("nobody knows why it was undone".to_owned());
    }
    if record.outcome == Outcome::RolledBack {
        let copies = |o: &Observed| o.releases.iter().map(|r| r.tasks.len()).collect::<Vec<_>>();
        if live.documents != before.documents {
            return Err("the old release has another document than before".to_owned());
        }
        if copies(&live) != copies(before) {
            return Err(format!("the old release has {:?} copies, and had {:?}", copies(&live), copies(before)));
        }
    }
    if before.data.iter().any(|(name, _)| !live.data.contains_key(name)) {
        return Err("data is gone".to_owned());
    }
    if operator.unfinished().await.map_err(|e| e.to_string())?.is_some() {
        return Err("the journal is open".to_owned());
    }
    // One that died far away can't be known to be dead from here; the next command watches it.
    let holder = operator.holder().await.map_err(|e| e.to_string())?;
    if holder.is_some_and(|h| h.by.machine != far_away()) {
        return Err("the lease is held".to_owned());
    }
    if !world.provider.is_quiet(&world.target) {
        return Err("something is still under way".to_owned());
    }
    Ok(record.outcome)
}
