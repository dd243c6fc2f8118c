//! A clock that only moves when somebody says so.

use std::sync::atomic::{AtomicU64, Ordering};

/// Virtual time in milliseconds.
#[derive(Debug)]
pub struct VirtualClock {
    now_ms: AtomicU64,
}

impl VirtualClock {
    /// Some time that is not zero.
    pub fn new() -> Self {
        VirtualClock { now_ms: AtomicU64::new(1_000_000) }
    }

    /// The time.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    /// Lets time pass.
    pub fn advance(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        VirtualClock::new()
    }
}
