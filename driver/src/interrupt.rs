//! A person's wish to stop: raised once, never taken back, seen at the next safe point.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// A flag that can be waited for. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    shared: Arc<(AtomicBool, Notify)>,
}

impl Interrupt {
    /// Not raised.
    pub fn new() -> Self {
        Interrupt::default()
    }

    /// Somebody wants to stop.
    pub fn raise(&self) {
        self.shared.0.store(true, Ordering::SeqCst);
        self.shared.1.notify_waiters();
    }

    /// Whether somebody wants to stop.
    pub fn raised(&self) -> bool {
        self.shared.0.load(Ordering::SeqCst)
    }

    /// Returns once it is raised.
    pub async fn wait(&self) {
        let notified = self.shared.1.notified();
        tokio::pin!(notified);
        // Registered before the flag is read, so that no raise falls in between.
        notified.as_mut().enable();
        if !self.raised() {
            notified.await;
        }
    }
}
