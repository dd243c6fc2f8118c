//! Scores that can be told apart on the leaderboard, and somebody who looks at it all the time: together they say how long
//! a score takes from its answer until it is seen.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::super::client::Client;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Every probe's score is higher than all before it, whoever sends it.
static NEXT: AtomicU64 = AtomicU64::new(1_000_000_000);

/// Sends one score after another to one process, until it is told to stop or the process is gone.
pub(super) struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Sent>,
}

/// What a probe sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Every score with 201 as its answer, and when that came.
    pub(super) acknowledged: Vec<(u64, Instant)>,
    /// Requests without one.
    pub(super) failed: u64,
}

impl Probe {
    /// `pause` is the middle of the times between two scores: they differ, so that no rhythm of the game's is met.
    pub(super) fn start(address: SocketAddr, player: &'static str, pause: Duration) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut client, mut sent) = (Client::new(address), Sent::default());
            for round in 0_u32.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let score = NEXT.fetch_add(1, Ordering::Relaxed);
                match client.post("/score", &format!(r#"{{"player":"{player}","score":{score}}}"#)) {
                    Ok(answer) if answer.status == 201 => sent.acknowledged.push((score, Instant::now())),
                    Ok(_) | Err(_) => sent.failed += 1,
                }
                std::thread::sleep(pause / 2 + pause * (round * 7 % 16) / 16);
            }
            sent
        });
        Probe { stop, thread }
    }

    pub(super) fn stop(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a probe's thread does not panic")
    }
}

/// Looks at one process's leaderboard all the time.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What was on the leaderboard, and when.
pub(super) struct Seen {
    player: &'static str,
    /// Whenever this player's best became better: when the answer with it came.
    best: Vec<(u64, Instant)>,
}

impl Watch {
    /// Notes the best score of this player.
    pub(super) fn start(address: SocketAddr, player: &'static str) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut client = Client::new(address);
            let mut best: Vec<(u64, Instant)> = Vec::new();
            while !told.load(Ordering::Relaxed) {
                if let Some(score) = client.get("/leaderboard").ok().and_then(|answer| best_of(&answer.body, player))
                    && best.last().is_none_or(|(last, _)| score > *last)
                {
                    best.push((score, Instant::now()));
                }
                std::thread::sleep(LOOK_EVERY);
            }
            Seen { player, best }
        });
        Watch { stop, thread }
    }

    pub(super) fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a watch's thread does not panic")
    }
}

impl Seen {
    /// How long after its answer each of these scores was seen. A later score of the same process says as much: they are
    /// read in order. An error if one was never seen.
    pub(super) fn lags(&self, sent: &[(u64, Instant)]) -> Result<Vec<Duration>, String> {
        let lag = |(score, at): &(u64, Instant)| {
            let seen = self.best.get(self.best.partition_point(|(best, _)| best < score));
            let seen = seen.ok_or_else(|| format!("a score of the {} process was never seen: {score}", self.player))?;
            Ok(seen.1.saturating_duration_since(*at))
        };
        sent.iter().map(lag).collect()
    }
}

fn best_of(body: &str, player: &str) -> Option<u64> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    let list = body.get("leaderboard")?.as_array()?.iter();
    list.filter(|entry| entry["player"] == player).filter_map(|entry| entry["score"].as_u64()).max()
}
