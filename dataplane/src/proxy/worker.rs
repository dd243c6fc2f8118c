//! One thread of a door: its event loop and its connections. It decides which thread serves which connection and when
//! one has had its time; nothing in here is shared with another thread but the route and a few counters.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::HeaderValue;
use hyper::{client, server};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout_at};

use super::answer::Refusal;
use super::clock::{Clock, Spans};
use super::connection;
use super::limits::Limits;
use super::link::Link;
use super::pool::{Lane, Target};
use super::release::Release;
use super::route::Route;
use super::table::Plan;

/// Clients over the limit that are being told so at once, by each thread; more are just closed.
const TURNED_AWAY_MAX: usize = 64;
/// How often idle connections to backends are looked over.
const SWEEP: Duration = Duration::from_secs(1);
/// How long accepting rests after the machine ran out of something.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What a door's threads have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) route: Arc<Route>,
    /// Open client connections of each thread.
    pub(super) open: Vec<AtomicUsize>,
    pub(super) commands: Vec<mpsc::UnboundedSender<Command>>,
}

/// What a thread is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve a connection that another thread accepted. At most [`Limits::connections_max`] of them exist.
    Serve(std::net::TcpStream, SocketAddr),
    /// Accept no more, let what is in flight end, be gone at this instant.
    Stop(Instant),
    /// One more thread accepts no more, so it will send no further connection.
    Closed,
}

/// One thread's own things.
pub(super) struct Worker {
    at: usize,
    /// Which part of the totals this thread writes.
    pub(super) shard: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Rc<Limits>,
    pub(super) clock: Rc<Clock>,
    spans: Rc<Spans>,
    pub(super) server: server::conn::http1::Builder,
    pub(super) client: client::conn::http1::Builder,
    view: RefCell<Rc<View>>,
    targets: RefCell<HashMap<u64, Rc<Target>>>,
    links: RefCell<HashMap<u64, Rc<Link>>>,
    next_link: Cell<u64>,
    turned_away: Cell<usize>,
    retiring: Cell<bool>,
    /// A connection came.
    came: Notify,
    /// A connection went.
    left: Notify,
}

/// The route's table, with this thread's pools.
struct View {
    version: u64,
    held: bool,
    plan: Arc<Plan>,
    lanes: Vec<Rc<Lane>>,
}

/// Where a request goes.
pub(super) enum Pick {
    /// To this release, which counts it as in flight already.
    Lane(Rc<Lane>),
    Held,
    Nowhere,
}

impl Worker {
    fn new(at: usize, shared: Arc<Shared>) -> Rc<Self> {
        static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);
        let limits = &shared.limits;
        let mut server = server::conn::http1::Builder::new();
        server.max_buf_size(limits.buffer_bytes_max).max_header_size(limits.head_bytes_max);
        let mut client = client::conn::http1::Builder::new();
        client.max_buf_size(limits.buffer_bytes_max).max_header_size(limits.head_bytes_max).writev(false);
        Rc::new(Self {
            at,
            shard: NEXT_SHARD.fetch_add(1, Relaxed),
            limits: Rc::new(limits.clone()),
            clock: Rc::new(Clock::new()),
            spans: Rc::new(Spans::new(limits)),
            server,
            client,
            view: RefCell::new(Rc::new(View { version: 0, held: false, plan: Arc::default(), lanes: Vec::new() })),
            targets: RefCell::default(),
            links: RefCell::default(),
            next_link: Cell::new(0),
            turned_away: Cell::new(0),
            retiring: Cell::new(false),
            came: Notify::new(),
            left: Notify::new(),
            shared,
        })
    }

    pub(super) fn route(&self) -> &Arc<Route> {
        &self.shared.route
    }

    pub(super) fn unrouted(&self) -> &Release {
        self.shared.route.unrouted()
    }

    /// Counts what could not even be read as a request.
    pub(super) fn refused(&self, refusal: Refusal) {
        self.unrouted().shard(self.shard).answered(refusal.status, Duration::ZERO);
    }

    /// Chooses where a request goes. Counting it in first and looking at the version again after makes sure that a
    /// change of the route never misses it, see [`Release::enter`].
    pub(super) fn pick(&self) -> Pick {
        loop {
            let view = Rc::clone(&self.view.borrow());
            if view.version == self.route().version() {
                if view.held {
                    return Pick::Held;
                }
                let Some(at) = view.plan.turn() else { return Pick::Nowhere };
                let lane = Rc::clone(&view.lanes[at]);
                lane.release.enter(self.shard);
                if view.version == self.route().version() {
                    return Pick::Lane(lane);
                }
                lane.release.leave(self.shard);
            }
            self.look_again();
        }
    }

    fn look_again(&self) {
        let table = self.route().table();
        let mut targets = self.targets.borrow_mut();
        let lanes = table.plan.portions.iter().enumerate().map(|(at, portion)| {
            let target = |backend| {
                let new = || Target::new(backend, &portion.release);
                Rc::clone(targets.entry(backend.id).or_insert_with(new))
            };
            let targets = portion.backends.iter().map(target).collect();
            Lane::new(&table.plan, at, targets)
        });
        let lanes = lanes.collect();
        *self.view.borrow_mut() =
            Rc::new(View { version: table.version, held: table.held, plan: Arc::clone(&table.plan), lanes });
    }

    /// Closes idle connections to backends that are of no more use, and lets go of the backends themselves.
    fn sweep(&self) {
        self.clock.read();
        let version = self.view.borrow().version;
        if version != self.route().version() {
            self.look_again();
        }
        self.targets.borrow_mut().retain(|_, target| target.sweep(self) || Rc::strong_count(target) > 1);
    }

    fn check_deadlines(&self) {
        self.clock.read();
        let now_ms = self.clock.now_ms();
        self.links.borrow().values().for_each(|link| link.check_deadline(now_ms));
    }

    /// Gives a new connection to the thread that has fewest.
    fn place(self: &Rc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let open = &self.shared.open;
        let total: usize = open.iter().map(|open| open.load(Relaxed)).sum();
        if total >= self.limits.connections_max {
            return self.turn_away(tcp);
        }
        let own = open[self.at].load(Relaxed);
        let (at, fewest) = open
            .iter()
            .map(|open| open.load(Relaxed))
            .enumerate()
            .min_by_key(|(_, open)| *open)
            .unwrap_or((self.at, own));
        if fewest + 1 >= own || at == self.at {
            open[self.at].fetch_add(1, Relaxed);
            return self.serve(tcp, peer);
        }
        open[at].fetch_add(1, Relaxed);
        let sent = tcp.into_std().is_ok_and(|tcp| self.shared.commands[at].send(Command::Serve(tcp, peer)).is_ok());
        if !sent {
            open[at].fetch_sub(1, Relaxed);
        }
    }

    /// The caller counted it as open.
    fn serve(self: &Rc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let client = HeaderValue::from_str(&peer.ip().to_canonical().to_string());
        let client = client.unwrap_or(HeaderValue::from_static("unknown"));
        self.clock.read();
        let link = Rc::new(Link::new(client, Rc::clone(&self.clock), Rc::clone(&self.spans)));
        link.retiring.set(self.retiring.get());
        let id = self.next_link.get();
        self.next_link.set(id + 1);
        self.links.borrow_mut().insert(id, Rc::clone(&link));
        self.came.notify_one();
        let seat = Seat { worker: Rc::clone(self), id };
        spawn_local(async move {
            let seat = seat;
            connection::serve(&seat.worker, &link, tcp).await;
        });
    }

    /// Serves what another thread accepted, and counted as open.
    fn take_over(self: &Rc<Self>, tcp: std::net::TcpStream, peer: SocketAddr) {
        match TcpStream::from_std(tcp) {
            Ok(tcp) => self.serve(tcp, peer),
            Err(error) => {
                self.shared.open[self.at].fetch_sub(1, Relaxed);
                tracing::warn!(%error, "a connection could not be taken over");
            }
        }
    }

    fn turn_away(self: &Rc<Self>, tcp: TcpStream) {
        if self.turned_away.get() >= TURNED_AWAY_MAX {
            return;
        }
        self.turned_away.set(self.turned_away.get() + 1);
        let worker = Rc::clone(self);
        spawn_local(async move {
            connection::turn_away(tcp, worker.limits.linger).await;
            worker.turned_away.set(worker.turned_away.get() - 1);
        });
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((tcp, peer)) => {
                    // A connection that is gone already fails here, and again when it is read.
                    let _ = tcp.set_nodelay(true);
                    self.place(tcp, peer);
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "accepting rests for a moment");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    async fn tick(self: Rc<Self>, changed: Arc<Notify>) {
        let mut tick = interval(self.limits.tick());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let idle = self.links.borrow().is_empty() && self.targets.borrow().values().all(|target| target.is_empty());
            tokio::select! {
                // Without any connection there is no deadline, so nothing wakes up for one.
                _ = tick.tick(), if !idle => self.check_deadlines(),
                _ = sweep.tick(), if !idle => self.sweep(),
                () = changed.notified() => self.sweep(),
                () = self.came.notified(), if idle => {}
            }
        }
    }

    /// Lets connections end: those that speak up get one more answer, those that stay silent are closed.
    async fn stop(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let farewell = Instant::now() + self.limits.farewell.min(left / 2);
        self.retiring.set(true);
        self.links.borrow().values().for_each(|link| link.retiring.set(true));
        if !self.is_empty_by(farewell).await {
            for link in self.links.borrow().values() {
                link.closing.set(true);
                link.wake();
            }
            self.is_empty_by(deadline).await;
        }
    }

    async fn is_empty_by(&self, deadline: Instant) -> bool {
        let empty = async {
            while !self.links.borrow().is_empty() {
                self.left.notified().await;
            }
        };
        timeout_at(deadline.into(), empty).await.is_ok()
    }
}

/// A connection's place among those of its thread, given back however it ends.
struct Seat {
    worker: Rc<Worker>,
    id: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.links.borrow_mut().remove(&self.id);
        self.worker.shared.open[self.worker.at].fetch_sub(1, Relaxed);
        self.worker.left.notify_one();
    }
}

/// The body of a door's thread.
pub(super) async fn run(
    at: usize,
    listener: TcpListener,
    shared: Arc<Shared>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let worker = Worker::new(at, shared);
    let changed = Arc::new(Notify::new());
    worker.route().watch(&changed);
    spawn_local(Rc::clone(&worker).tick(changed));
    let accepting = spawn_local(Rc::clone(&worker).accept(listener));
    let mut closed = 0;
    let deadline = loop {
        match commands.recv().await {
            Some(Command::Serve(tcp, peer)) => worker.take_over(tcp, peer),
            Some(Command::Closed) => closed += 1,
            Some(Command::Stop(deadline)) => break deadline,
            None => return,
        }
    };
    accepting.abort();
    for inbox in &worker.shared.commands {
        // An error is a thread that is gone already.
        let _ = inbox.send(Command::Closed);
    }
    // What other threads accepted before they were told is still on its way here.
    let threads = worker.shared.commands.len();
    let mut stop = std::pin::pin!(worker.stop(deadline));
    let mut stopped = false;
    while !stopped || (closed < threads && Instant::now() < deadline) {
        tokio::select! {
            () = &mut stop, if !stopped => stopped = true,
            command = timeout_at(deadline.into(), commands.recv()) => match command {
                Ok(Some(Command::Serve(tcp, peer))) => {
                    worker.take_over(tcp, peer);
                    if stopped {
                        stop.set(worker.stop(deadline));
                        stopped = false;
                    }
                }
                Ok(Some(Command::Closed)) => closed += 1,
                Ok(Some(Command::Stop(_)) | None) | Err(_) => {}
            }
        }
    }
}

/// Errors of accept that are the client's, as listed in accept(2).
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    use super::*;
    use crate::proxy::Share;

    /// Threads choose without pause while the route changes without pause: once a release that was replaced is seen
    /// empty, nobody may be at it any more.
    #[test]
    fn nobody_is_at_a_release_that_was_drained() {
        const CHANGES: u64 = 5_000;
        let route = Route::new();
        let share = |n: u64| Share {
            release: n.to_string(),
            weight: 1,
            backends: vec![SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2))],
        };
        route.set(vec![share(0)]);
        let (drained, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let choose = |shared: Arc<Shared>| {
            let worker = Worker::new(0, shared);
            let mut chosen = 0;
            while !over.load(SeqCst) {
                if let Pick::Lane(lane) = worker.pick() {
                    let number: u64 = lane.release.name.parse().unwrap();
                    assert!(drained.load(SeqCst) <= number, "chose {number} after it was seen empty");
                    lane.release.leave(worker.shard);
                    chosen += 1;
                }
            }
            chosen
        };
        let shared = || {
            let (limits, open) = (Limits::default(), vec![AtomicUsize::new(0)]);
            Arc::new(Shared { limits, route: Arc::clone(&route), open, commands: Vec::new() })
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..2).map(|_| (shared(), scope)).map(|(s, scope)| scope.spawn(|| choose(s))).collect();
            for n in 1..=CHANGES {
                route.set(vec![share(n)]);
                while route.in_flight(&(n - 1).to_string()) > 0 {
                    assert!(!threads.iter().any(|thread| thread.is_finished()), "a thread failed");
                    std::hint::spin_loop();
                }
                // All before n are empty now.
                drained.store(n, SeqCst);
            }
            over.store(true, SeqCst);
            for thread in threads {
                assert!(thread.join().unwrap() > 0, "this thread chose nothing");
            }
        });
    }
}
