//! The model that the checker searches: the share, and some processes, of which any may take its next step at any time. It
//! decides nothing of the protocol; its bounds end the search.

use stateright::{Model, Property};

use crate::design::Design;
use crate::process::{Process, Step};
use crate::property;
use crate::share::{Accept, EPOCHS_MAX, Share};

/// Most processes that have an epoch at the same time.
pub(crate) const PROCESSES_MAX: usize = 4;

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) processes: u8,
    pub(crate) epochs: u8,
    pub(crate) records: u8,
    /// Of the accepter.
    pub(crate) crashes: u8,
    /// Operations of candidates that go wrong, and crashes of them. Without any: one that crashes is one that pauses for ever.
    pub(crate) troubles: u8,
}

/// A protocol within bounds.
pub(crate) struct Protocol {
    pub(crate) design: Design,
    pub(crate) bounds: Bounds,
}

/// The share and the candidates, in order, for it does not matter which is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) share: Share,
    pub(crate) processes: [Process; PROCESSES_MAX],
    pub(crate) troubles_left: u8,
}

/// Who does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Accepter(Accept),
    /// The candidate of this epoch, or of none yet.
    Candidate(u8, Step),
    Trouble(u8, Step),
    Death(u8),
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        assert!(usize::from(self.bounds.epochs) <= EPOCHS_MAX && usize::from(self.bounds.processes) <= PROCESSES_MAX);
        vec![State {
            share: Share::new(self.bounds.crashes),
            processes: [Process::default(); PROCESSES_MAX],
            troubles_left: self.bounds.troubles,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(state.share.acceptances(self.bounds.records).map(Action::Accepter));
        let first_busy = state.processes.iter().position(|process| process.epoch > 0).unwrap_or(PROCESSES_MAX);
        let idle_min = PROCESSES_MAX - usize::from(self.bounds.processes);
        if first_busy > idle_min && state.share.claimed < self.bounds.epochs {
            actions.push(Action::Candidate(0, Step::Claim));
        }
        let mut steps = Vec::new();
        for process in &state.processes[first_busy..] {
            steps.clear();
            process.offer(self.design, &state.share, &mut steps);
            actions.extend(steps.iter().map(|step| Action::Candidate(process.epoch, *step)));
            if state.troubles_left > 0 {
                steps.clear();
                process.offer_trouble(self.design, &state.share, &mut steps);
                actions.extend(steps.iter().map(|step| Action::Trouble(process.epoch, *step)));
                actions.push(Action::Death(process.epoch));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        let at = |epoch| state.processes.iter().rposition(|process| process.epoch == epoch).unwrap_or_default();
        match action {
            Action::Accepter(what) => next.share.accept(what),
            Action::Candidate(epoch, step) => next.processes[at(epoch)].take(self.design, &mut next.share, step),
            Action::Trouble(epoch, step) => {
                next.processes[at(epoch)].take(self.design, &mut next.share, step);
                next.troubles_left -= 1;
            }
            Action::Death(epoch) => {
                next.processes[at(epoch)] = Process::default();
                next.troubles_left -= 1;
            }
        }
        next.processes.sort_unstable_by_key(|process| process.epoch);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        property::all()
    }
}
