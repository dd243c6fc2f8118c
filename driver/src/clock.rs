//! The clocks of a driver, as a trait so that tests need not sleep: one that runs while a laptop sleeps, one for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rustix::time::{ClockId, clock_gettime};

/// Time, as a driver needs it.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Milliseconds since this machine was started, the time asleep included.
    fn boot_ms(&self) -> u64;

    /// Unix milliseconds: for people and records, never compared with another machine's.
    fn unix_ms(&self) -> u64;

    /// Returns after so many milliseconds.
    async fn sleep(&self, ms: u64);
}

/// The machine's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// The clock that goes on while the machine sleeps.
#[cfg(target_os = "linux")]
const BOOT: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const BOOT: ClockId = ClockId::Monotonic;

#[async_trait]
impl Clock for SystemClock {
    fn boot_ms(&self) -> u64 {
        let now = clock_gettime(BOOT);
        u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
    }

    fn unix_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    async fn sleep(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}
