//! When the simulated cloud was busy with something that was asked of it: what of a deploy's time is the cloud's own.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde_json::{Value, json};

/// Spans of real time, each with what was done in it.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    all: Mutex<Vec<(String, Instant, Option<Instant>)>>,
}

/// A span that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    world: std::sync::Weak<super::World>,
    at: usize,
}

impl Spans {
    /// Something begins that a client waits for: `stack bird-dev`, `deployment d-1`, `service bird`.
    pub(crate) fn begin(world: &std::sync::Arc<super::World>, what: &str) -> Busy {
        let mut all = world.spans.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((what.to_owned(), Instant::now(), None));
        Busy { world: std::sync::Arc::downgrade(world), at: all.len() - 1 }
    }

    /// Every span: what, and how long ago it began and ended, in real milliseconds before now.
    pub(crate) fn report(&self) -> Value {
        let now = Instant::now();
        let ago = |at: &Instant| now.duration_since(*at).as_secs_f64() * 1000.0;
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let spans = all.iter().map(|(what, begun, ended)| {
            json!({ "what": what, "began_ms_ago": ago(begun), "ended_ms_ago": ended.as_ref().map(ago) })
        });
        Value::Array(spans.collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Some(world) = self.world.upgrade() else { return };
        let mut all = world.spans.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(span) = all.get_mut(self.at) {
            span.2 = Some(Instant::now());
        }
    }
}
