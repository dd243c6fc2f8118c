//! Users: they ask all the time, and remember what they were answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::support::request;

/// So many of them.
const USERS: u64 = 4;

/// Users that ask until this is dropped.
pub(crate) struct Load {
    seen: Arc<Seen>,
    users: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    /// How often what was answered.
    answers: Mutex<BTreeMap<String, u64>>,
    /// The scores that were acknowledged.
    acknowledged: Mutex<BTreeSet<String>>,
    next: AtomicU64,
}

impl Load {
    /// So many requests a second for `/`, together.
    pub(crate) fn start(address: &str, rate: u32) -> Self {
        let address = address.to_owned();
        Self::of(rate, move |seen| match request(&address, "GET", "/", "") {
            Ok((200, body)) => seen.note(body.get(..20).unwrap_or(&body)),
            Ok((status, _)) => seen.note(&status.to_string()),
            Err(error) => seen.note(&format!("failed: {error}")),
        })
    }

    /// So many scores a second, together, each a new run's.
    pub(crate) fn scores(address: &str, rate: u32) -> Self {
        let address = address.to_owned();
        Self::of(rate, move |seen| {
            let run = format!("run-{}", seen.next.fetch_add(1, Ordering::SeqCst));
            let body = format!(r#"{{"player":"P","score":7,"runId":"{run}"}}"#);
            match request(&address, "POST", "/score", &body) {
                Ok((201, _)) => {
                    seen.note("201");
                    seen.acknowledged.lock().unwrap().insert(run);
                }
                Ok((status, body)) => seen.note(&format!("{status} {body}")),
                Err(error) => seen.note(&format!("failed: {error}")),
            }
        })
    }

    fn of(rate: u32, ask: impl Fn(&Seen) + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Seen::default());
        let ask = Arc::new(ask);
        let every = Duration::from_micros(1_000_000 * USERS / u64::from(rate));
        let users = (0..USERS).map(|_| {
            let (seen, ask) = (seen.clone(), ask.clone());
            std::thread::spawn(move || {
                let mut next = Instant::now();
                while !seen.stop.load(Ordering::SeqCst) {
                    ask(&seen);
                    next += every;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    next = next.max(Instant::now() - every);
                }
            })
        });
        Load { users: users.collect(), seen }
    }

    /// What was answered since the last time, and how often.
    pub(crate) fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.seen.answers.lock().unwrap())
    }

    /// Every score that was acknowledged so far.
    pub(crate) fn acknowledged(&self) -> BTreeSet<String> {
        self.seen.acknowledged.lock().unwrap().clone()
    }
}

impl Seen {
    fn note(&self, what: &str) {
        *self.answers.lock().unwrap().entry(what.to_owned()).or_default() += 1;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::SeqCst);
        self.users.drain(..).for_each(|user| user.join().unwrap());
    }
}
