//! Clients that submit scores to all processes, some of them again to another one, and remember what they were told.
//! They decide nothing about what is right, except that a well-formed score is answered with 201 or 503.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Answer, read_answer};
use crate::fleet::{Fleet, Place};
use crate::history::History;

/// Scores in one run: what the checker holds in memory.
const RUNS_MAX: u64 = 1_000_000;
/// After this a client gives up on an answer: some see what comes late, others go on submitting elsewhere.
const PATIENCE: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(2)];
/// One submission in so many is that of an earlier score.
const REPEAT_ONE_IN: u64 = 8;

/// How a score's run identity looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Word,
    Uuid,
    /// The client sends none, so it can't send the score again either.
    Servers,
}

/// One score and what its clients know of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Times it was sent.
    pub(crate) sent: u32,
    /// What `createdAt` the acknowledgements had, one for each.
    pub(crate) acknowledged: Vec<String>,
    /// What identity the server gave it, if it was for the server to choose.
    pub(crate) given: Option<String>,
}

/// All scores of a run; the rest of a score follows from its number.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) seed: u64,
    pub(crate) list: Mutex<Vec<Run>>,
}

impl Runs {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, list: Mutex::default() }
    }

    pub(crate) fn identity(n: usize) -> Identity {
        match n % 8 {
            0 | 1 => Identity::Uuid,
            2 => Identity::Servers,
            _ => Identity::Word,
        }
    }

    pub(crate) fn run_id(&self, n: usize) -> Option<String> {
        match Self::identity(n) {
            Identity::Word => Some(format!("r-{}-{n}", self.seed)),
            Identity::Uuid => {
                let bytes = (u128::from(self.seed) << 64 | n as u128).to_be_bytes();
                Some(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
            }
            Identity::Servers => None,
        }
    }

    /// Unlike any other's, so that a score is found without its run identity; long, so that segments fill up.
    pub(crate) fn player(n: usize) -> String {
        format!("player {n:033}")
    }

    /// All different below ten million, and in no order.
    pub(crate) fn score(n: usize) -> i64 {
        i64::try_from((n as u64 * 7_654_321 + 1) % 9_999_991).unwrap()
    }

    /// Scores that were acknowledged and are too good to be missing in this list of the best ten, yet are.
    pub(crate) fn missing_in(&self, shown: &[i64]) -> Vec<i64> {
        const SHOWN_MAX: usize = 10;
        let worst_shown = shown.iter().min().filter(|_| shown.len() >= SHOWN_MAX).copied().unwrap_or(-1);
        let list = self.list.lock().unwrap();
        let acknowledged = list.iter().enumerate().filter(|(_, run)| !run.acknowledged.is_empty());
        let scores = acknowledged.map(|(n, _)| Self::score(n));
        scores.filter(|score| *score > worst_shown && !shown.contains(score)).take(SHOWN_MAX).collect()
    }

    fn take(&self, random: &mut fastrand::Rng) -> Option<usize> {
        let mut list = self.list.lock().unwrap();
        let len = list.len();
        let again = (len > 0 && random.u64(..REPEAT_ONE_IN) == 0).then(|| {
            // Often a recent one, whose first submission may still be on its way.
            if random.bool() { random.usize(len - len.min(20)..len) } else { random.usize(..len) }
        });
        let n = match again.filter(|n| Self::identity(*n) != Identity::Servers) {
            Some(n) => n,
            None if (len as u64) < RUNS_MAX => {
                list.push(Run::default());
                len
            }
            None => return None,
        };
        list[n].sent += 1;
        Some(n)
    }
}

/// Clients at work; stopped by `stop`.
pub(crate) struct Load {
    stopping: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<()>>,
    pub(crate) acknowledged: Arc<AtomicU64>,
}

impl Load {
    pub(crate) fn start(
        clients: usize,
        pause: Duration,
        fleet: &Arc<Fleet>,
        runs: &Arc<Runs>,
        history: &Arc<History>,
    ) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let client = |number: usize| {
            let (stopping, acknowledged) = (stopping.clone(), acknowledged.clone());
            let (fleet, runs, history) = (fleet.clone(), runs.clone(), history.clone());
            std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(runs.seed ^ (number as u64 + 1) << 32);
                let mut connections: Vec<_> =
                    fleet.slots.iter().map(|_| Connection::new(PATIENCE[number % PATIENCE.len()])).collect();
                while !stopping.load(Ordering::Relaxed) {
                    std::thread::sleep(pause);
                    let slot = random.usize(..connections.len());
                    let Some(place) = fleet.place(slot) else { continue };
                    let Some(n) = runs.take(&mut random) else { return };
                    if submit(&mut connections[slot], place, &runs, n, &history, random.bool()) {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stopping, clients, acknowledged }
    }

    pub(crate) fn stop(self) -> u64 {
        self.stopping.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// Submits one more score to one process; `true` if it was acknowledged.
pub(crate) fn submit_next(place: Place, runs: &Runs, history: &History) -> bool {
    let n = {
        let mut list = runs.list.lock().unwrap();
        list.push(Run { sent: 1, ..Run::default() });
        list.len() - 1
    };
    submit(&mut Connection::new(PATIENCE[2]), place, runs, n, history, true)
}

fn submit(
    connection: &mut Connection,
    place: Place,
    runs: &Runs,
    n: usize,
    history: &History,
    in_header: bool,
) -> bool {
    let (player, score, run_id) = (Runs::player(n), Runs::score(n), runs.run_id(n));
    let mut body = json!({"player": player, "score": score});
    let header = run_id.as_ref().filter(|_| in_header);
    if let (Some(run_id), None) = (&run_id, header) {
        body["runId"] = run_id.as_str().into();
    }
    let Ok(answer) = connection.post(place, &body.to_string(), header.map(String::as_str)) else { return false };
    let told = || String::from_utf8_lossy(&answer.body).into_owned();
    match answer.status {
        201 => {}
        503 => return false,
        status => {
            history.object(format!("score {n} to process {} was answered with {status}: {}", place.number, told()));
            return false;
        }
    }
    let stored: Value =
        serde_json::from_slice(&answer.body).map_or(Value::Null, |answer: Value| answer["stored"].clone());
    let same = run_id.as_ref().is_none_or(|run_id| stored["runId"] == run_id.as_str());
    let (Some(created_at), Some(given)) = (stored["createdAt"].as_str(), stored["runId"].as_str()) else {
        history.object(format!("score {n}: process {} acknowledged without saying what: {}", place.number, told()));
        return false;
    };
    if !(same && stored["player"] == player && stored["score"] == score) {
        history.object(format!("score {n}: process {} acknowledged another one: {}", place.number, told()));
    }
    let run = &mut runs.list.lock().unwrap()[n];
    run.acknowledged.push(created_at.to_owned());
    if run_id.is_none() {
        run.given = Some(given.to_owned());
    }
    true
}

/// A connection to whoever is in a slot; made anew for each process and after each fault.
struct Connection {
    patience: Duration,
    open: Option<(u32, BufReader<TcpStream>)>,
}

impl Connection {
    fn new(patience: Duration) -> Self {
        Self { patience, open: None }
    }

    fn post(&mut self, place: Place, body: &str, key: Option<&str>) -> std::io::Result<Answer> {
        let mut stream = match self.open.take() {
            Some((number, stream)) if number == place.number => stream,
            _ => {
                let stream = TcpStream::connect_timeout(&place.address, self.patience)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(self.patience))?;
                BufReader::new(stream)
            }
        };
        let key = key.map(|key| format!("idempotency-key: {key}\r\n")).unwrap_or_default();
        let text = format!(
            "POST /score HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{key}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(text.as_bytes())?;
        let answer = read_answer(&mut stream, true)?;
        if !answer.closes() {
            self.open = Some((place.number, stream));
        }
        Ok(answer)
    }
}
