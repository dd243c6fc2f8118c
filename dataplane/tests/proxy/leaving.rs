//! One of a release's backends leaves while the others stay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use dataplane::proxy::Limits;
use http_body::Frame;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Backend, Client, PATIENCE, door_to, eventually, pieces, share};

/// A backend whose answers begin at once and end when the gate opens.
async fn gated(gate: watch::Receiver<bool>) -> Backend {
    Backend::start(move |_| {
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
    .await
}

async fn begin(door: SocketAddr) -> Client {
    let mut client = Client::connect(door).await;
    client.send("GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
    client.head().await.unwrap();
    assert_eq!(client.exactly(10).await, b"5\r\nfirst\r\n");
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_requests_of_the_one_that_leaves_are_waited_for() {
    let (opens, gate) = watch::channel(false);
    let (_never, shut) = watch::channel(false);
    let [leaves, stays] = [gated(gate).await, gated(shut).await];
    let (door, route) = door_to(&[leaves.address, stays.address], Limits::default());
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(begin(door.local_addr()).await);
    }
    assert_eq!((leaves.seen(), stays.seen()), (3, 3));
    route.set(vec![share("a", 100, &[stays.address])]);
    assert!(!route.left("a", &[leaves.address], Duration::from_millis(50)).await, "three have not ended");
    assert!(route.left("a", &[stays.address], Duration::ZERO).await, "it does not leave");
    assert!(route.left("b", &[leaves.address], Duration::ZERO).await, "another release never had it");
    opens.send(true).unwrap();
    assert!(route.left("a", &[leaves.address], PATIENCE).await);
    eventually("those of the one that stays go on", || route.in_flight("a") == 3).await;
    // The same address may come back, and is another one then.
    route.set(vec![share("a", 100, &[leaves.address])]);
    assert!(route.left("a", &[leaves.address], PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_come_and_go_under_load_without_a_second_try() {
    let mut backends = vec![Backend::named("0").await, Backend::named("1").await, Backend::named("2").await];
    let addresses = |backends: &[Backend]| backends.iter().map(|backend| backend.address).collect::<Vec<_>>();
    let (door, route) = door_to(&addresses(&backends), Limits::default());
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for n in 0..16 {
        let (stop, answered, address) = (Arc::clone(&stop), Arc::clone(&answered), door.local_addr());
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            while !stop.load(SeqCst) {
                let reply = if n % 2 == 0 { client.get("/").await } else { client.post("/", "score").await };
                assert_eq!((reply.status, reply.cut), (200, false), "{reply:?}");
                answered.fetch_add(1, SeqCst);
            }
        });
    }
    for _ in 0..60 {
        backends.push(Backend::named("next").await);
        let leaves = backends.remove(0);
        route.set(vec![share("a", 100, &addresses(&backends))]);
        assert!(route.left("a", &[leaves.address], PATIENCE).await);
        leaves.stop().await;
        let more = answered.load(SeqCst) + 20;
        eventually("the clients get answers", || answered.load(SeqCst) >= more).await;
    }
    stop.store(true, SeqCst);
    clients.join_all().await;
    let counts = &route.counts()["a"];
    assert_eq!((counts.retries, counts.responses[4], counts.failed_connect), (0, 0, 0));
}

#[tokio::test]
async fn idle_connections_to_it_are_closed() {
    let [leaves, stays] = [Backend::named("a").await, Backend::named("b").await];
    let (door, route) = door_to(&[leaves.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    assert_eq!(client.get("/").await.status, 200);
    let open = || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let address = format!("0100007F:{:04X}", leaves.address.port());
        sockets.lines().filter(|line| line.split_whitespace().nth(2) == Some(&address) && line.contains(" 01 ")).count()
    };
    assert_eq!(open(), 1);
    route.set(vec![share("a", 100, &[stays.address])]);
    assert!(route.left("a", &[leaves.address], PATIENCE).await);
    eventually("it is closed", || open() == 0).await;
}
