//! What happened when, and what must not have happened. It judges nothing itself.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// More of the same would hide the first.
const OBJECTIONS_MAX: usize = 20;

#[derive(Debug)]
pub(crate) struct History {
    started: Instant,
    told: Mutex<Vec<(Duration, String)>>,
    objections: Mutex<Vec<(Duration, String)>>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), told: Mutex::default(), objections: Mutex::default() }
    }

    pub(crate) fn tell(&self, what: impl Into<String>) {
        self.told.lock().unwrap().push((self.started.elapsed(), what.into()));
    }

    /// Something that breaks a promise.
    pub(crate) fn object(&self, what: impl Into<String>) {
        let mut objections = self.objections.lock().unwrap();
        if objections.len() < OBJECTIONS_MAX {
            objections.push((self.started.elapsed(), what.into()));
        }
    }

    /// Whether one of the objections says this.
    pub(crate) fn has_objection(&self, part: &str) -> bool {
        self.objections.lock().unwrap().iter().any(|(_, what)| what.contains(part))
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.objections.lock().unwrap().is_empty()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = |title: &str, list: &Mutex<Vec<(Duration, String)>>| {
            writeln!(f, "{title}:")?;
            list.lock().unwrap().iter().try_for_each(|(at, what)| writeln!(f, "  {:9.3} s  {what}", at.as_secs_f64()))
        };
        lines("history", &self.told)?;
        lines("objections", &self.objections)
    }
}
