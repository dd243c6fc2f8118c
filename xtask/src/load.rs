//! An HTTP load of many keep-alive connections that accounts for every single request. It reads leaderboards and posts
//! scores with run ids of its own, so that afterwards the database can be asked for each one.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A request that takes longer has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Failures kept word for word.
const FAILURES_KEPT: usize = 20;
/// Loads that this process started, so that no two use the same run ids.
static LOADS: AtomicU64 = AtomicU64::new(0);

/// When a connection makes its next request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// So long after the answer to the last one: a slow service gets fewer requests.
    After(Duration),
    /// So that all connections together make this many a second, however long answers take. A request that is due while its
    /// connection still waits is made late, and its time counts from when it was due.
    PerSecond(u32),
}

/// What the load did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests answered as they should be.
    pub(crate) good: u64,
    /// Requests answered otherwise, or not at all.
    pub(crate) failed: u64,
    /// The first failures, in words.
    pub(crate) failures: Vec<String>,
    /// Run ids whose score was acknowledged.
    pub(crate) acknowledged: Vec<String>,
    /// When every good request began, and how long it took.
    pub(crate) answers: Vec<(Instant, Duration)>,
    /// When every failed request ended.
    pub(crate) failed_at: Vec<Instant>,
}

impl Tally {
    /// The latency below which this share (0 to 1) of requests lies, in milliseconds.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        quantile_ms(self.answers.iter().map(|(_, took)| *took).collect(), share)
    }

    /// The same of the requests that were on their way at some moment between two.
    pub(crate) fn quantile_between_ms(&self, from: Instant, to: Instant, share: f64) -> f64 {
        let within = self.answers.iter().filter(|(began, took)| *began < to && *began + *took >= from);
        quantile_ms(within.map(|(_, took)| *took).collect(), share)
    }
}

/// The time below which this share (0 to 1) of them lies, in milliseconds.
pub(crate) fn quantile_ms(mut times: Vec<Duration>, share: f64) -> f64 {
    if times.is_empty() {
        return f64::NAN;
    }
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1000.0
}

/// A load that runs until it is told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Tally>,
}

impl Load {
    /// Starts `connections` connections to `address`; every `score_every`-th request posts a score, the others read the
    /// leaderboard.
    pub(crate) fn start(address: SocketAddr, connections: usize, score_every: u64, pace: Pace) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let (s, d) = (stop.clone(), done.clone());
        let load = LOADS.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let tally = Arc::new(Mutex::new(Tally::default()));
                let began = Instant::now();
                let tasks: Vec<_> = (0..connections)
                    .map(|n| {
                        let name = format!("load-{}-{load}-{n}", std::process::id());
                        let turns = Turns::of(pace, n, connections, began);
                        tokio::spawn(connection(address, name, score_every, turns, s.clone(), d.clone(), tally.clone()))
                    })
                    .collect();
                for task in tasks {
                    task.await.expect("a connection's task does not panic");
                }
                std::mem::take(&mut *tally.lock().expect("no poison"))
            })
        });
        Load { stop, done, thread }
    }

    /// Waits until so many more requests were answered, so that a step happens under load and not before it.
    pub(crate) fn wait_for_more(&self, requests: u64, deadline: Duration) {
        let (from, start) = (self.done.load(Ordering::Relaxed), Instant::now());
        while self.done.load(Ordering::Relaxed) < from + requests && start.elapsed() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the load after each connection's current request.
    pub(crate) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load's thread does not panic")
    }
}

/// When one connection has its turns.
enum Turns {
    After(Duration),
    At { next: Instant, every: Duration },
}

impl Turns {
    /// Of the `n`-th of so many connections: they take turns evenly.
    fn of(pace: Pace, n: usize, connections: usize, began: Instant) -> Turns {
        match pace {
            Pace::After(pause) => Turns::After(pause),
            Pace::PerSecond(requests) => {
                let every = Duration::from_secs_f64(connections as f64 / f64::from(requests.max(1)));
                Turns::At { next: began + every.mul_f64(n as f64 / connections as f64), every }
            }
        }
    }

    /// Waits for the next turn; returns when it was due.
    async fn next(&mut self, first: bool) -> Instant {
        match self {
            Turns::After(pause) => {
                if !first && !pause.is_zero() {
                    tokio::time::sleep(*pause).await;
                }
                Instant::now()
            }
            Turns::At { next, every } => {
                let due = *next;
                *next += *every;
                tokio::time::sleep_until(due.into()).await;
                due
            }
        }
    }
}

async fn connection(
    address: SocketAddr,
    name: String,
    score_every: u64,
    mut turns: Turns,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tally: Arc<Mutex<Tally>>,
) {
    let mut mine = Tally::default();
    let mut sender = None;
    let mut count = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let start = turns.next(count == 0).await;
        count += 1;
        let run = score_every > 0 && count.is_multiple_of(score_every);
        let run = run.then(|| format!("{name}-{count}"));
        let outcome = match tokio::time::timeout(REQUEST_TIMEOUT, request(address, &mut sender, run.as_deref())).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {REQUEST_TIMEOUT:?}")),
        };
        match outcome {
            Ok(()) => {
                mine.good += 1;
                mine.answers.push((start, start.elapsed()));
                mine.acknowledged.extend(run);
            }
            Err(why) => {
                mine.failed += 1;
                mine.failed_at.push(Instant::now());
                if mine.failures.len() < FAILURES_KEPT {
                    mine.failures.push(format!("{name}, request {count}: {why}"));
                }
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    let mut all = tally.lock().expect("no poison");
    all.good += mine.good;
    all.failed += mine.failed;
    all.answers.extend(mine.answers);
    all.failed_at.extend(mine.failed_at);
    all.acknowledged.extend(mine.acknowledged);
    let room = FAILURES_KEPT.saturating_sub(all.failures.len());
    all.failures.extend(mine.failures.into_iter().take(room));
}

type Sender = http1::SendRequest<Full<Bytes>>;

/// One request. The connection is kept for the next one only where the answer came whole.
async fn request(address: SocketAddr, sender: &mut Option<Sender>, run: Option<&str>) -> Result<(), String> {
    let mut open = match sender.take().filter(|open| !open.is_closed()) {
        Some(open) => open,
        None => {
            let stream = TcpStream::connect(address).await.map_err(|e| format!("connect: {e}"))?;
            stream.set_nodelay(true).map_err(|e| format!("nodelay: {e}"))?;
            let (fresh, driver) =
                http1::handshake(TokioIo::new(stream)).await.map_err(|e| format!("handshake: {e}"))?;
            tokio::spawn(driver);
            fresh
        }
    };
    let builder = Request::builder().header("host", "bench.local");
    let (request, wanted) = match run {
        None => (builder.uri("/leaderboard").body(Full::new(Bytes::new())), StatusCode::OK),
        Some(run) => {
            let body = format!(r#"{{"player":"load","score":7,"runId":"{run}"}}"#);
            let builder = builder.method(Method::POST).uri("/score").header("content-type", "application/json");
            (builder.body(Full::new(Bytes::from(body))), StatusCode::CREATED)
        }
    };
    open.ready().await.map_err(|e| format!("connection lost: {e}"))?;
    let request = request.map_err(|e| e.to_string())?;
    let answer = open.send_request(request).await.map_err(|e| format!("send: {e}"))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|e| format!("body: {e}"))?.to_bytes();
    *sender = Some(open);
    if status == wanted { Ok(()) } else { Err(format!("{status}: {}", String::from_utf8_lossy(&body))) }
}
