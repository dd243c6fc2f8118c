//! What the in-memory provider makes of being steered.

use std::collections::BTreeMap;

use dbird_core::{ProviderError, ReleaseId, Steer, Weights, provider::ErrorKind};

use super::{
    cloud::{Cloud, error},
    rollout::{BACK_MS, DRAIN_MS, Part, READY_MS, Rollout, SHIFT_MS, Stage},
    running::Running,
};
use crate::broken::Fault;

impl Cloud {
    /// Moves a rollout on. A call that comes after its end changes nothing.
    pub(super) fn steer(&mut self, release: ReleaseId, steer: &Steer, now_ms: u64) -> Result<(), ProviderError> {
        let Some(mut rollout) = self.rollouts.get(&release).cloned() else {
            return Err(error(ErrorKind::NotFound, "steer", format!("no rollout of {release}")));
        };
        let conflict = |why: &str| Err(error(ErrorKind::Conflict, "steer", format!("{release} {why}")));
        let everything = self.weights.of(release) == 100;
        match (steer, rollout.stage.clone()) {
            (Steer::Shift { .. }, _) if rollout.journey.is_some() => {
                return Err(error(ErrorKind::Unsupported, "steer", "the cloud moves the traffic".to_owned()));
            }
            (Steer::Finish, Stage::Baking { .. }) => self.ends_bake(&mut rollout, now_ms),
            (Steer::Shift { .. }, Stage::RolledBack) if self.fault == Some(Fault::ObeysLateCalls) => {
                rollout.stage = Stage::Ready;
                self.restart(release, now_ms);
                self.move_traffic(Weights::all(release), now_ms);
            }
            (Steer::Shift { weights, copies }, Stage::Ready | Stage::Shifting { .. }) => {
                self.check_weights(release, weights, &rollout)?;
                self.check_copies(weights, copies)?;
                let same = match &rollout.stage {
                    Stage::Shifting { to, .. } => to == weights && rollout.copies == *copies,
                    _ => self.weights == *weights && self.has_copies(copies),
                };
                if !same {
                    rollout.say(now_ms, "traffic moves");
                    rollout.copies.clone_from(copies);
                    self.begin_shift(&mut rollout, weights.clone(), now_ms);
                }
            }
            (Steer::Shift { .. }, Stage::Making { .. }) => return conflict("is not ready for traffic"),
            (Steer::Shift { .. }, _) => return conflict("gets no traffic any more"),
            (Steer::Finish, Stage::Ready) if everything => {
                rollout.say(now_ms, "the previous release drains");
                rollout.stage = Stage::Finishing { until_ms: now_ms + DRAIN_MS };
            }
            (Steer::Finish, Stage::Finishing { .. } | Stage::Finished) if self.fault == Some(Fault::FinishesOnce) => {
                return conflict("was told to finish already");
            }
            (Steer::Finish, Stage::Finishing { .. } | Stage::Finished) => {}
            (Steer::Finish, _) => return conflict("does not have all traffic"),
            (Steer::Stop { .. }, Stage::RollingBack { .. } | Stage::RolledBack) => {}
            (Steer::Stop { .. }, Stage::Finished) => return conflict("has taken over"),
            (Steer::Stop { .. }, _) => {
                rollout.say(now_ms, "traffic goes back");
                self.begin_way_back(&mut rollout, now_ms);
            }
            (Steer::Continue { gate }, _) => self.let_on(&mut rollout, gate, now_ms)?,
        }
        self.rollouts.insert(release, rollout);
        Ok(())
    }

    fn begin_shift(&mut self, rollout: &mut Rollout, to: Weights, now_ms: u64) {
        let (part, takes_ms) = if rollout.cold && to != self.weights {
            let others: Vec<_> = self.running.keys().copied().filter(|id| to.of(*id) == 0).collect();
            for id in others {
                self.stop_all(id);
            }
            (Part::Stopping, DRAIN_MS)
        } else {
            if self.fault == Some(Fault::StopsBeforeStarting) {
                self.shrink(&rollout.copies);
                self.each_copy(Running::drop_leaving);
            }
            let mut grows = false;
            for (id, count) in &rollout.copies {
                grows |= self.running.get_mut(id).is_some_and(|running| running.grow(*count as usize));
            }
            if grows { (Part::Starting, READY_MS) } else { (Part::Moving, SHIFT_MS) }
        };
        rollout.stage = Stage::Shifting { to, part, until_ms: now_ms + takes_ms };
    }

    pub(super) fn begin_way_back(&mut self, rollout: &mut Rollout, now_ms: u64) {
        let parent = rollout.parent.and_then(|parent| self.running.get_mut(&parent));
        let (part, takes_ms) = match parent {
            Some(_) if self.fault == Some(Fault::LeavesTheParentSmall) => (Part::Moving, BACK_MS),
            Some(_) if rollout.cold => {
                let stops = self.stop_all(rollout.handle.release);
                (Part::Stopping, if stops { DRAIN_MS } else { 0 })
            }
            Some(parent) => {
                parent.drop_leaving();
                if parent.grow(parent.replicas()) { (Part::Starting, READY_MS) } else { (Part::Moving, BACK_MS) }
            }
            None => (Part::Moving, BACK_MS),
        };
        rollout.stage = Stage::RollingBack { part, until_ms: now_ms + takes_ms };
    }

    fn has_copies(&self, copies: &BTreeMap<ReleaseId, u32>) -> bool {
        let has = |(id, count): (&ReleaseId, &u32)| {
            self.running.get(id).is_some_and(|r| r.staying() == (*count as usize).min(r.replicas()))
        };
        copies.iter().all(has)
    }

    fn check_copies(&self, weights: &Weights, copies: &BTreeMap<ReleaseId, u32>) -> Result<(), ProviderError> {
        let invalid = |why: String| Err(error(ErrorKind::Invalid, "steer", why));
        if let Some(stranger) = copies.keys().find(|id| !self.running.contains_key(id)) {
            return invalid(format!("{stranger} is not here to have copies"));
        }
        match copies.iter().find(|(id, count)| **count == 0 && weights.of(**id) > 0) {
            Some((id, _)) => invalid(format!("{id} can't have traffic without a copy")),
            None => Ok(()),
        }
    }

    fn check_weights(&self, release: ReleaseId, weights: &Weights, rollout: &Rollout) -> Result<(), ProviderError> {
        let invalid = |why: String| Err(error(ErrorKind::Invalid, "steer", why));
        let sum: u32 = weights.0.values().map(|w| u32::from(*w)).sum();
        if sum != 100 {
            return invalid(format!("weights sum to {sum}"));
        }
        if let Some(stranger) = weights.0.keys().find(|id| !self.running.contains_key(id)) {
            return invalid(format!("{stranger} does not run"));
        }
        if rollout.exclusive && weights.of(release) != 100 {
            return invalid("only one process may open the store".to_owned());
        }
        if rollout.cold && weights.0.values().any(|weight| *weight != 100 && *weight != 0) {
            return invalid("one release runs at a time".to_owned());
        }
        Ok(())
    }
}
