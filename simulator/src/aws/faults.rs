//! What goes wrong on purpose, by name. A name is asked for when the simulator starts or while it runs (`POST
//! /_simulator/faults` with a JSON list of names puts these in the place of all before).

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Every fault by its name, and what happens. A name in capitals stands for one that the asker gives.
pub const FAULTS: &[(&str, &str)] = &[
    ("expired-credentials", "every call is refused as a token that has expired is"),
    ("expired-credentials:N", "the same from the Nth call on"),
    ("unknown-credentials", "every call is refused as an unknown access key is"),
    ("throttle", "about every third call is refused with a throttling error"),
    ("throttle:OPERATION", "the first two calls of this operation are"),
    ("lost-reply:OPERATION", "the first call of this operation is carried out, and its reply never comes"),
    ("stack-fails:LOGICAL_ID", "making or changing this resource of a stack fails"),
    ("stack-fails-once:LOGICAL_ID", "the same, the first time only"),
    ("rollback-fails:LOGICAL_ID", "undoing a change of this resource fails"),
    ("rollback-fails-once:LOGICAL_ID", "the same, the first time only"),
    ("delete-fails:LOGICAL_ID", "deleting this resource of a stack fails"),
    ("certificate-pending", "no certificate is issued yet"),
    ("certificate-missing", "there is no certificate"),
    ("quota:CODE=VALUE", "this quota of the account is so low"),
    ("no-capacity", "Fargate has no room for new tasks"),
    ("image-pull-fails", "no image can be pulled"),
    ("task-dies-after-ready", "a new task ends soon after it became healthy"),
    ("task-dies-after-ready:SECONDS", "the same, so many seconds of its own time after"),
    ("codedeploy-fails", "CodeDeploy gives a deployment up by itself"),
    ("alarm-in-bake", "an alarm fires once all traffic has moved"),
];

/// The faults that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    names: Vec<String>,
    /// How often something was counted, by what it was.
    counted: BTreeMap<String, u64>,
}

impl Faults {
    pub(crate) fn named(names: &[String]) -> Self {
        Faults { state: Mutex::new(State { names: names.to_vec(), counted: BTreeMap::new() }) }
    }

    /// Whether this one was asked for.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.with(|state| state.names.iter().any(|n| n == name))
    }

    /// Whether this one was asked for; it is gone then.
    pub(crate) fn take(&self, name: &str) -> bool {
        self.with(|state| {
            let found = state.names.iter().position(|n| n == name);
            found.map(|at| state.names.remove(at)).is_some()
        })
    }

    /// What stands behind the colon of a fault of this name.
    pub(crate) fn argument(&self, name: &str) -> Option<String> {
        self.with(|state| state.names.iter().find_map(|n| Some(n.strip_prefix(name)?.strip_prefix(':')?.to_owned())))
    }

    /// The names, as they are asked for now.
    pub(crate) fn names(&self) -> Vec<String> {
        self.with(|state| state.names.clone())
    }

    /// Puts others in their place; nothing has been counted then.
    pub(crate) fn set(&self, names: Vec<String>) {
        self.with(|state| *state = State { names, counted: BTreeMap::new() });
    }

    /// Counts one more of something: the first is 1.
    pub(crate) fn count(&self, what: &str) -> u64 {
        self.with(|state| {
            let count = state.counted.entry(what.to_owned()).or_default();
            *count += 1;
            *count
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
