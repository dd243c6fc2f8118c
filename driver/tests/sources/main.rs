//! Sources of numbers against real services on this machine: pages of metrics, servers that refuse, requests of our own.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cloud;
mod service;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dbird_core::{
    ReleaseId, Samples, Target,
    spec::{Analysis, AnalysisSource},
};
use dbird_driver::sources::{Source, SourceError, TaskAddress, probe::probe};

use cloud::Counting;
use service::{Process, Service};

const R1: ReleaseId = ReleaseId(1);
const R2: ReleaseId = ReleaseId(2);

fn analysis(source: AnalysisSource, prometheus: Option<String>) -> Analysis {
    Analysis { interval_ms: 1000, min_samples: 1, error_limit: 1, source, prometheus, ..Analysis::default() }
}

fn open_on(cloud: Arc<Counting>, analysis: &Analysis) -> Result<Source, SourceError> {
    Source::open(analysis, cloud, Target { service: "bird".into(), environment: "dev".into() })
}

fn open(analysis: &Analysis) -> Result<Source, SourceError> {
    open_on(Counting::new(false, 0), analysis)
}

fn scrape() -> Source {
    open(&analysis(AnalysisSource::Metrics, None)).unwrap()
}

fn prometheus(url: String) -> Source {
    open(&analysis(AnalysisSource::Prometheus, Some(url))).unwrap()
}

fn task(release: ReleaseId, service: &Service) -> TaskAddress {
    TaskAddress { release, address: service.address.to_string() }
}

fn nothing(_: &str) -> Option<(u16, String)> {
    Some((404, "no such page".into()))
}

fn numbers(samples: &[Samples]) -> Vec<(ReleaseId, u64, u64, u64)> {
    samples.iter().map(|s| (s.release, s.requests, s.errors, s.window_ms)).collect()
}

/// Drivers run in tasks of any thread.
#[test]
fn looks_may_move_between_threads() {
    fn may_move(_: impl Send) {}
    let mut source = scrape();
    may_move(source.begin(&[]));
    may_move(source.take(&[R1], &[], 1000));
    may_move(probe(R1, &[], "/", 1, 0));
}

#[tokio::test]
async fn both_releases_are_counted_by_window() {
    let old = Service::start(vec![Process::named(1000)], nothing).await;
    let new = [
        Service::start(vec![Process::named(2000)], nothing).await,
        Service::start(vec![Process::named(2000)], nothing).await,
    ];
    let tasks = [task(R1, &old), task(R2, &new[0]), task(R2, &new[1])];
    old.count(0, "GET /", 200, 1000);
    let mut source = scrape();
    source.begin(&tasks).await.unwrap();
    old.count(0, "GET /", 200, 90);
    old.count(0, "GET /readyz", 503, 90);
    new[0].count(0, "POST /score", 201, 5);
    new[1].count(0, "POST /score", 503, 3);
    new[1].count(0, "GET /metrics", 500, 3);
    let first = source.take(&[R2, R1], &tasks, 1000).await.unwrap();
    assert_eq!(numbers(&first), [(R2, 8, 3, 1000), (R1, 90, 0, 1000)]);
    assert_eq!(first[0].latency_ms, BTreeMap::from([(10, 0), (50, 8)]));
    let failing: Vec<_> = first[0].failing.iter().map(|f| (f.request.as_str(), f.status, f.count)).collect();
    assert_eq!(failing, [("POST /score", 503, 3)]);
    new[0].count(0, "GET /", 200, 1);
    let second = source.take(&[R2, R1], &tasks, 1000).await.unwrap();
    assert_eq!(numbers(&second), [(R2, 1, 0, 1000), (R1, 0, 0, 1000)]);
    // A window begins anew: what came before it is not counted.
    new[0].count(0, "GET /", 500, 7);
    source.begin(&tasks).await.unwrap();
    let third = source.take(&[R2, R1], &tasks, 1000).await.unwrap();
    assert_eq!(numbers(&third), [(R2, 0, 0, 1000), (R1, 0, 0, 1000)]);
}

#[tokio::test]
async fn replicas_behind_one_address_are_told_apart() {
    for named in [true, false] {
        let replicas = (0..3).map(|i| Process { started_s: named.then_some(1000 + i), ..Process::default() });
        let service = Service::start(replicas.collect(), nothing).await;
        for (replica, before) in [(0, 500), (1, 300), (2, 40)] {
            service.count(replica, "GET /", 200, before);
        }
        let tasks = [task(R1, &service)];
        let mut source = scrape();
        source.begin(&tasks).await.unwrap();
        for window in 1..=3 {
            for (replica, good) in [(0, 10), (1, 20), (2, 30)] {
                service.count(replica, "GET /", 200, good);
            }
            service.count(1, "GET /", 500, window);
            let found = source.take(&[R1], &tasks, 1000).await.unwrap();
            assert_eq!(numbers(&found), [(R1, 60 + window, window, 1000)], "named: {named}");
        }
    }
}

#[tokio::test]
async fn a_restart_that_does_not_say_so_costs_one_look() {
    let service = Service::start(vec![Process::default()], nothing).await;
    service.count(0, "GET /", 200, 100);
    let tasks = [task(R1, &service)];
    let mut source = scrape();
    source.begin(&tasks).await.unwrap();
    service.processes.lock().unwrap()[0] = Process::default();
    service.count(0, "GET /", 200, 7);
    let e = source.take(&[R1], &tasks, 1000).await.unwrap_err();
    assert!(e.why.contains("went backwards") && e.retry && e.hint.unwrap().contains("process_start_time_seconds"));
    service.count(0, "GET /", 200, 5);
    let found = source.take(&[R1], &tasks, 1000).await.unwrap();
    assert_eq!(numbers(&found), [(R1, 5, 0, 1000)]);
}

#[tokio::test]
async fn a_task_that_gives_no_numbers_is_an_error_and_nothing_is_lost() {
    let good = Service::start(vec![Process::named(1000)], nothing).await;
    let bad = Service::start(Vec::new(), nothing).await;
    let gone = TaskAddress { release: R2, address: "127.0.0.1:1".into() };
    let html = Service::start(Vec::new(), |_| Some((200, "<!doctype html>".into()))).await;
    let far = Service::start(Vec::new(), |_| Some((302, String::new()))).await;
    let long = Service::start(Vec::new(), |_| Some((200, "# HELP a b\n".repeat(400_000)))).await;
    let silent = Service::start(Vec::new(), |_| None).await;
    let other = Service::start(Vec::new(), |_| Some((200, "go_goroutines 5\n".into()))).await;
    let mut source = scrape();
    source.begin(&[task(R1, &good)]).await.unwrap();
    good.count(0, "GET /", 200, 6);
    for (second, expected) in [
        (task(R2, &bad), "it answered 404"),
        (gone, "refused"),
        (task(R2, &html), "not a page of metrics"),
        (task(R2, &far), "it answered 302"),
        (task(R2, &long), "longer than 4 MiB"),
        (task(R2, &silent), "no answer within 2 s"),
    ] {
        let e = source.take(&[R2, R1], &[task(R1, &good), second.clone()], 1000).await.unwrap_err();
        let text = e.to_string();
        assert!(text.starts_with("the metrics of r2 can't be read: ") && text.contains(expected), "{text}");
        assert!(text.ends_with(&format!(" (http://{}/metrics)", second.address)) && e.retry, "{text}");
    }
    // Six windows passed without an answer.
    let found = source.take(&[R1], &[task(R1, &good)], 1000).await.unwrap();
    assert_eq!(numbers(&found), [(R1, 6, 0, 7000)]);
    for (tasks, expected) in
        [(vec![task(R1, &other)], "no page has http_requests_total"), (vec![], "no task has an address")]
    {
        let e = source.take(&[R1], &tasks, 1000).await.unwrap_err();
        assert!(e.why.contains(expected), "{e}");
    }
}

#[tokio::test]
async fn sources_that_are_not_there() {
    for (analysis, expected) in [
        (analysis(AnalysisSource::Prometheus, None), "[analysis] prometheus"),
        (analysis(AnalysisSource::Prometheus, Some("ftp://me:hush@host".into())), "not one of http"),
    ] {
        let e = open(&analysis).err().unwrap();
        assert!(e.to_string().contains(expected) && !e.to_string().contains("hush") && !e.retry, "{e}");
    }
    for source in [AnalysisSource::Cloudwatch, AnalysisSource::AzureMonitor] {
        let e = open(&analysis(source, None)).err().unwrap();
        assert_eq!(e.to_string(), "the traffic's numbers can't be had: this cloud has no such source (local)");
    }
    let e = open(&analysis(AnalysisSource::Auto, None)).unwrap().take(&[R1], &[], 1000).await.unwrap_err();
    assert!(e.why.contains("no task has an address"), "the best that it has is the service's own page: {e}");
}

#[tokio::test]
async fn a_cloud_that_does_not_answer_is_asked_for_that_time_as_well() {
    let cloud = Counting::new(true, 2);
    let mut source = open_on(cloud.clone(), &analysis(AnalysisSource::Auto, None)).unwrap();
    source.begin(&[]).await.unwrap();
    for _ in 0..2 {
        let e = source.take(&[R2, R1], &[], 700).await.unwrap_err();
        let text = "the traffic's numbers can't be had: sample: it does not answer (agent): connection refused (local)";
        assert_eq!((e.to_string().as_str(), e.retry, e.hint.as_deref()), (text, true, Some("start it")));
    }
    for window_ms in [2100, 700] {
        let found = source.take(&[R2, R1], &[], 700).await.unwrap();
        assert_eq!(numbers(&found), [(R2, 0, 0, window_ms), (R1, 1, 0, window_ms)]);
    }
    assert_eq!(*cloud.asked_ms.lock().unwrap(), [0, 700, 1400, 2100, 700]);
}

#[tokio::test]
async fn a_server_that_refuses_is_quoted_and_its_password_is_not() {
    for (status, body, expected, hint) in [
        (
            200,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,"x"]}}"#,
            "values that are no numbers",
            false,
        ),
        (
            400,
            r#"{"status":"error","error":"unexpected end of input"}"#,
            "it answered 400: unexpected end of input",
            false,
        ),
        (401, "Unauthorized", "it answered 401", true),
        (302, "", "it answered 302", false),
        (404, "not here", "it answered 404", true),
        (503, "starting", "it answered 503", false),
    ] {
        let server = Service::start(Vec::new(), move |_| Some((status, body.to_owned()))).await;
        let mut source = prometheus(format!("http://me:hush@{}/prom/", server.address));
        let e = source.begin(&[]).await.unwrap_err();
        assert!(e.why.contains(expected), "{e}");
        assert_eq!((e.place.as_str(), e.hint.is_some()), (&*format!("http://{}/prom", server.address), hint));
        assert!(!format!("{e} {e:?}").contains("hush"), "{e:?}");
        let asked = server.asked.lock().unwrap().concat();
        // me:hush, as HTTP writes it.
        assert!(asked.contains("GET /prom/api/v1/query?query=time%28%29") && asked.contains("bWU6aHVzaA=="), "{asked}");
    }
}

#[tokio::test]
async fn a_server_without_a_release_says_so() {
    let series = |text: &str| format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{text}]}}}}"#);
    let up = |value: u8, at_s: u64| {
        format!(r#"{{"metric":{{"__name__":"up","job":"a","instance":"b"}},"values":[[{at_s},"{value}"]]}}"#)
    };
    for (answer, expected) in [
        (series(""), "it has nothing of r2: no series has release=\"r2\""),
        (series(&up(0, 999)), "it could ask no process of r2"),
        (series(&up(1, 989)), "newest numbers of r2 are 11 s old, from before the window"),
        (series(&up(1, 999)), "no series of r2 is http_requests_total"),
        (series(r#"{"metric":{"__name__":"http_requests_total"},"values":[[999,"5"]]}"#), "has no label `status`"),
        (series(r#"{"metric":{"__name__":"http_requests_total","code":"200"},"values":[[999,"NaN"]]}"#), "is NaN"),
    ] {
        let server = Service::start(Vec::new(), move |path| {
            let time = r#"{"status":"success","data":{"resultType":"scalar","result":[1000,"1000"]}}"#;
            Some((200, if path.contains("=time") { time.to_owned() } else { answer.clone() }))
        })
        .await;
        let mut source = prometheus(format!("http://{}", server.address));
        let e = source.take(&[R2], &[], 10_000).await.unwrap_err();
        assert!(e.why.contains(expected) && e.retry, "{e}");
    }
}

#[tokio::test]
async fn requests_of_our_own() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let service = Service::start(Vec::new(), move |path| {
        let status = if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(4) { 503 } else { 200 };
        (path == "/score?limit=1").then(|| (status, "{}".to_owned()))
    })
    .await;
    let urls = [format!("http://{}/", service.address)];
    let found = probe(R2, &urls, "/score?limit=1", 20, 200).await;
    assert_eq!((found.release, found.requests, found.errors), (R2, 20, 5));
    assert_eq!(found.latency_ms.values().sum::<u64>(), 20);
    assert!((190..5000).contains(&found.window_ms), "spread over the time: {} ms", found.window_ms);
    assert_eq!((found.failing[0].request.as_str(), found.failing[0].status), ("GET /score?limit=1", 503));
    let nobody = probe(R2, &["http://127.0.0.1:1".to_owned(), "no address".to_owned()], "/", 3, 0).await;
    assert_eq!((nobody.requests, nobody.errors, nobody.failing[0].status), (3, 3, 0));
    assert_eq!(probe(R2, &[], "/", 3, 0).await, Samples::none(R2));
    assert_eq!(sent.load(Ordering::SeqCst), 20);
    let cloud = open_on(Counting::new(true, 0), &analysis(AnalysisSource::Auto, None)).unwrap();
    assert_eq!((scrape().counts_probes(), cloud.counts_probes()), (true, false));
}
