//! Requests of a drill's own, so that there is something to notice: reads and scores at a steady rate, each score with an
//! identity of its own. It is bounded in rate, in time and in what it waits for, and judges nothing.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

/// Between two looks at how many requests are due.
const TICK: Duration = Duration::from_millis(5);
/// Requests that are waited for at the same time.
const IN_FLIGHT_MAX: usize = 512;
/// An answer that takes longer is none.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// A longer answer is not read on.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// One of so many requests is a score.
const SCORE_EVERY: u64 = 4;
/// Requests that may be late at once; after a pause of the machine the others are left out.
const BURST_MAX: u64 = 100;

/// A load that runs.
pub(crate) struct Load {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What the requests met.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Every request that was answered, or given up.
    pub(crate) requests: Vec<Met>,
    /// The identities of the scores that were acknowledged.
    pub(crate) acknowledged: Vec<String>,
    /// Left out, because too many were waited for.
    pub(crate) left_out: u64,
}

/// What one request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Met {
    /// When it began, in milliseconds since the load did.
    pub(crate) began_ms: u32,
    pub(crate) took_ms: u32,
    /// 0 where there was no answer.
    pub(crate) status: u16,
}

struct Shared {
    authority: String,
    prefix: String,
    started: Instant,
    stop: AtomicBool,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    tally: Mutex<Tally>,
}

impl Load {
    /// Begins: so many requests a second to that `host:port`, for so long at most. Needs a runtime.
    pub(crate) fn start(authority: String, prefix: String, rate: u32, at_most: Duration) -> Self {
        let shared = Arc::new(Shared {
            authority,
            prefix,
            started: Instant::now(),
            stop: AtomicBool::new(false),
            idle: Mutex::default(),
            tally: Mutex::default(),
        });
        let task = tokio::spawn(run(shared.clone(), rate, at_most));
        Load { shared, task }
    }

    /// Makes no more requests, and waits for the answers to those that were made.
    pub(crate) async fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::SeqCst);
        // It ends by itself once each request was answered or given up.
        let _ = self.task.await;
        std::mem::take(&mut *lock(&self.shared.tally))
    }
}

async fn run(shared: Arc<Shared>, rate: u32, at_most: Duration) {
    let in_flight = Arc::new(tokio::sync::Semaphore::new(IN_FLIGHT_MAX));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut made = 0;
    while !shared.stop.load(Ordering::SeqCst) && shared.started.elapsed() < at_most {
        ticks.tick().await;
        let due = u64::from(rate) * u64::try_from(shared.started.elapsed().as_millis()).unwrap_or(u64::MAX) / 1000;
        let skipped = due.saturating_sub(made).saturating_sub(BURST_MAX);
        made += skipped;
        let mut left_out = skipped;
        while made < due {
            made += 1;
            match in_flight.clone().try_acquire_owned() {
                Ok(permit) => {
                    let (shared, number) = (shared.clone(), made);
                    tokio::spawn(async move {
                        shared.ask(number).await;
                        drop(permit);
                    });
                }
                Err(_) => left_out += 1,
            }
        }
        lock(&shared.tally).left_out += left_out;
    }
    let all = u32::try_from(IN_FLIGHT_MAX).unwrap_or(u32::MAX);
    let _ = in_flight.acquire_many(all).await;
}

impl Shared {
    async fn ask(&self, number: u64) {
        let began = self.started.elapsed();
        let score = number.is_multiple_of(SCORE_EVERY).then(|| format!("{}{number}", self.prefix));
        let status = timeout(ANSWER_MAX, self.answer(score.as_deref())).await.ok().flatten().unwrap_or(0);
        let took = self.started.elapsed().saturating_sub(began);
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let mut tally = lock(&self.tally);
        tally.requests.push(Met { began_ms: ms(began), took_ms: ms(took), status });
        if let Some(score) = score.filter(|_| status == 201) {
            tally.acknowledged.push(score);
        }
    }

    /// The status of the answer, once all of it was read.
    async fn answer(&self, score: Option<&str>) -> Option<u16> {
        let request = |()| -> Option<Request<Full<Bytes>>> {
            let host = Request::builder().header("host", &self.authority).header("user-agent", "dbird-drill");
            match score {
                None => host.method(Method::GET).uri("/leaderboard").body(Full::default()).ok(),
                Some(run) => {
                    // No points: it must not stand above a person's.
                    let body = serde_json::json!({ "player": "drill", "score": 0, "runId": run }).to_string();
                    let post = host.method(Method::POST).uri("/score").header("content-type", "application/json");
                    post.body(Full::from(body)).ok()
                }
            }
        };
        let idle = lock(&self.idle).pop();
        if let Some(mut sender) = idle
            && sender.ready().await.is_ok()
        {
            match sender.try_send_request(request(())?).await {
                Ok(answer) => return self.read(sender, answer).await,
                // It was closed between two requests: nothing was sent, so another connection may be tried.
                Err(mut e) => {
                    e.take_message()?;
                }
            }
        }
        let stream = TcpStream::connect(&self.authority).await.ok()?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let answer = sender.send_request(request(())?).await.ok()?;
        self.read(sender, answer).await
    }

    async fn read(
        &self,
        sender: SendRequest<Full<Bytes>>,
        answer: hyper::Response<hyper::body::Incoming>,
    ) -> Option<u16> {
        let status = answer.status().as_u16();
        Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.ok()?;
        lock(&self.idle).push(sender);
        Some(status)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
