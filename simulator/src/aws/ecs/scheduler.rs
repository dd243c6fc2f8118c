//! Keeps a service's tasks at their number, in the background: begins those that are missing, replaces those that died or are
//! unhealthy, ends those that are too many. Which release should have how many is the deployments' to decide.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    State, balance, life,
    requests::{self, Order},
    rolling,
    service::{Controller, Service, Set},
    task::Status,
};
use crate::aws::World;

/// How often a service is looked at while something changes, in simulated time, and at least in ours.
const LOOK_MS: u64 = 1_000;
const LOOK_LEAST: Duration = Duration::from_millis(15);
/// How often when nothing does.
const CALM: Duration = Duration::from_millis(200);
/// Pauses between tries after failures in a row: none at first, then twice as long each time.
const PAUSE_AFTER: u32 = 3;
const PAUSE_MS: u64 = 10_000;
const PAUSE_MS_MAX: u64 = 300_000;

/// How each target is, by target group.
type Health = BTreeMap<String, BTreeMap<String, String>>;

/// A task that is to end.
pub(super) struct Ending {
    pub(super) task: String,
    pub(super) reason: String,
}

/// What one look at a service leads to.
#[derive(Default)]
pub(super) struct Doing {
    /// So many more of this set.
    pub(super) begin: Vec<(String, u32)>,
    pub(super) end: Vec<Ending>,
}

/// A set's tasks, as the scheduler counts them.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    /// Wanted and not ended, oldest first: id, and whether it is healthy.
    pub(super) alive: Vec<(String, bool)>,
    /// Processes that are left, wanted or not.
    pub(super) left: u32,
}

impl Counted {
    pub(super) fn alive(&self) -> u32 {
        u32::try_from(self.alive.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn healthy(&self) -> u32 {
        u32::try_from(self.alive.iter().filter(|(_, healthy)| *healthy).count()).unwrap_or(u32::MAX)
    }
}

/// Looks after a service until it is gone.
pub(super) fn begin(world: &Arc<World>, arn: String) {
    let world = world.clone();
    tokio::spawn(async move {
        loop {
            let Some(wake) = world.ecs.state().services.get(&arn).map(|s| s.wake.clone()) else { return };
            let Some(is_calm) = look(&world, &arn) else { return };
            let pause = if is_calm { CALM } else { world.clock.real(LOOK_MS).clamp(LOOK_LEAST, CALM) };
            // Whatever wakes it first.
            let _ = tokio::time::timeout(pause, wake.notified()).await;
        }
    });
}

/// Says that something happened to a task of a service.
pub(super) fn wake(world: &World, task: &str) {
    let state = world.ecs.state();
    let service = state.tasks.get(task).and_then(|t| t.of.as_ref()).and_then(|(arn, _)| state.services.get(arn));
    if let Some(service) = service {
        service.wake.notify_one();
    }
}

/// Adds an event to the service of a task, if it has one.
pub(super) fn tell(world: &World, task: &str, what: &str) {
    let now = world.clock.now_ms();
    let mut state = world.ecs.state();
    let arn = state.tasks.get(task).and_then(|t| t.of.as_ref()).map(|(arn, _)| arn.clone());
    if let Some(service) = arn.and_then(|arn| state.services.get_mut(&arn)) {
        service.tell(now, what);
    }
}

/// Whether a task belongs to what its service was at first, or to no service.
pub(super) fn is_of_first_set(world: &World, task: &str) -> bool {
    let state = world.ecs.state();
    let Some((arn, set)) = state.tasks.get(task).and_then(|t| t.of.as_ref()) else { return true };
    let sets = state.services.get(arn).map(|s| s.sets.as_slice()).unwrap_or_default();
    sets.iter().find(|s| s.id == *set).is_none_or(|s| s.is_first)
}

/// One look; whether all is as it should be, or none if the service is gone.
fn look(world: &Arc<World>, arn: &str) -> Option<bool> {
    let groups: Vec<String> = {
        let state = world.ecs.state();
        if state.is_ending {
            return None;
        }
        let service = state.services.get(arn)?;
        service.sets.iter().filter_map(|s| s.revision.target_group.clone()).collect()
    };
    let health: Health =
        groups.into_iter().map(|group| (group.clone(), balance::health(world, &group).into_iter().collect())).collect();
    let mut state = world.ecs.state();
    let mut service = state.services.remove(arn)?;
    let (begun, is_calm, is_gone) = act(world, &mut state, &mut service, &health);
    if is_gone {
        service.status = "INACTIVE";
        service.sets.clear();
    }
    state.services.insert(arn.to_owned(), service);
    drop(state);
    for id in begun {
        life::begin(world, id);
    }
    (!is_gone).then_some(is_calm)
}

fn act(world: &Arc<World>, state: &mut State, service: &mut Service, health: &Health) -> (Vec<String>, bool, bool) {
    let now = world.clock.now_ms();
    judge(state, service, health, now);
    let counted: Vec<Counted> = service.sets.iter().map(|set| count(state, service, set, health)).collect();
    settle(service, &counted, now);
    let is_rolling = service.controller == Controller::Ecs && service.strategy() == "ROLLING";
    let doing = if is_rolling { rolling::step(service, &counted, now) } else { plain(service, &counted, now) };
    let is_quiet = doing.begin.is_empty() && doing.end.is_empty();
    end(state, service, doing.end, now);
    let begun = start(world, state, service, doing.begin, now);
    // Sets of which nothing is left are not told of any more, but the primary.
    let gone: Vec<String> = service
        .sets
        .iter()
        .filter(|s| !s.is_primary && !s.is_wanted && state.left(&service.arn, &s.id) == 0)
        .map(|s| s.id.clone())
        .collect();
    // A deployment that is under way still asks for its sets.
    service.sets.retain(|s| !gone.contains(&s.id) || (s.deployment.is_some() && s.deployment == service.deployment));
    let left: usize = service.sets.iter().map(|s| state.left(&service.arn, &s.id)).sum();
    let is_gone = service.status == "DRAINING" && left == 0;
    if service.is_steady {
        service.busy = None;
    }
    (begun, service.is_steady && is_quiet && service.deployment.is_none(), is_gone)
}

/// Each set has its number or none, at once.
fn plain(service: &Service, counted: &[Counted], now: u64) -> Doing {
    let mut doing = Doing::default();
    for (set, count) in service.sets.iter().zip(counted) {
        let goal = if set.is_wanted { service.desired } else { 0 };
        if count.alive() < goal && now >= set.not_before_ms {
            doing.begin.push((set.id.clone(), goal - count.alive()));
        }
        let surplus = count.alive().saturating_sub(goal);
        doing.end.extend(worst(count, surplus).map(|task| Ending { task, reason: scaling(&set.id) }));
    }
    doing
}

pub(super) fn scaling(set: &str) -> String {
    format!("Scaling activity initiated by (deployment {set})")
}

/// So many tasks of a set that can go with the least harm: those that are not healthy first, then the youngest.
pub(super) fn worst(count: &Counted, n: u32) -> impl Iterator<Item = String> + use<> {
    let mut all: Vec<(bool, usize, String)> =
        count.alive.iter().enumerate().map(|(at, (id, healthy))| (*healthy, usize::MAX - at, id.clone())).collect();
    all.sort();
    all.into_iter().take(n as usize).map(|(_, _, id)| id)
}

fn count(state: &State, service: &Service, set: &Set, health: &Health) -> Counted {
    let mut counted = Counted::default();
    let mut tasks: Vec<_> = state
        .tasks
        .values()
        .filter(|t| t.of.as_ref().is_some_and(|(arn, of)| *arn == service.arn && *of == set.id))
        .collect();
    tasks.sort_by_key(|t| (t.created_ms, t.id.clone()));
    for task in tasks {
        if !task.is_dead() {
            counted.left += 1;
        }
        if task.is_wanted() && !task.is_over() {
            let is_healthy = task.status == Status::Running && is_healthy(set, &task.ip, health);
            counted.alive.push((task.id.clone(), is_healthy));
        }
    }
    counted
}

fn is_healthy(set: &Set, ip: &str, health: &Health) -> bool {
    match &set.revision.target_group {
        None => true,
        // A target of a group that no listener leads to is never checked, and counts as ECS counts it: running.
        Some(group) => health
            .get(group)
            .and_then(|targets| targets.get(ip))
            .is_some_and(|state| matches!(state.as_str(), "healthy" | "unused")),
    }
}

/// Takes note of tasks that failed, and asks the unhealthy ones to stop.
fn judge(state: &mut State, service: &mut Service, health: &Health, now: u64) {
    let grace_ms = u64::try_from(service.grace_s).unwrap_or(0) * 1000;
    let resets = service.config.pointer("/deploymentCircuitBreaker/resetOnHealthyTask").and_then(|r| r.as_bool());
    let mut events = Vec::new();
    for task in state.tasks.values_mut() {
        let Some((arn, of)) = &task.of else { continue };
        if *arn != service.arn {
            continue;
        }
        let Some(set) = service.sets.iter_mut().find(|s| s.id == *of) else { continue };
        let target = set.revision.target_group.clone();
        if task.is_running() {
            let is_well = is_healthy(set, &task.ip, health);
            if is_well && !task.was_healthy {
                task.was_healthy = true;
                set.in_a_row = 0;
                set.not_before_ms = 0;
                if resets != Some(false) {
                    set.failed = 0;
                }
            }
            let is_ill = target.as_ref().and_then(|g| health.get(g)).and_then(|t| t.get(&task.ip));
            let ran_ms = now.saturating_sub(task.times.get("startedAt").copied().unwrap_or(now));
            if let (Some(group), Some("unhealthy")) = (&target, is_ill.map(String::as_str))
                && ran_ms >= grace_ms
            {
                let port =
                    service.load_balancers.first().and_then(|l| crate::aws::number(l, "containerPort")).unwrap_or(0);
                events.push(format!(
                    "(port {port}) is unhealthy in (target-group {group}) due to (reason Health checks failed)"
                ));
                life::ask(
                    task,
                    "ServiceSchedulerInitiated",
                    &format!("Task failed ELB health checks in (target-group {group})"),
                );
                task.has_failed = true;
                failed(set, now);
            }
        }
        let has_ended =
            task.stop.as_ref().is_some_and(|s| matches!(s.code, "TaskFailedToStart" | "EssentialContainerExited"));
        if has_ended && !task.has_failed && task.status >= Status::Stopping {
            task.has_failed = true;
            // One that was well for a while is replaced at once and counts for nothing.
            if !task.was_healthy {
                failed(set, now);
                if set.in_a_row == PAUSE_AFTER {
                    events.push(
                        "is unable to consistently start tasks successfully. For more information, see the Troubleshooting \
                         section of the Amazon ECS Developer Guide."
                            .to_owned(),
                    );
                }
            }
        }
    }
    for event in events {
        service.tell(now, &event);
    }
}

fn failed(set: &mut Set, now: u64) {
    set.failed += 1;
    set.in_a_row += 1;
    set.updated_ms = now;
    if set.in_a_row >= PAUSE_AFTER {
        let doublings = (set.in_a_row - PAUSE_AFTER).min(16);
        set.not_before_ms = now + (PAUSE_MS << doublings).min(PAUSE_MS_MAX);
    }
}

/// Takes note of what is steady.
fn settle(service: &mut Service, counted: &[Counted], now: u64) {
    let desired = service.desired;
    let mut is_all = true;
    for (set, count) in service.sets.iter_mut().zip(counted) {
        let goal = if set.is_wanted { desired } else { 0 };
        let is_steady = count.healthy() == goal && count.alive() == goal && count.left == goal;
        if is_steady && !set.is_steady {
            set.steady_since_ms = now;
        }
        set.is_steady = is_steady;
        is_all &= is_steady;
    }
    if is_all && !service.is_steady && service.status == "ACTIVE" {
        service.tell(now, "has reached a steady state.");
    }
    service.is_steady = is_all;
}

fn end(state: &mut State, service: &mut Service, ending: Vec<Ending>, now: u64) {
    let mut gone = Vec::new();
    for one in ending {
        if let Some(task) = state.tasks.get_mut(&one.task) {
            life::ask(task, "ServiceSchedulerInitiated", &one.reason);
            gone.push(format!("(task {})", one.task));
        }
    }
    if !gone.is_empty() {
        service.tell(now, &format!("has stopped {} running tasks: {}.", gone.len(), gone.join(" ")));
    }
}

fn start(
    world: &Arc<World>,
    state: &mut State,
    service: &mut Service,
    begin: Vec<(String, u32)>,
    now: u64,
) -> Vec<String> {
    let mut ids = Vec::new();
    for (set_id, n) in begin {
        let Some(set) = service.sets.iter_mut().find(|s| s.id == set_id) else { continue };
        if world.faults.has("no-capacity") {
            set.not_before_ms = now + PAUSE_MS_MAX;
            // ECS counts what it can't place as failed.
            set.failed += 1;
            service.tell(
                now,
                "was unable to place a task. Reason: Capacity is unavailable at this time. Please try again later or in a \
                 different availability zone. For more information, see the Troubleshooting section of the Amazon ECS Developer \
                 Guide.",
            );
            continue;
        }
        let revision = set.revision.clone();
        let Some(definition) = state.definition(&revision.definition).cloned() else { continue };
        let tags = match service.propagates.as_str() {
            "TASK_DEFINITION" => definition.tags.clone(),
            "SERVICE" => service.tags.clone(),
            _ => Vec::new(),
        };
        let order = Order {
            cluster: service.cluster.clone(),
            group: format!("service:{}", service.name),
            started_by: Some(set_id.clone()),
            of: Some((service.arn.clone(), set_id.clone())),
            overrides: serde_json::json!({ "containerOverrides": [] }),
            network: revision.network.clone(),
            tags,
            platform: revision.platform.clone(),
            has_exec: service.has_exec,
            target: revision.target_group.clone().zip(service.port()),
        };
        let made: Vec<String> = (0..n).map(|_| requests::make(world, state, &definition, order.clone())).collect();
        let names: Vec<String> = made.iter().map(|id| format!("(task {id})")).collect();
        service.tell(now, &format!("has started {n} tasks: {}.", names.join(" ")));
        service.is_steady = false;
        ids.extend(made);
    }
    ids
}
