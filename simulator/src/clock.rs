//! The simulated cloud's time, which may pass faster than ours. It decides nothing; whatever waits in the simulator waits here.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock that starts at the present and passes `speed` times as fast from then on.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    origin_unix_ms: u64,
    speed: f64,
}

impl Clock {
    /// Starts now. A speed below 1 counts as 1.
    pub fn start(speed: f64) -> Self {
        let origin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin_unix_ms = u64::try_from(origin.as_millis()).unwrap_or(u64::MAX);
        Clock { started: Instant::now(), origin_unix_ms, speed: speed.max(1.0) }
    }

    /// How many times as fast as ours it passes.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// When it was started, in Unix milliseconds, by both clocks.
    pub fn origin_unix_ms(&self) -> u64 {
        self.origin_unix_ms
    }

    /// The simulated time, in Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.origin_unix_ms + (self.started.elapsed().as_secs_f64() * 1000.0 * self.speed) as u64
    }

    /// Waits for so much simulated time.
    pub async fn sleep_ms(&self, ms: u64) {
        tokio::time::sleep(self.real(ms)).await;
    }

    /// Waits until that simulated time.
    pub async fn sleep_until_ms(&self, unix_ms: u64) {
        self.sleep_ms(unix_ms.saturating_sub(self.now_ms())).await;
    }

    /// So much simulated time, as it passes for us.
    pub fn real(&self, ms: u64) -> Duration {
        Duration::from_secs_f64(ms as f64 / 1000.0 / self.speed)
    }
}
