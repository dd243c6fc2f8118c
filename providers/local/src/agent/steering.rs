//! How a rollout stands, and where it is steered to. It decides which of the calls make sense where a rollout is; what they
//! lead to is the course's.

use std::collections::BTreeMap;
use std::sync::Arc;

use dataplane::supervise::State as Copy;
use dbird_core::provider::{ErrorKind, Steer};
use dbird_core::{Handle, Phase, Progress, ProviderError, ReleaseId, Weights};
use serde_json::Value;

use super::keeper::Keeper;
use super::state::{Stage, State};
use super::steps::Token;
use crate::fault::{Adding, fault};

impl Keeper {
    /// How a step stands.
    pub(super) async fn poll(self: &Arc<Self>, handle: &Handle) -> Result<Progress, ProviderError> {
        let unknown = || {
            fault(
                ErrorKind::NotFound,
                "poll",
                format!("{} of {}", handle.step, handle.release),
                "this agent knows nothing of such a step",
            )
        };
        let Ok(token) = serde_json::from_str::<Token>(&handle.token) else { return self.poll_run(handle).await };
        match token {
            Token::Service => {
                let (progress, release) = self.progress_of(handle.release).ok_or_else(unknown)?;
                let endpoints = self.endpoints(Some(release)).await;
                let outputs =
                    endpoints.iter().map(|(name, url)| (format!("{name}_url"), Value::from(url.clone()))).collect();
                Ok(Progress { endpoints, outputs, ..progress })
            }
            Token::NoService => {
                let gone = self.read(|state| !state.removing);
                let mut progress = Progress::in_phase(if gone { Phase::Finished } else { Phase::Working });
                progress.waiting_for = if gone { String::new() } else { "the tasks to stop".to_owned() };
                Ok(progress)
            }
            token => {
                let known = self.lock().jobs.get(&token.text()).cloned();
                match known {
                    Some(progress) => Ok(progress),
                    // Begun by an agent that is no more; beginning again does no harm.
                    None => {
                        self.work_on(token);
                        Ok(Progress::in_phase(Phase::Working))
                    }
                }
            }
        }
    }

    fn progress_of(&self, release: ReleaseId) -> Option<(Progress, ReleaseId)> {
        let inner = self.lock();
        let rollout = inner.state.rollout_of(release)?;
        let mut progress = Progress::in_phase(rollout.stage.phase());
        progress.weights = if rollout.stage.is_over() { rollout.weights.clone() } else { inner.state.weights.clone() };
        progress.events.clone_from(&rollout.events);
        let about = |release: ReleaseId| {
            let statuses = inner.live.get(&release).map(|live| live.statuses()).unwrap_or_default();
            statuses
                .into_iter()
                .find(|status| status.state != Copy::Ready && !status.detail.is_empty())
                .map(|status| status.detail)
        };
        progress.waiting_for = match &rollout.stage {
            Stage::Starting => {
                format!(
                    "readiness of {release}{}",
                    about(release).map(|detail| format!(" ({detail})")).unwrap_or_default()
                )
            }
            Stage::Ready => about(release).map(|detail| format!("{release} ({detail})")).unwrap_or_default(),
            Stage::Shifting(_) => match self.front.waiting() {
                0 => about(release)
                    .map_or_else(|| "traffic to move".to_owned(), |detail| format!("{release} ({detail})")),
                waiting if inner.state.is_cold() => {
                    let other = rollout.parent().filter(|parent| inner.live.contains_key(parent));
                    let what =
                        other.map_or_else(|| format!("readiness of {release}"), |other| format!("the end of {other}"));
                    format!("{what}; {waiting} requests wait")
                }
                waiting => format!("the swap; {waiting} requests wait"),
            },
            Stage::Finishing => {
                let others = inner.state.releases.keys().filter(|other| **other != release);
                let waits: Vec<_> = others
                    .map(|other| format!("{other} ({} requests in flight)", self.front.in_flight(&other.to_string())))
                    .collect();
                format!("the end of {}", waits.join(", "))
            }
            Stage::RollingBack => match rollout.parent() {
                Some(parent) => format!(
                    "{parent} to serve again{}",
                    about(parent).map(|detail| format!(" ({detail})")).unwrap_or_default()
                ),
                None => format!("the end of {release}"),
            },
            Stage::Failed { .. } | Stage::Finished | Stage::RolledBack => String::new(),
        };
        let serving = inner.state.current().unwrap_or(release);
        Some((progress, if inner.state.releases.contains_key(&release) { release } else { serving }))
    }

    /// Moves a rollout on, or stops a one-off task: the handle says which, since both belong to a release.
    pub(super) async fn steer(&self, handle: &Handle, steer: &Steer) -> Result<(), ProviderError> {
        match (serde_json::from_str::<Token>(&handle.token), steer) {
            (Ok(Token::Service), _) => self.steer_rollout(handle, steer),
            (Err(_), Steer::Stop { .. }) => self.stop_run(handle).await,
            _ => Err(fault(
                ErrorKind::NotFound,
                "steer",
                format!("{} of {}", handle.step, handle.release),
                "only a rollout can be steered, and only a one-off task be stopped besides",
            )),
        }
    }

    fn steer_rollout(&self, handle: &Handle, steer: &Steer) -> Result<(), ProviderError> {
        const OPERATION: &str = "steer";
        let release = handle.release;
        let object = release.to_string();
        let refuse = |kind: ErrorKind, what: String| Err(fault(kind, OPERATION, object.clone(), what));
        let (stage, before, weights, asked) = {
            let inner = self.lock();
            let Some(rollout) = inner.state.rollout_of(release) else {
                return refuse(ErrorKind::NotFound, format!("there is no rollout of {release}"));
            };
            (rollout.stage.clone(), rollout.before.clone(), inner.state.weights.clone(), rollout.copies.clone())
        };
        let next = match (steer, &stage) {
            (Steer::Continue { gate }, _) => {
                return refuse(ErrorKind::Invalid, format!("there is no gate `{gate}`: this cloud has none"));
            }
            (Steer::Shift { weights: wanted, copies }, Stage::Ready) => {
                if *wanted == weights && self.read(|state| has_copies(state, copies)) {
                    return Ok(());
                }
                self.check_weights(wanted)
                    .and_then(|()| self.check_copies(wanted, copies))
                    .or_else(|why| refuse(ErrorKind::Invalid, why))?;
                Stage::Shifting(wanted.clone())
            }
            (Steer::Shift { weights: wanted, copies }, Stage::Shifting(to)) if wanted == to && *copies == asked => {
                return Ok(());
            }
            (Steer::Shift { weights: wanted, .. }, Stage::Finished) if *wanted == weights => return Ok(()),
            (Steer::Shift { .. }, Stage::Starting) => {
                return refuse(ErrorKind::Conflict, format!("{release} is not ready for traffic yet"))
                    .map_err(Adding::retry);
            }
            (Steer::Finish, Stage::Ready) => {
                let exclusive = self.read(|state| state.takes_turns());
                if exclusive && weights != Weights::all(release) && !weights.0.is_empty() {
                    return refuse(ErrorKind::Conflict, format!("{release} does not have all traffic yet"));
                }
                Stage::Finishing
            }
            (Steer::Finish, Stage::Finishing | Stage::Finished) => return Ok(()),
            (Steer::Stop { roll_back: true }, Stage::RollingBack | Stage::RolledBack) => return Ok(()),
            (Steer::Stop { roll_back: true }, Stage::Finishing | Stage::Finished) => {
                return refuse(
                    ErrorKind::Conflict,
                    format!("{release} has taken over for good; the way back is `dbird rollback`"),
                );
            }
            (Steer::Stop { roll_back: true }, _) => Stage::RollingBack,
            (Steer::Stop { roll_back: false }, stage) if stage.is_over() => return Ok(()),
            // Without traffic there is nothing that could stand.
            (Steer::Stop { roll_back: false }, _) if weights == before => Stage::RollingBack,
            (Steer::Stop { roll_back: false }, Stage::Ready | Stage::Failed { .. }) => Stage::Finished,
            (_, Stage::Shifting(_)) => {
                return refuse(ErrorKind::Conflict, format!("{release}'s traffic is still moving"))
                    .map_err(Adding::retry);
            }
            (_, Stage::Failed { why, .. }) => {
                return refuse(ErrorKind::Conflict, format!("{release} has failed: {why}"));
            }
            (_, stage) => {
                return refuse(
                    ErrorKind::Conflict,
                    format!("{release} is {:?} and can't be steered so", stage.phase()),
                );
            }
        };
        self.intend(|state| {
            if next == Stage::Finished {
                state.end_rollout(Stage::Finished);
            } else if let Some(rollout) = state.rollout.as_mut().filter(|rollout| rollout.release == release) {
                if let (Stage::Shifting(_), Steer::Shift { copies, .. }) = (&next, steer) {
                    rollout.copies.clone_from(copies);
                }
                rollout.stage = next;
            }
        })
        .map_err(|error| self.unwritten(OPERATION, &error))
    }

    fn check_copies(&self, weights: &Weights, copies: &BTreeMap<ReleaseId, u32>) -> Result<(), String> {
        if !copies.is_empty() && self.read(State::takes_turns) {
            return Err("releases take turns here, so copies of two of them can't run side by side".to_owned());
        }
        for (release, count) in copies {
            if !self.read(|state| state.releases.contains_key(release)) {
                return Err(format!("{release} is not here to have copies"));
            }
            if *count == 0 && weights.of(*release) > 0 {
                return Err(format!("{release} can't have {} % of the traffic without a copy", weights.of(*release)));
            }
        }
        Ok(())
    }

    fn check_weights(&self, weights: &Weights) -> Result<(), String> {
        let sum: u32 = weights.0.values().map(|weight| u32::from(*weight)).sum();
        if sum != 100 {
            return Err(format!("the weights add up to {sum}, not to 100"));
        }
        self.read(|state| {
            let exclusive = state.takes_turns();
            for (release, weight) in weights.0.iter().filter(|(_, weight)| **weight > 0) {
                if !state.releases.contains_key(release) {
                    return Err(format!("{release} is not here to get traffic"));
                }
                if exclusive && *weight != 100 {
                    return Err(
                        "the store takes one process (writer = \"exclusive\"), so all traffic moves at once".to_owned()
                    );
                }
            }
            Ok(())
        })
    }
}

/// Whether so many copies of each release are wanted already.
fn has_copies(state: &State, copies: &BTreeMap<ReleaseId, u32>) -> bool {
    copies.iter().all(|(release, count)| {
        state.releases.get(release).is_some_and(|record| record.wanted() == (*count).min(record.body.replicas))
    })
}
