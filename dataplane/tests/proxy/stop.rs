//! How a door closes, and how another one takes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use dataplane::proxy::{Door, Limits, Route};
use tokio::task::JoinSet;

use crate::support::{Act, Backend, Client, PATIENCE, Script, door_to, eventually, share};

const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn what_is_in_flight_ends_and_idle_connections_close() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let backend = Backend::start(move |_| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await.unwrap();
            http::Response::new(crate::support::text("done"))
        }
    })
    .await;
    let (door, route) = door_to(&[backend.address], Limits { farewell: SOON, linger: SOON, ..Limits::default() });
    let address = door.local_addr();
    let mut busy = Client::connect(address).await;
    busy.send("GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
    let mut idle = Client::connect(address).await;
    let mut half = Client::connect(address).await;
    half.send("GET / HTT").await;
    eventually("all are there", || route.in_flight("a") == 1 && door.connections() == 3).await;
    let stopping = tokio::spawn(door.stop(PATIENCE));
    assert_eq!(half.reply().await.status, 408);
    assert!(idle.ended().await && half.ended().await);
    assert!(!stopping.is_finished());
    go.send(true).unwrap();
    let reply = busy.reply().await;
    assert_eq!((reply.body.as_slice(), reply.header("connection")), (&b"done"[..], Some("close")));
    assert!(busy.ended().await);
    stopping.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn at_the_deadline_everything_ends() {
    let backend = Script::start([Act::AnswerAndStay(b"")]).await;
    let (door, route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    client.send("GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
    eventually("it is in flight", || route.in_flight("a") == 1).await;
    let started = Instant::now();
    door.stop(Duration::from_millis(50)).await;
    assert!(started.elapsed() < PATIENCE);
    assert!(client.ended().await);
    assert_eq!(route.in_flight("a"), 0);
}

#[tokio::test]
async fn a_dropped_door_is_gone() {
    let backend = Backend::named("a").await;
    let (door, _route) = door_to(&[backend.address], Limits::default());
    let mut client = Client::connect(door.local_addr()).await;
    assert_eq!(client.get("/").await.status, 200);
    drop(door);
    assert!(client.ended().await);
}

#[test]
fn limits_that_cannot_work_are_refused() {
    for limits in [
        Limits { buffer_bytes_max: 100, ..Limits::default() },
        Limits { head_bytes_max: 1 << 20, ..Limits::default() },
        Limits { connections_max: 0, ..Limits::default() },
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = Door::start(listener, Route::new(), limits).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}

/// Doors take over from each other under load, each with the listener of the one before, and no client fails that
/// follows `Connection: close`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn successors_take_over_under_load() {
    let backend = Backend::named("a").await;
    let (mut door, route) = door_to(&[backend.address], Limits::default());
    let address = door.local_addr();
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        let stop = Arc::clone(&stop);
        clients.spawn(async move {
            let mut asked = 0;
            let mut client = Client::connect(address).await;
            while !stop.load(SeqCst) {
                let reply = client.post("/", "x").await;
                assert_eq!((reply.status, reply.cut), (200, false));
                asked += 1;
                if reply.header("connection") == Some("close") {
                    client = Client::connect(address).await;
                }
            }
            asked
        });
    }
    for _ in 0..20 {
        let seen = backend.seen();
        eventually("there is traffic", || backend.seen() > seen + 50).await;
        let next = Route::new();
        next.set(vec![share("a", 1, &[backend.address])]);
        let listener = door.listener().try_clone().unwrap();
        let successor = Door::start(listener, next, Limits { workers: 2, ..Limits::default() }).unwrap();
        std::mem::replace(&mut door, successor).stop(PATIENCE).await;
    }
    stop.store(true, SeqCst);
    let asked: usize = clients.join_all().await.iter().sum();
    assert_eq!(backend.seen(), asked);
    assert_eq!(route.in_flight("a"), 0);
}
