//! Requests that wait at the door.

use std::time::{Duration, Instant};

use dataplane::proxy::{HoldLimits, Limits};

use crate::support::{Backend, Client, door_to, eventually, share};

#[tokio::test]
async fn held_requests_go_to_who_serves_when_they_go_on() {
    let [old, new] = [Backend::named("old").await, Backend::named("new").await];
    let (door, route) = door_to(&[old.address], Limits::default());
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(door.local_addr()).await;
        assert_eq!(client.get("/").await.json()["name"], "old");
        clients.push(client);
    }
    let patient = HoldLimits { wait: Duration::from_secs(60), ..HoldLimits::default() };
    route.hold(patient);
    route.hold(patient);
    for (n, client) in clients.iter_mut().enumerate() {
        match n % 2 {
            0 => client.send(format!("GET /{n} HTTP/1.1\r\nhost: b\r\n\r\n")).await,
            _ => client.send(format!("POST /{n} HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\n\r\nok")).await,
        }
    }
    eventually("all wait", || route.waiting() == 20).await;
    assert_eq!(old.seen(), 20);
    assert!(route.drained("a", Duration::ZERO).await, "who waits is in flight nowhere");
    route.set(vec![share("b", 1, &[new.address])]);
    assert_eq!(route.waiting(), 20, "a new table is no end of a hold");
    old.stop().await;
    route.resume();
    for (n, client) in clients.iter_mut().enumerate() {
        let seen = client.reply().await.json();
        assert_eq!((seen["name"].as_str(), seen["target"].as_str()), (Some("new"), Some(&*format!("/{n}"))));
    }
    route.resume();
    let counts = route.counts();
    assert_eq!((counts["a"].held, counts["b"].held, counts["b"].responses[1]), (0, 20, 20));
}

/// One after the other over one connection to the backend, so that the order can be seen.
#[tokio::test]
async fn the_first_to_wait_is_the_first_to_go() {
    let backend = Backend::named("a").await;
    let (door, route) = door_to(&[backend.address], Limits { workers: 1, ..Limits::default() });
    let mut clients = Vec::new();
    route.hold(HoldLimits { wait: Duration::from_secs(60), ..HoldLimits::default() });
    for n in 0..20 {
        let mut client = Client::connect(door.local_addr()).await;
        client.send(format!("GET /{n} HTTP/1.1\r\nhost: b\r\n\r\n")).await;
        eventually("it waits", || route.waiting() == n + 1).await;
        clients.push(client);
    }
    let shares = (0..20).map(|n| share(&n.to_string(), 1, &[backend.address])).collect();
    route.set(shares);
    route.resume();
    for client in &mut clients {
        assert_eq!(client.reply().await.status, 200);
    }
    // With one turn for each release, the n-th to choose went to the n-th in turn; both threads chose in order.
    assert!(route.counts().values().all(|counts| counts.requests == counts.held));
    assert_eq!(route.counts().values().map(|counts| counts.held).sum::<u64>(), 20);
}

#[tokio::test]
async fn a_hold_is_bounded_in_number_and_in_time() {
    let backend = Backend::named("a").await;
    let (door, route) = door_to(&[backend.address], Limits::default());
    route.hold(HoldLimits { waiting_max: 3, wait: Duration::from_secs(60) });
    let mut waiting = Vec::new();
    for n in 1..=3 {
        let mut client = Client::connect(door.local_addr()).await;
        client.send("GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
        eventually("it waits", || route.waiting() == n).await;
        waiting.push(client);
    }
    let mut client = Client::connect(door.local_addr()).await;
    let reply = client.get("/").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert!(reply.error().contains("too many requests wait"), "{reply:?}");

    // A client that goes away frees its place, with a body or without.
    waiting.pop();
    eventually("its place is free", || route.waiting() == 2).await;
    client.send("POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\n\r\nok").await;
    eventually("the place is taken", || route.waiting() == 3).await;
    drop(client);
    eventually("its place is free", || route.waiting() == 2).await;

    route.hold(HoldLimits { waiting_max: 4, wait: Duration::from_millis(50) });
    let mut client = Client::connect(door.local_addr()).await;
    let started = Instant::now();
    let reply = client.get("/").await;
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert!(reply.error().contains("is not there yet"), "{reply:?}");
    assert_eq!(route.waiting(), 2);

    route.resume();
    for client in &mut waiting {
        assert_eq!(client.reply().await.status, 200);
    }
    assert_eq!(client.get("/").await.status, 200, "the connection stayed");
    assert_eq!(backend.seen(), 3);
}

#[tokio::test]
async fn the_default_is_1024_places_for_a_second_and_a_half() {
    let backend = Backend::named("a").await;
    let (door, route) = door_to(&[backend.address], Limits::default());
    route.hold(HoldLimits { wait: Duration::from_secs(60), ..HoldLimits::default() });
    let mut clients = Vec::new();
    for _ in 0..1024 {
        let mut client = Client::connect(door.local_addr()).await;
        client.send("GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
        clients.push(client);
    }
    eventually("1,024 wait", || route.waiting() == 1024).await;
    assert_eq!(Client::connect(door.local_addr()).await.get("/").await.status, 503);
    route.resume();
    for client in &mut clients {
        assert_eq!(client.reply().await.status, 200);
    }
    assert_eq!(HoldLimits::default(), HoldLimits { waiting_max: 1024, wait: Duration::from_millis(1500) });
}
