//! Translates what the driver says into what the command line says. Nothing is added, and nothing is left out but what the
//! command says itself at its end.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dbird_core::{StepId, Weights, spec::HookWhen};
use dbird_driver::Event as Told;

use crate::{
    output::{
        Event, Output,
        events::{LookView, SideView, StepState},
    },
    session,
    typing::Typing,
};

/// Listens to the driver.
pub(crate) struct Teller {
    out: Output,
    typing: Typing,
    said: Mutex<Said>,
}

/// What the driver says only once.
#[derive(Default)]
struct Said {
    titles: BTreeMap<StepId, String>,
    hooks: BTreeMap<usize, Vec<String>>,
    /// A hook runs: what a task writes now is its.
    in_hook: bool,
    /// A plan is carried out: what a task writes now is on its way, too.
    in_plan: bool,
}

impl Teller {
    pub(crate) fn new(out: Output, typing: Typing) -> Self {
        Teller { out, typing, said: Mutex::default() }
    }

    /// Says it.
    pub(crate) fn tell(&self, told: &Told) {
        match told {
            Told::StepStarted { step, title, .. } => drop(self.said().titles.insert(step.clone(), title.clone())),
            Told::HookStarted { index, argv, .. } => {
                let mut said = self.said();
                said.hooks.insert(*index, argv.clone());
                said.in_hook = true;
            }
            Told::HookFinished { .. } | Told::HookFailed { .. } => self.said().in_hook = false,
            Told::Started { .. } => self.said().in_plan = true,
            Told::Finished { .. } => self.said().in_plan = false,
            _ => {}
        }
        if let Some(event) = self.translate(told) {
            self.out.event(event);
        }
    }

    fn translate(&self, told: &Told) -> Option<Event> {
        Some(match told {
            Told::Started { .. } | Told::Finished { .. } => return None,
            Told::Waiting { step, waiting_for, weights, elapsed_ms, .. } => Event::Waiting {
                step: step.as_ref().map(ToString::to_string).unwrap_or_default(),
                waiting_for: waiting_for.clone(),
                weights: shares(weights),
                elapsed_ms: *elapsed_ms,
            },
            Told::StepStarted { step, .. } => self.step(step, StepState::Started, 0),
            Told::StepFinished { step, took_ms, .. } => self.step(step, StepState::Done, *took_ms),
            Told::StepFailed { step, took_ms, .. } => self.step(step, StepState::Failed, *took_ms),
            Told::Happened { step, at_unix_ms, text } => {
                Event::Happened { step: step.to_string(), happened_unix_ms: *at_unix_ms, text: text.clone() }
            }
            Told::Shifting { weights, .. } => Event::Traffic { reached: false, weights: shares(weights) },
            Told::Shifted { weights, .. } => Event::Traffic { reached: true, weights: shares(weights) },
            Told::Looked { .. } => Event::Look(look(told)?),
            Told::PersonNeeded { release, waiting_for, resumes, undone_in_ms } => Event::PersonNeeded {
                release: release.to_string(),
                waiting_for: waiting_for.clone(),
                choices: self.typing.choices(*resumes),
                undone_in_ms: *undone_in_ms,
            },
            Told::Requested { by, request } => {
                let (request, why) = session::told(request);
                Event::Requested { by: by.clone(), request, why }
            }
            Told::Copied { place, took_ms } => Event::Copied { place: place.clone(), took_ms: *took_ms },
            Told::RollingBack { why, .. } => Event::RollingBack { why: why.clone() },
            Told::HookStarted { when, index, .. } => self.hook(*when, *index, StepState::Started, String::new()),
            Told::HookFinished { when, index, .. } => self.hook(*when, *index, StepState::Done, String::new()),
            Told::HookFailed { when, index, why, .. } => self.hook(*when, *index, StepState::Failed, why.clone()),
            Told::TaskOutput { task, stderr, text, .. } => Event::Output {
                task: task.clone(),
                hook: self.on_the_way(),
                stream: if *stderr { "stderr" } else { "stdout" }.to_owned(),
                text: text.clone(),
            },
            Told::Note { text, .. } => Event::Note { text: text.clone() },
            Told::Warning { text, .. } => Event::Warning { text: text.clone() },
            Told::Recovered { found, did, .. } => Event::Recovered { text: format!("{found}; {did}") },
        })
    }

    fn step(&self, step: &StepId, state: StepState, took_ms: u64) -> Event {
        let title = self.said().titles.get(step).cloned().unwrap_or_else(|| step.to_string());
        Event::Step { step: step.to_string(), title, state, took_ms }
    }

    fn hook(&self, when: HookWhen, index: usize, state: StepState, detail: String) -> Event {
        let command = self.said().hooks.get(&index).cloned().unwrap_or_default();
        Event::Hook { when, command, state, detail }
    }

    fn on_the_way(&self) -> bool {
        let said = self.said();
        said.in_hook || said.in_plan
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look, as commands show it; none of anything else.
pub(crate) fn look(told: &Told) -> Option<LookView> {
    let Told::Looked { look, window_ms, weights, candidate, current, probes, verdict, check, text } = told else {
        return None;
    };
    Some(LookView {
        look: *look,
        window_ms: *window_ms,
        weights: shares(weights),
        candidate: candidate.as_ref().map(side),
        current: current.as_ref().map(side),
        probes: *probes,
        verdict: verdict.clone(),
        check: check.map(|c| c.name().to_owned()),
        text: text.clone(),
    })
}

fn side(side: &dbird_driver::SideView) -> SideView {
    let dbird_driver::SideView { release, requests, errors, error_rate, p99_ms } = side;
    SideView {
        release: release.to_string(),
        requests: *requests,
        errors: *errors,
        error_rate: *error_rate,
        p99_ms: *p99_ms,
    }
}

fn shares(weights: &Weights) -> BTreeMap<String, u8> {
    weights.0.iter().map(|(release, percent)| (release.to_string(), *percent)).collect()
}
