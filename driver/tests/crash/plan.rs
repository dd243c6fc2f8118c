//! What is tried with a seed: a strategy, a service that behaves or does not, a network, and people who ask for things.

use dbird_core::{
    Reason,
    provider::Driver,
    rollout::{Course, Request},
    spec::{Analysis, HookWhen, NoData, WeightStep},
};
use dbird_testkit::{
    faulty::{Dice, Rates},
    memory::{Behaviour, Beside, Replicas, Serves, ServiceBody},
};

use crate::support::{self, body, canary, course, hook};

/// The strategies, each with about as many seeds.
pub(crate) const STRATEGIES: [&str; 11] = [
    "all-at-once",
    "blue-green",
    "swap",
    "recreate",
    "canary",
    "gated",
    "linear",
    "rolling",
    "blue-green beside",
    "linear beside",
    "gated beside",
];
/// Copies in a rolling release.
const COPIES: u32 = 4;

/// What is tried.
pub(crate) struct Plan {
    pub(crate) strategy: &'static str,
    pub(crate) first_release: bool,
    pub(crate) reason: Reason,
    pub(crate) body: ServiceBody,
    pub(crate) course: Course,
    pub(crate) rates: Rates,
    /// People ask for things.
    pub(crate) people: bool,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn choose(dice: &Dice) -> Plan {
        let strategy = STRATEGIES[dice.below(11) as usize];
        let behaves = match dice.below(10) {
            0 => Behaviour::Dies { last_words: "no".into() },
            1 => Behaviour::NeverReady,
            2 => Behaviour::DiesUnderTraffic { after_ms: dice.below(4_000) },
            3 if strategy == "swap" => Behaviour::FailsSwap,
            4 => Behaviour::Refused,
            5 => Behaviour::Restarts { every_ms: 200 + dice.below(2_000) },
            6 => Behaviour::Unready { after_ms: dice.below(3_000) },
            _ => Behaviour::Healthy,
        };
        let mut body = body("two", behaves);
        let mut course = of(strategy, dice);
        course.deadline_ms = 30_000;
        body.exclusive = strategy == "swap" || (strategy == "recreate" && dice.below(2) == 0);
        body.replicas = Replicas(if strategy == "rolling" { COPIES } else { 1 });
        if dice.below(2) == 0 {
            course.analysis = Some(analysis(dice));
            body.serves = serves(dice);
        }
        if dice.below(3) == 0 {
            let moments =
                [HookWhen::Before, HookWhen::BeforeTraffic, HookWhen::Step, HookWhen::After, HookWhen::Rollback];
            let when = moments[dice.below(5) as usize];
            let code = if dice.below(3) == 0 { "1" } else { "0" };
            course.hooks = vec![hook(when, &["exit", code])];
        }
        if strategy.ends_with("beside") {
            course.driven = Driver::Cloud;
            body.beside = Some(beside(&course, dice));
        }
        if dice.below(4) == 0 {
            let code = if dice.below(6) == 0 { "1" } else { "0" };
            let command = vec!["exit".into(), code.into(), "{file}".into()];
            course.copy = Some(dbird_core::snapshot::Copying { command, mount: "/data".into(), kept: 2 });
        }
        let first_release = dice.below(5) == 0;
        let reason = if !first_release && dice.below(10) == 0 { Reason::Destroy } else { Reason::Deploy };
        let rate = |bound: u64| if dice.below(2) == 0 { 0 } else { dice.below(bound) };
        let rates = Rates {
            lost_call: rate(150),
            lost_reply: rate(150),
            twice: rate(200),
            slow: rate(100),
            throttled: rate(100),
            again_later: rate(300),
        };
        Plan { strategy, first_release, reason, body, course, rates, people: dice.below(2) == 0 }
    }

    /// What serves before it.
    pub(crate) fn before(&self) -> ServiceBody {
        let Plan { body, .. } = self;
        ServiceBody { exclusive: body.exclusive, replicas: body.replicas, ..support::body("one", Behaviour::Healthy) }
    }

    /// It fails a good part of its requests, and is looked at for long enough that this must be noticed.
    pub(crate) fn must_be_noticed(&self) -> bool {
        let Some(analysis) = &self.course.analysis else { return false };
        let held = |w: &WeightStep| w.weight < 100 && (w.gate || w.pause_ms >= 2 * analysis.interval_ms);
        // Somebody may go on all the same; a first release has nobody to share traffic with.
        let ours = self.course.driven == Driver::Dbird;
        let judged = ours && !self.people && !self.first_release && self.reason == Reason::Deploy;
        judged && self.body.serves.errors_permille >= 300 && self.course.weights.iter().any(held)
    }
}

fn of(strategy: &str, dice: &Dice) -> Course {
    let step = |weight, pause_ms, gate| WeightStep { weight, pause_ms, gate };
    let named = Course { strategy: strategy.into(), ..course() };
    match strategy {
        "canary" => canary(),
        "swap" => Course { swap: true, ..named },
        "recreate" => Course { swap: true, cold: true, ..named },
        "gated" | "gated beside" => Course {
            weights: vec![step(10, 0, true), step(30, 1_000, false), step(60, 0, true), step(100, 0, false)],
            pause_limit_ms: 4_000,
            ..named
        },
        "linear" | "linear beside" => {
            let weights = (1..=5).map(|n| step(n * 20, if n < 5 { 700 } else { 0 }, false)).collect();
            Course { weights, ..named }
        }
        "rolling" => {
            let batch = 1 + dice.below(3) as u32;
            let batches: Vec<u32> = (1..=COPIES.div_ceil(batch)).map(|n| (n * batch).min(COPIES)).collect();
            let weights = batches.iter().map(|new| step((new * 100 / COPIES) as u8, 0, false)).collect();
            Course { weights, batches, copies: COPIES, ..named }
        }
        _ => named,
    }
}

/// The same as the cloud does it by itself.
fn beside(course: &Course, dice: &Dice) -> Beside {
    let shares = course.weights.iter().filter(|w| w.weight < 100).map(|w| (w.weight, w.pause_ms));
    let gates = course.weights.iter().any(|w| w.gate);
    let first_gate = gates || !course.hooks_at(HookWhen::BeforeTraffic).is_empty() || dice.below(2) == 0;
    let unclear_ms = if course.analysis.is_some() { course.pause_limit_ms } else { 0 };
    Beside {
        shares: shares.collect(),
        first_gate,
        gates,
        gate_limit_ms: course.pause_limit_ms,
        bake_ms: course.bake_ms + unclear_ms,
        bake_gate: dice.below(2) == 0,
        alarm_ms: (dice.below(6) == 0).then(|| dice.below(3_000)),
    }
}

fn analysis(dice: &Dice) -> Analysis {
    let no_data = [NoData::Pause, NoData::Pass, NoData::Fail][dice.below(3) as usize];
    Analysis {
        interval_ms: 200 + dice.below(400),
        count: 3,
        failure_limit: 1 + dice.below(2) as u32,
        min_samples: 20,
        no_data,
        baseline: dice.below(3) > 0,
        error_limit: 3,
        ..Analysis::default()
    }
}

fn serves(dice: &Dice) -> Serves {
    let (errors_permille, latency_ms, requests_per_s) = match dice.below(6) {
        0 | 1 => (300, 10, 2_000),
        2 => (0, 900, 2_000),
        3 => (0, 10, 0),
        _ => (0, 10, 2_000),
    };
    Serves { requests_per_s, errors_permille, latency_ms }
}

/// Something that somebody asks for.
pub(crate) fn request(dice: &Dice) -> Request {
    match dice.below(5) {
        0 => Request::Abort { why: "enough".into() },
        1 => Request::Pause,
        2 => Request::Resume,
        _ => Request::Promote,
    }
}
