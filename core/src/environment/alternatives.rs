//! Keys that exclude each other. Where a later layer chose another way, what an earlier layer said of the old way is
//! forgotten; where one layer says both, that is a fault.

use super::{
    faults::{Draft, Sink},
    file::{Root, StrategyName},
    layers::Rank,
    slot::{Entry, Origin, Tables},
};
use crate::spec::Controller;

/// A slot that can be forgotten.
trait Forget {
    fn origin(&self) -> Option<Origin>;
    fn forget(&mut self);
}

impl<T> Forget for Entry<T> {
    fn origin(&self) -> Option<Origin> {
        self.origin()
    }

    fn forget(&mut self) {
        self.drop();
    }
}

impl<T> Forget for Tables<T> {
    fn origin(&self) -> Option<Origin> {
        self.origin
    }

    fn forget(&mut self) {
        self.drop();
    }
}

type Way<'r> = Vec<(&'static str, &'r mut dyn Forget)>;

/// Leaves one way of saying each thing.
pub(crate) fn settle(root: &mut Root, ranks: &[Rank], sink: &mut Sink<'_>) {
    let build = &mut root.service.keys.build.keys;
    settle_ways(
        vec![("service.build.binary", &mut build.binary)],
        vec![("service.build.folder", &mut build.folder), ("service.build.entrypoint", &mut build.entrypoint)],
        ranks,
        sink,
    );
    let scale = &mut root.scale.keys;
    settle_ways(
        vec![("scale.target_cpu_percent", &mut scale.target_cpu_percent)],
        vec![("scale.steps", &mut scale.steps)],
        ranks,
        sink,
    );
    settle_strategy(root, ranks, sink);
    let rollout = &mut root.rollout.keys;
    settle_ways(
        vec![("rollout.weight", &mut rollout.weight), ("rollout.pause", &mut rollout.pause)],
        vec![("rollout.steps", &mut rollout.steps)],
        ranks,
        sink,
    );
}

fn rank(origin: Origin, ranks: &[Rank]) -> Rank {
    ranks.get(usize::from(origin.value.layer)).copied().unwrap_or(Rank::Base)
}

fn settle_ways<'r>(mut one: Way<'r>, mut other: Way<'r>, ranks: &[Rank], sink: &mut Sink<'_>) {
    let latest = |way: &Way<'_>| {
        let set = way.iter().filter_map(|(key, slot)| slot.origin().map(|origin| (rank(origin, ranks), *key, origin)));
        set.max_by_key(|(rank, ..)| *rank)
    };
    let (Some((rank_one, key_one, _)), Some((rank_other, key_other, origin))) = (latest(&one), latest(&other)) else {
        return;
    };
    if rank_one == rank_other {
        let draft = Draft::error(format!("`{key_other}` and `{key_one}` are two ways of saying the same"));
        sink.add(origin.key, draft.help("leave one of them out"));
    }
    let dropped = if rank_one > rank_other { &mut other } else { &mut one };
    dropped.iter_mut().for_each(|(_, slot)| slot.forget());
}

/// Forgets the parameters of another strategy than the one that was chosen last.
fn settle_strategy(root: &mut Root, ranks: &[Rank], sink: &mut Sink<'_>) {
    let rollout = &mut root.rollout.keys;
    if rollout.strategy.get().is_none() && rollout.strategy.origin().is_some() {
        return;
    }
    let strategy = rollout.strategy();
    let chosen = rollout.strategy.origin().map_or(Rank::Base, |origin| rank(origin, ranks));
    let parameters: [(&str, StrategyName, &mut dyn Forget); 7] = [
        ("weight", StrategyName::Canary, &mut rollout.weight),
        ("pause", StrategyName::Canary, &mut rollout.pause),
        ("steps", StrategyName::Canary, &mut rollout.steps),
        ("percent", StrategyName::Linear, &mut rollout.percent),
        ("every", StrategyName::Linear, &mut rollout.every),
        ("batch_percent", StrategyName::Rolling, &mut rollout.batch_percent),
        ("min_healthy_percent", StrategyName::Rolling, &mut rollout.min_healthy_percent),
    ];
    for (key, of, slot) in parameters {
        let Some(origin) = slot.origin().filter(|_| of != strategy) else { continue };
        if rank(origin, ranks) >= chosen {
            let message =
                format!("`rollout.{key}` belongs to strategy {}, and the strategy is {}", word(of), word(strategy));
            sink.add(origin.key, Draft::error(message).help(format!("choose strategy = {} or leave it out", word(of))));
        }
        slot.forget();
    }
    // Only ECS itself can do these, so an earlier choice of CodeDeploy was a choice for the earlier strategy.
    let ecs_only = matches!(strategy, StrategyName::Rolling | StrategyName::Recreate);
    let earlier = rollout.controller.origin().is_some_and(|origin| rank(origin, ranks) < chosen);
    if ecs_only && earlier && rollout.controller.get() == Some(&Controller::Codedeploy) {
        rollout.controller.drop();
    }
}

/// The name of a strategy in quotes, as it is written.
fn word(strategy: StrategyName) -> String {
    toml::Value::try_from(strategy).map_or_else(|_| format!("{strategy:?}"), |value| value.to_string())
}
