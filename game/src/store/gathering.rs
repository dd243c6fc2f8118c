//! Decides how long to wait before a commit for those who were just answered to come back, so that one commit takes
//! everyone. Without it, two halves of the clients take turns and each pays for a commit of its own.
//!
//! With n clients and a commit that takes t, taking turns stores n/2 scores per t; all together they store n per t plus
//! the wait. So a wait of up to t is never worse, if they do come back: where they don't, it is tried ever less often.

use std::time::{Duration, Instant};

use prometheus::IntGauge;

use super::writer::BATCH_SCORES_MAX;

const WAIT_MAX: Duration = Duration::from_millis(5);
/// Sleeping in steps instead of waiting on the queue spares every sender a wake-up call.
const STEP: Duration = Duration::from_micros(50);
/// Most commits without a wait after waits that were in vain.
const PAUSE_MAX: u32 = 64;

#[derive(Debug, Default)]
pub(crate) struct Gathering {
    last_commit: Duration,
    /// Scores in the next batch if everyone who was just answered came back.
    expected: i64,
    /// Commits until the next wait.
    pause: u32,
    /// What the pause becomes when the next wait is in vain, too.
    pause_next: u32,
}

impl Gathering {
    /// Waits, perhaps; `queued` includes what was taken from the queue already.
    pub(crate) fn wait(&mut self, queued: &IntGauge) {
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        if queued.get() >= self.expected {
            return;
        }
        let until = Instant::now() + self.last_commit.min(WAIT_MAX);
        while queued.get() < self.expected {
            if Instant::now() >= until {
                self.judge(queued.get());
                return;
            }
            std::thread::sleep(STEP);
        }
        self.judge(self.expected);
    }

    /// Learns from a commit of so many scores, at whose end so many others were waiting.
    pub(crate) fn committed(&mut self, scores: usize, waiting: i64, took: Duration) {
        let scores = i64::try_from(scores).unwrap_or(i64::MAX);
        self.expected = scores.saturating_add(waiting).min(BATCH_SCORES_MAX.into());
        self.last_commit = took;
    }

    fn judge(&mut self, came: i64) {
        // Nearly all is as good as all.
        if came >= self.expected - self.expected / 4 {
            self.pause_next = 1;
        } else {
            self.pause = self.pause_next;
            self.pause_next = (self.pause_next * 2).clamp(1, PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use prometheus::IntGauge;

    use super::{Gathering, PAUSE_MAX};

    fn gauge(value: i64) -> IntGauge {
        let gauge = IntGauge::new("queued", "queued").unwrap();
        gauge.set(value);
        gauge
    }

    #[test]
    fn does_not_wait_when_everyone_is_here() {
        let mut gathering = Gathering::default();
        gathering.committed(10, 20, Duration::from_secs(1));
        let started = Instant::now();
        gathering.wait(&gauge(30));
        assert!(started.elapsed() < Duration::from_millis(4));
    }

    #[test]
    fn waits_in_vain_ever_less_often_and_again_once_it_pays() {
        let mut gathering = Gathering::default();
        let mut waits = 0;
        for _ in 0..1_000 {
            gathering.committed(10, 0, Duration::from_micros(1));
            waits += u32::from(gathering.pause == 0);
            gathering.wait(&gauge(1));
        }
        assert!((10..30).contains(&waits), "{waits}");
        while gathering.pause > 0 {
            gathering.wait(&gauge(1));
        }
        gathering.committed(10, 0, Duration::from_micros(1));
        gathering.wait(&gauge(9));
        assert!(gathering.pause == 0 && gathering.pause_next < PAUSE_MAX);
    }
}
