//! A simulated account with two environments whose infrastructure stands, and services for them that behave in known ways.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use dbird_aws::{AwsProvider, Config, Endpoint};
use dbird_core::{
    Action, Cloud, Digest, Document, ImageRef, Outputs, Phase, Provider, ReleaseId, StepId, StepKind, Target, Work,
    document,
    environment::{Layer, Request, resolve},
};
use dbird_simulator::{Running, Settings, start};
use dbird_testkit::{Fixture, Kind};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::image;

/// How many times as fast as ours its time passes.
const SPEED: f64 = 100.0;
/// What the guest writes before it dies.
const LAST_WORDS: &str = "could not find the flux capacitor";
/// The infrastructure of an environment stands within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who moves the traffic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum By {
    Codedeploy,
    Ecs,
}

/// One environment.
struct Environment {
    target: Target,
    /// What its infrastructure was made of.
    documents: Vec<Document>,
    /// The steps of a release, references filled.
    release: Vec<Document>,
    /// Where the load balancer answers.
    address: String,
}

pub(crate) struct Account {
    by: By,
    provider: AwsProvider,
    environments: Vec<Environment>,
    running: Option<Running>,
    _folder: TempDir,
}

/// What the tasks run, and under: an example of the simulator.
fn guest() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let guest = own.parent().unwrap().parent().unwrap().join("examples/guest");
    assert!(guest.is_file(), "{} is missing: cargo build -p dbird-simulator --example guest", guest.display());
    guest
}

/// An environment whose releases get 20 % for some minutes, then everything, and are kept a little.
fn file(by: By) -> String {
    let controller = if by == By::Codedeploy { "codedeploy" } else { "ecs" };
    format!(
        r#"schema = 1
[service]
name = "bird"
port = 8080
port_env = "PORT"
stop_grace = "5s"
[service.build]
binary = "guest"
[rollout]
strategy = "canary"
controller = "{controller}"
weight = 20
pause = "3m"
bake = "5m"
[analysis]
count = 0
[cloud.aws]
region = "us-east-1"
vpc_endpoints = false
flow_logs = false
egress = "public-ip"
"#
    )
}

fn documents(by: By, environment: &str, image: &ImageRef) -> Vec<Document> {
    let request = Request {
        environment,
        cloud: Cloud::Aws,
        base: Layer::new("environments/base.toml", file(by)),
        overlay: None,
        sets: &[],
        dbird_version: env!("CARGO_PKG_VERSION"),
    };
    let spec = resolve(&request).unwrap_or_else(|faults| panic!("{faults}")).0;
    dbird_templates::render(&spec, Some(image), None).unwrap().steps
}

fn work(document: &Document, action: Action, release: ReleaseId) -> Work {
    Work {
        step: document.step.clone(),
        kind: document.kind,
        action,
        release,
        document: document.digest(),
        body: document.body.clone(),
        start: Default::default(),
    }
}

impl Account {
    pub(crate) async fn new(by: By) -> Self {
        let folder = TempDir::new().unwrap();
        let running = start(Settings {
            speed: SPEED,
            account: "123456789012".to_owned(),
            region: "us-east-1".to_owned(),
            folder: folder.path().join("account"),
            shim: guest(),
            port_offset: 8000,
            podman: false,
            record: None,
            faults: Vec::new(),
            upstream: None,
        })
        .await
        .unwrap();
        let told: BTreeMap<_, _> = running.env().into_iter().collect();
        let project = folder.path().join("project");
        let digest = image::write(&project, &guest());
        let provider = AwsProvider::new(Config {
            project,
            region: told["AWS_REGION"].clone(),
            keep: 10,
            endpoint: Some(Endpoint {
                url: told["AWS_ENDPOINT_URL"].clone(),
                key: told["AWS_ACCESS_KEY_ID"].clone(),
                secret: told["AWS_SECRET_ACCESS_KEY"].clone(),
            }),
            simulator: Some(told["DBIRD_SIMULATOR"].clone()),
            ..Config::default()
        })
        .unwrap();
        let image = ImageRef { repository: dbird_templates::LOCAL_IMAGES.to_owned(), digest };
        let (one, other) =
            tokio::join!(environment(&provider, by, "dev", &image), environment(&provider, by, "other", &image));
        Account { by, provider, environments: vec![one, other], running: Some(running), _folder: folder }
    }

    /// Stops everything that runs in the account.
    pub(crate) async fn end(mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    fn environment(&self, target: &Target) -> &Environment {
        self.environments.iter().find(|environment| environment.target == *target).unwrap()
    }
}

/// Makes what a release needs, and says what it is made of.
async fn environment(provider: &AwsProvider, by: By, name: &str, image: &ImageRef) -> Environment {
    let target = Target { service: "bird".to_owned(), environment: name.to_owned() };
    let all = documents(by, name, image);
    let (release, documents): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|document| matches!(document.kind, StepKind::Image | StepKind::Service));
    let (mut outputs, mut given) = (Outputs::default(), BTreeMap::new());
    for document in &documents {
        let made = made(provider, &target, &work(document, Action::Create, ReleaseId(1))).await;
        given.extend(made.clone());
        outputs.insert(document.step.clone(), made);
    }
    let text = |name: &str| given[name].as_str().unwrap().to_owned();
    let reference = format!("{}@{}", text("Repository"), image.digest);
    let address = text("Address");
    let pushed = [("reference", reference), ("digest", image.digest.to_string())];
    let pushed = pushed.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    outputs.insert(StepId::new("image"), pushed);
    let filled = |d: Document| Document { body: document::fill(&d.body, &outputs).unwrap(), ..d };
    Environment { target, documents, release: release.into_iter().map(filled).collect(), address }
}

/// Carries a step out to its end; its outputs.
async fn made(provider: &AwsProvider, target: &Target, work: &Work) -> BTreeMap<String, Value> {
    let handle = provider.apply(target, work).await.unwrap();
    let since = Instant::now();
    loop {
        match provider.poll(target, &handle).await {
            Ok(progress) if progress.phase == Phase::Finished => return progress.outputs,
            Ok(progress) => {
                assert!(progress.phase == Phase::Working && since.elapsed() < PATIENCE, "{}: {progress:?}", work.step);
            }
            Err(error) => assert!(error.retry && since.elapsed() < PATIENCE, "{}: {error:?}", work.step),
        }
    }
}

/// The service's document, changed.
fn changed(mut works: Vec<Work>, change: impl Fn(&mut Value)) -> Vec<Work> {
    for work in works.iter_mut().filter(|work| work.kind == StepKind::Service) {
        change(&mut work.body);
        work.document = Digest::of_json(&work.body);
    }
    works
}

/// Sets a variable of the service's container.
fn set(body: &mut Value, name: &str, value: &str) {
    let variables = body["task_definition"]["containerDefinitions"][0]["environment"].as_array_mut().unwrap();
    variables.push(json!({ "name": name, "value": value }));
    variables.sort_by_key(|variable| variable["name"].to_string());
}

#[async_trait]
impl Fixture for Account {
    fn provider(&self) -> &dyn Provider {
        &self.provider
    }

    fn target(&self) -> Target {
        self.environments[0].target.clone()
    }

    fn other_target(&self) -> Target {
        self.environments[1].target.clone()
    }

    fn works(&self, target: &Target, release: ReleaseId, kind: Kind) -> Vec<Work> {
        let documents = &self.environment(target).release;
        let works = documents.iter().map(|document| work(document, Action::Create, release)).collect();
        changed(works, |body| match kind {
            Kind::First => set(body, "GREETING", "first"),
            Kind::Second => set(body, "GREETING", "second"),
            Kind::Dies => set(body, "DIE", "start"),
        })
    }

    fn with_copies(&self, works: Vec<Work>, copies: u32) -> Vec<Work> {
        changed(works, |body| body["desired_count"] = copies.into())
    }

    fn waiting(&self, works: Vec<Work>, on_the_way: bool) -> Vec<Work> {
        changed(works, |body| {
            if self.by == By::Codedeploy {
                body["codedeploy"]["ready_wait_minutes"] = 30.into();
                return;
            }
            // Before the first share, and before every other one.
            let before = if on_the_way { "PRE_PRODUCTION_TRAFFIC_SHIFT" } else { "POST_TEST_TRAFFIC_SHIFT" };
            body["ecs"]["pauses"] = json!([before]);
            body["ecs"]["pause_minutes"] = 30.into();
        })
    }

    fn waits_on_the_way(&self) -> bool {
        self.by == By::Ecs
    }

    async fn ask(&self, target: &Target, count: u64) -> Option<u64> {
        let address = self.environment(target).address.clone();
        let asked = tokio::task::spawn_blocking(move || (0..count).for_each(|_| get(&address)));
        asked.await.unwrap();
        Some(count)
    }

    fn removal(&self, target: &Target, release: ReleaseId) -> Vec<Work> {
        let environment = self.environment(target);
        let service = environment.release.iter().filter(|document| document.kind == StepKind::Service);
        let rest = environment.documents.iter().filter(|document| document.kind == StepKind::Infrastructure);
        service.chain(rest).map(|document| work(document, Action::Delete, release)).collect()
    }

    fn last_words(&self) -> &str {
        LAST_WORDS
    }

    fn exits_with(&self, code: u8) -> Vec<String> {
        vec!["/program".to_owned(), "exit".to_owned(), code.to_string()]
    }

    fn writes_lines(&self, count: u32) -> Vec<String> {
        vec!["/program".to_owned(), "lines".to_owned(), count.to_string()]
    }

    fn takes_long(&self) -> Vec<String> {
        vec!["/program".to_owned(), "sleep".to_owned()]
    }

    fn patience_ms(&self) -> u64 {
        40_000
    }
}

/// A request of a user that has to be answered.
fn get(address: &str) {
    let mut stream = TcpStream::connect((address, 8080)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nhost: bird\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
