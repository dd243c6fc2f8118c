//! Traffic moves from release to release, and no client notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use dataplane::proxy::{HoldLimits, Limits, Route};
use http_body::Frame;
use tokio::task::JoinSet;

use crate::support::{Backend, Client, PATIENCE, door_to, door_with, eventually, pieces, share};

/// Clients that ask one request after the other, half of them posting, until they are told to stop; each keeps its
/// connection and counts on it.
struct Load {
    clients: JoinSet<usize>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Load {
    fn start(door: SocketAddr, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for n in 0..count {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            clients.spawn(async move {
                let mut client = Client::connect(door).await;
                let mut asked = 0;
                while !stop.load(SeqCst) {
                    let reply = if n % 2 == 0 { client.get("/").await } else { client.post("/", "score").await };
                    assert_eq!((reply.status, reply.cut), (200, false), "{reply:?}");
                    asked += 1;
                    answered.fetch_add(1, SeqCst);
                }
                asked
            });
        }
        Self { clients, stop, answered }
    }

    async fn answered(&self, more: usize) {
        let before = self.answered.load(SeqCst);
        eventually("the clients get answers", || self.answered.load(SeqCst) >= before + more).await;
    }

    async fn stop(self) -> usize {
        self.stop.store(true, SeqCst);
        self.clients.join_all().await.iter().sum()
    }
}

fn total(route: &Route) -> (u64, u64) {
    let counts = route.counts();
    (counts.values().map(|counts| counts.requests).sum(), counts.values().map(|counts| counts.responses[1]).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_releases_one_after_the_other() {
    let mut old = Backend::named("first").await;
    let (door, route) = door_with(Limits::default());
    route.set(vec![share("0", 100, &[old.address])]);
    let load = Load::start(door.local_addr(), 32);
    load.answered(1).await;
    for n in 1..=200 {
        let new = Backend::named("next").await;
        let (old_name, new_name) = ((n - 1).to_string(), n.to_string());
        if n % 4 == 0 {
            route.set(vec![share(&old_name, 50, &[old.address]), share(&new_name, 50, &[new.address])]);
            load.answered(8).await;
        }
        if n % 4 == 1 {
            route.hold(HoldLimits { wait: PATIENCE, ..HoldLimits::default() });
        } else {
            route.set(vec![share(&new_name, 100, &[new.address])]);
        }
        assert!(route.drained(&old_name, PATIENCE).await);
        route.forget(&old_name);
        old.stop().await;
        if n % 4 == 1 {
            route.set(vec![share(&new_name, 100, &[new.address])]);
            route.resume();
        }
        load.answered(4).await;
        assert_eq!(route.in_flight(&old_name), 0);
        old = new;
    }
    let asked = load.stop().await as u64;
    assert_eq!(total(&route), (asked, asked));
    let counts = route.counts();
    let failed =
        |counts: &dataplane::proxy::Counts| counts.failed_connect + counts.failed_timeout + counts.failed_reset;
    assert_eq!(counts.values().map(failed).sum::<u64>(), 0);
    assert_eq!(counts.values().map(|counts| counts.retries).sum::<u64>(), 0, "an orderly switch needs no second try");
}

/// A backend that is stopped without a word to the proxy, its listener closed while requests still come: GETs go to the
/// other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_stops_unannounced() {
    let [stays, leaves] = [Backend::named("stays").await, Backend::named("leaves").await];
    let (door, route) = door_to(&[stays.address, leaves.address], Limits::default());
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        let (stop, address) = (Arc::clone(&stop), door.local_addr());
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            while !stop.load(SeqCst) {
                let reply = client.get("/").await;
                assert_eq!((reply.status, reply.cut), (200, false), "{reply:?}");
            }
        });
    }
    eventually("both are in use", || stays.seen() > 100 && leaves.seen() > 100).await;
    leaves.stop().await;
    let seen = stays.seen();
    eventually("the other goes on", || stays.seen() > seen + 500).await;
    stop.store(true, SeqCst);
    clients.join_all().await;
    assert_eq!(route.counts()["a"].responses[4], 0);
}

/// All threads of a door together keep to the weights, from the first request on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_are_exact_over_all_threads() {
    let [a, b, c] = [Backend::named("a").await, Backend::named("b").await, Backend::named("c").await];
    let (door, route) = door_with(Limits::default());
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(Client::connect(door.local_addr()).await);
    }
    let mut seen = [0, 0, 0];
    for weights in [[90, 10, 0], [75, 20, 5], [0, 0, 100], [34, 33, 33], [0, 1, 99]] {
        let backends = [&a, &b, &c];
        let shares = ["a", "b", "c"].iter().zip(weights).zip(backends);
        route.set(shares.map(|((name, weight), backend)| share(name, weight, &[backend.address])).collect());
        for _ in 0..10 {
            let mut asking = JoinSet::new();
            for mut client in clients.drain(..) {
                asking.spawn(async move {
                    assert_eq!(client.get("/").await.status, 200);
                    client
                });
            }
            clients = asking.join_all().await;
        }
        for ((seen, backend), weight) in seen.iter_mut().zip(backends).zip(weights) {
            *seen += weight as usize;
            assert_eq!(backend.seen(), *seen, "{weights:?}");
        }
    }
}

#[tokio::test]
async fn draining_waits_for_the_last_byte() {
    let (release, gate) = tokio::sync::watch::channel(false);
    let backend = Backend::start(move |_| {
        let mut gate = gate.clone();
        async move {
            let (sender, body) = pieces();
            tokio::spawn(async move {
                sender.send(Frame::data("first".into())).await.unwrap();
                gate.wait_for(|open| *open).await.unwrap();
                sender.send(Frame::data("last".into())).await.unwrap();
            });
            http::Response::new(body)
        }
    })
    .await;
    let other = Backend::named("other").await;
    let (door, route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    client.send("GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
    let head = client.head().await.unwrap();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(client.exactly(10).await, b"5\r\nfirst\r\n");
    route.set(vec![share("b", 1, &[other.address])]);
    assert_eq!(route.in_flight("a"), 1);
    assert!(!route.drained("a", Duration::from_millis(20)).await);
    assert_eq!(Client::connect(door.local_addr()).await.get("/").await.json()["name"], "other");
    release.send(true).unwrap();
    assert!(route.drained("a", PATIENCE).await);
    assert_eq!(client.exactly(14).await, b"4\r\nlast\r\n0\r\n\r\n");
}

#[tokio::test]
async fn forgetting_closes_idle_connections() {
    let backend = Backend::named("a").await;
    let (door, route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    assert_eq!(client.get("/").await.status, 200);
    let open = || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let address = format!("0100007F:{:04X}", backend.address.port());
        sockets.lines().filter(|line| line.split_whitespace().nth(2) == Some(&address) && line.contains(" 01 ")).count()
    };
    assert_eq!(open(), 1);
    route.forget("a");
    eventually("it is closed", || open() == 0).await;
    assert_eq!(client.get("/").await.status, 200, "and opened again when it is needed");
    route.forget("unknown");
}
