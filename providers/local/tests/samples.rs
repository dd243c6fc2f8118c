//! What the agent says of releases' traffic, against what clients really did, on real processes.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dbird_core::provider::Failing;
use dbird_core::{Provider, ReleaseId, Samples, Window};
use support::load::Load;
use support::{PATIENCE, Project, eventually};
use tokio::io::AsyncWriteExt;

async fn sample(project: &Project, releases: &[u64], length_ms: u64) -> Vec<Samples> {
    let releases: Vec<_> = releases.iter().copied().map(ReleaseId).collect();
    project.provider.sample(&project.target, &releases, Window { length_ms }).await.unwrap()
}

fn told(samples: &Samples) -> Vec<(&str, u16, u64)> {
    samples.failing.iter().map(|row| (row.request.as_str(), row.status, row.count)).collect()
}

#[tokio::test]
async fn each_release_s_requests_errors_and_latencies_are_told() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let handle = project.candidate(2, &[("VERSION", "v2")]).await;
    project.shift(&handle, &[(1, 50), (2, 50)]).await;
    for _ in 0..10 {
        assert_eq!(project.get("/").await.0, 200);
        assert_eq!(project.get("/status/404/x").await.0, 404);
    }
    for _ in 0..4 {
        assert_eq!(project.get("/slow?ms=120").await.0, 200);
        assert_eq!(project.get("/status/500/score?key=1").await.0, 500);
    }
    // A client that does not wait is nobody's error.
    let mut gone = tokio::net::TcpStream::connect(("127.0.0.1", project.port)).await.unwrap();
    gone.write_all(b"GET /slow?ms=500 HTTP/1.1\r\nhost: bird\r\n\r\n").await.unwrap();
    drop(gone);
    let mut both = Vec::new();
    eventually("all 28 are counted", async || {
        both = sample(&project, &[1, 2, 7], 60_000).await;
        both.iter().map(|samples| samples.requests).sum::<u64>() == 28
    })
    .await;
    assert_eq!(both[2], Samples { window_ms: both[2].window_ms, ..Samples::none(ReleaseId(7)) }, "it never was here");
    let sum = |of: &dyn Fn(&Samples) -> u64| both.iter().map(of).sum::<u64>();
    assert_eq!(sum(&|samples| samples.errors), 4);
    assert_eq!(sum(&|samples| samples.latency_ms.values().sum()), 28);
    let slow =
        |samples: &Samples| samples.latency_ms.iter().filter(|(ms, _)| **ms > 100).map(|(_, count)| *count).sum();
    assert!(sum(&slow) >= 4, "{both:?}");
    for samples in &both[..2] {
        assert!(samples.requests.abs_diff(14) <= 1, "half each: {samples:?}");
        assert!(samples.window_ms <= 60_000);
        let errors: u64 = samples.failing.iter().map(|row| row.count).sum();
        assert_eq!(errors, samples.errors, "{samples:?}");
        assert!(told(samples).iter().all(|(request, status, _)| (*request, *status) == ("GET /status/500/score", 500)));
    }

    // All to the candidate, so that its numbers are exact.
    project.shift(&handle, &[(1, 0), (2, 100)]).await;
    let begun = Instant::now();
    let zero = sample(&project, &[2], 0).await;
    assert_eq!(zero, [Samples::none(ReleaseId(2))], "a window that begins now is empty");
    for (path, times) in [("/hang-up", 2), ("/break-off", 3), ("/status/503/a", 4), ("/status/200/a", 5)] {
        for _ in 0..times {
            project.get(path).await;
        }
    }
    let mut after = Vec::new();
    eventually("all 14 are counted", async || {
        let window_ms = begun.elapsed().as_millis().try_into().unwrap();
        after = sample(&project, &[2, 1], window_ms).await;
        after[0].requests == 14
    })
    .await;
    let expected = [("GET /status/503/a", 503, 4), ("GET /break-off", 0, 3), ("GET /hang-up", 502, 2)];
    assert_eq!((told(&after[0]), after[0].errors), (expected.to_vec(), 9));
    assert_eq!((after[1].requests, after[1].failing.len()), (0, 0));
    project.roll_back(&handle).await;
}

#[tokio::test]
async fn a_short_window_has_its_own_requests_and_no_others() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let handle = project.candidate(2, &[("VERSION", "v2")]).await;
    project.shift(&handle, &[(1, 0), (2, 100)]).await;
    // When each answer was there.
    let answered = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let client = tokio::spawn({
        let (answered, stop, port) = (Arc::clone(&answered), Arc::clone(&stop), project.port);
        async move {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                support::load::get(port, "/").await.unwrap();
                answered.lock().unwrap().push(Instant::now());
            }
        }
    });
    let begun = Instant::now();
    eventually("it went on for longer than the window", async || begun.elapsed() > Duration::from_millis(3500)).await;
    let mut looks = Vec::new();
    for length_ms in [1000, 1000, 2000, 3000] {
        let before = Instant::now();
        let samples = sample(&project, &[2], length_ms).await.remove(0);
        looks.push((length_ms, before, Instant::now(), samples));
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    tokio::time::timeout(PATIENCE, client).await.unwrap().unwrap();
    let answered = answered.lock().unwrap();
    // From the count to the client's note of it, on a machine that is busy with other tests.
    let slack = Duration::from_millis(100);
    for (length_ms, before, after, samples) in looks {
        let covered_ms = samples.window_ms;
        assert!((length_ms * 8 / 10..=length_ms * 13 / 10).contains(&covered_ms), "{length_ms} ms: {covered_ms} ms");
        let window = Duration::from_millis(covered_ms);
        let among = |from: Instant, to: Instant| answered.iter().filter(|at| (from..to).contains(*at)).count() as u64;
        let least = among(after - window + slack, before - slack);
        let most = among(before - window - slack, after + slack);
        assert!((least..=most).contains(&samples.requests), "{} not in {least}..={most}", samples.requests);
        assert!(least > 0);
    }
}

#[tokio::test]
async fn windows_that_follow_each_other_lose_and_repeat_nothing() {
    let project = Project::new();
    project.deploy(1, &[("VERSION", "v1")]).await;
    let load = Load::start(project.port, 8, |n| format!("/status/{}/{n}", if n % 4 == 0 { 500 } else { 200 }));
    let mut last = Instant::now();
    let before = sample(&project, &[1], 0).await.remove(0);
    assert_eq!(before.requests, 0);
    let first = sample(&project, &[1], 600_000).await.remove(0);
    let (mut requests, mut errors, mut failing) = (0, 0, 0);
    for look in 1..=6 {
        load.go_on(40).await;
        let now = Instant::now();
        let length_ms = (now - last).as_millis().try_into().unwrap();
        last = now;
        let samples = sample(&project, &[1], length_ms).await.remove(0);
        assert!(samples.window_ms.abs_diff(length_ms) <= 300, "look {look}: {} for {length_ms} ms", samples.window_ms);
        requests += samples.requests;
        errors += samples.errors;
        failing += samples.failing.iter().map(|row| row.count).sum::<u64>();
        assert!(samples.failing.len() <= 32);
    }
    let all = sample(&project, &[1], 600_000).await.remove(0);
    let (done, failed) = load.end().await;
    assert!(requests + 60 > all.requests - first.requests, "{requests} of {}", all.requests);
    assert!(requests <= all.requests, "{requests} of {}", all.requests);
    assert!(failing.abs_diff(errors) <= 8, "what failed just now may be told a moment later: {failing} of {errors}");
    let mut end = Vec::new();
    eventually("all are counted", async || {
        end = sample(&project, &[1], 600_000).await;
        end[0].requests == done + failed.len() as u64
    })
    .await;
    let rows: Vec<Failing> = end.remove(0).failing;
    assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), failed.len() as u64);
    assert!(rows.len() <= 32 && rows.last().unwrap().request == "(others)", "{rows:?}");
}
