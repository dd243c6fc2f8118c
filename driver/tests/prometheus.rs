//! A real Prometheus server that scrapes two small services: what it is asked for agrees with what they served.
//!
//! Ignored where nobody asks for it, because the program may be missing: `cargo xtask test` installs it and runs this.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "sources/service.rs"]
mod service;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use dbird_core::{
    ReleaseId, Samples, Target,
    spec::{Analysis, AnalysisSource},
};
use dbird_driver::sources::{Source, SourceError};
use dbird_testkit::memory::{MemoryProvider, VirtualClock};
use tempfile::TempDir;

use service::{Process, Service};

const R1: ReleaseId = ReleaseId(1);
const R2: ReleaseId = ReleaseId(2);
/// Everything that is waited for takes well below a second.
const DEADLINE: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_millis(50);

/// A server; it ends with the test.
struct Server {
    process: Child,
    url: String,
    _folder: TempDir,
}

impl Server {
    fn start(targets: &[(ReleaseId, &Service)]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let targets: Vec<_> = targets
            .iter()
            .map(|(release, service)| {
                let labels = serde_json::json!({ "release": release.to_string() });
                serde_json::json!({ "targets": [service.address.to_string()], "labels": labels })
            })
            .collect();
        let config = serde_json::json!({
            "global": { "scrape_interval": "200ms", "scrape_timeout": "200ms" },
            "scrape_configs": [{ "job_name": "bird", "static_configs": targets }],
        });
        // YAML is a superset of JSON.
        let path = folder.path().join("prometheus.yml");
        std::fs::write(&path, config.to_string()).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.external-url=http://localhost/prom/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("`prometheus`, of the Debian package of this name, can't be started: {e}"));
        Server { process, url: format!("http://{address}/prom/"), _folder: folder }
    }

    fn source(&self) -> Source {
        let analysis = Analysis {
            interval_ms: 1000,
            min_samples: 1,
            error_limit: 1,
            source: AnalysisSource::Prometheus,
            prometheus: Some(self.url.clone()),
            selector: "{job=\"bird\", release=\"{release}\"}".to_owned(),
            ..Analysis::default()
        };
        let provider = MemoryProvider::new(Arc::new(VirtualClock::new()));
        Source::open(&analysis, Arc::new(provider), Target { service: "bird".into(), environment: "dev".into() })
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Takes until this holds of what came in.
async fn take_until<T>(
    source: &mut Source,
    releases: [ReleaseId; 2],
    found: impl Fn(&Result<Vec<Samples>, SourceError>) -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        let taken = source.take(&releases, &[], 1000).await;
        if let Some(found) = found(&taken) {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "the last answer was {taken:?}");
        tokio::time::sleep(BETWEEN).await;
    }
}

/// Both releases' requests and errors, and what failed, added up until there are so many requests, and for some time beyond.
async fn add_up(
    source: &mut Source,
    expected: (u64, u64),
) -> ([(u64, u64); 2], BTreeMap<u64, u64>, Vec<(String, u16, u64)>) {
    let began = Instant::now();
    let (mut sums, mut latency, mut failing) = ([(0, 0); 2], BTreeMap::new(), Vec::new());
    let mut quiet = 0;
    while quiet < 5 {
        // Sooner than the server asks again there is nothing new, which is said.
        let Ok(taken) = source.take(&[R2, R1], &[], 1000).await else {
            assert!(began.elapsed() < DEADLINE, "{sums:?} of {expected:?}");
            tokio::time::sleep(BETWEEN).await;
            continue;
        };
        for (sum, samples) in sums.iter_mut().zip(&taken) {
            *sum = (sum.0 + samples.requests, sum.1 + samples.errors);
            failing.extend(samples.failing.iter().map(|f| (f.request.clone(), f.status, f.count)));
            for (bound, count) in &samples.latency_ms {
                *latency.entry(*bound).or_default() += count;
            }
        }
        quiet += u32::from((sums[0].0, sums[1].0) == expected);
        assert!(sums[0].0 <= expected.0 && sums[1].0 <= expected.1, "{sums:?} is more than {expected:?}");
        assert!(began.elapsed() < DEADLINE, "{sums:?} of {expected:?}");
    }
    (sums, latency, failing)
}

#[tokio::test]
#[ignore = "needs the program prometheus; cargo xtask test runs it"]
async fn what_it_says_is_what_was_served() {
    let old = Service::start(vec![Process::named(1_700_000_000)], |_| None).await;
    let new = Service::start(vec![Process::named(1_700_000_500)], |_| None).await;
    old.count(0, "GET /", 200, 1000);
    new.count(0, "GET /", 200, 10);
    let mut server = Server::start(&[(R1, &old), (R2, &new)]);
    let mut source = server.source();
    // Each is known once it can be judged.
    for releases in [[R1, R2], [R2, R1]] {
        take_until(&mut source, releases, |taken| taken.is_ok().then_some(())).await;
    }

    source.begin(&[]).await.unwrap();
    old.count(0, "GET /", 200, 300);
    old.count(0, "GET /healthz", 200, 55);
    new.count(0, "POST /score", 201, 40);
    new.count(0, "POST /score", 503, 7);
    let (sums, latency, failing) = add_up(&mut source, (47, 300)).await;
    assert_eq!(sums, [(47, 7), (300, 0)], "the first errors of a process count, too");
    assert_eq!(latency, BTreeMap::from([(10, 0), (50, 347)]));
    assert_eq!(failing, [("POST /score".to_owned(), 503, 7)]);

    // A restart, of a process whose clock is ahead.
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut again = Process::named(now_s + 10);
    again.count("GET /", 200, 9);
    new.processes.lock().unwrap()[0] = again;
    assert_eq!(add_up(&mut source, (9, 0)).await.0, [(9, 0), (0, 0)]);

    // Several processes take turns, and don't say who is who.
    let mut twins = [Process::default(), Process::default()];
    twins[0].count("GET /", 200, 500);
    twins[1].count("GET /", 200, 5);
    *old.processes.lock().unwrap() = twins.into();
    let e =
        take_until(&mut source, [R2, R1], |taken| taken.as_ref().err().filter(|e| e.why.contains("r1")).cloned()).await;
    assert!(e.why.contains("an instance of r1 is not one process") && e.retry, "{e}");

    // The candidate's page is gone.
    new.processes.lock().unwrap().clear();
    *old.processes.lock().unwrap() = vec![Process::named(1_700_000_900)];
    old.count(0, "GET /", 200, 1);
    let e =
        take_until(&mut source, [R2, R1], |taken| taken.as_ref().err().filter(|e| e.why.contains("r2")).cloned()).await;
    assert!(e.why.contains("from before the window") || e.why.contains("could ask no process of r2"), "{e}");

    // The server is gone.
    server.process.kill().unwrap();
    let e =
        take_until(&mut source, [R2, R1], |taken| taken.as_ref().err().filter(|e| e.why.contains("refused")).cloned())
            .await;
    assert_eq!((&*format!("{}/", e.place), e.retry), (&*server.url, true));
}
