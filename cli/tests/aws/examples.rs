//! The Node examples as they are, on a base of Debian's packages from Debian's registry, in containers.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    load::Load,
    registry::Registry,
    sealed::Sealed,
    secrets::call,
    support::{Account, Deployed, get, request},
};

/// Containers take their time to start, and are asked for their health in simulated time.
const SPEED: u32 = 30;
/// Listeners on 80 and on 443 answer here.
const PORT: u16 = 20_080;
const TLS_PORT: u16 = 20_443;
const CERTIFICATE: &str = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000";

/// An example's project, and the arguments that its commands need here.
struct Example {
    deployed: Deployed,
    sets: Vec<String>,
    _registry: Registry,
}

impl Example {
    fn of(name: &'static str, more: &[&str]) -> Self {
        let layout = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("node-base");
        let index = fs::read(layout.join("index.json")).expect("`cargo xtask node-base` makes the base image");
        let index: Value = serde_json::from_slice(&index).unwrap();
        let registry = Registry::start();
        let base = registry.push(&layout, index["manifests"][0]["digest"].as_str().unwrap(), "node");
        let project = Sealed::empty();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
        copy(&folder, project.path());
        let sets = [format!("service.build.base={base}"), "health.interval=10s".into(), "health.timeout=5s".into()];
        let sets = sets.into_iter().chain(more.iter().map(|set| (*set).to_owned()));
        let sets = sets.flat_map(|set| ["--set".to_owned(), set]).collect();
        let account = Account::start(name, SPEED, &["--podman", "--port-offset", "20000"]);
        Example { deployed: Deployed { project, account }, sets, _registry: registry }
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let sets = self.sets.iter().map(String::as_str);
        self.deployed.ok(&arguments.iter().copied().chain(sets).collect::<Vec<_>>()).stdout
    }

    /// A release after another, with users all the time, none of whom is refused.
    fn released_again(&self, address: &str) {
        let users = Load::start(address, 40);
        self.ok(&["deploy", "--set", "env.RELEASE=second"]);
        let answers = users.take();
        assert!(
            answers.keys().all(|answer| !answer.starts_with("failed") && answer.parse::<u16>().is_err()),
            "{answers:?}"
        );
        assert!(answers.values().sum::<u64>() > 100, "{answers:?}");
    }

    fn asked(&self, service: &str, target: &str, input: &Value) -> Value {
        call(&self.deployed.account, service, target, input)
    }

    /// The address of the load balancer's listener on this port.
    fn listener(&self, port: u16) -> String {
        let report = self.deployed.account.report("elb");
        let mut addresses = report["listeners"].as_array().unwrap().iter().filter_map(|one| one["address"].as_str());
        addresses.rfind(|address| address.ends_with(&format!(":{port}"))).expect("a listener").to_owned()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy(&from, &to) } else { fs::copy(&from, &to).map(drop).unwrap() }
    }
}

/// Waits for something that takes minutes of simulated time on a busy machine.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
#[ignore = "needs podman, docker-registry and the base of `cargo xtask node-base`"]
fn mashroom_replaces_its_tasks_in_place_and_grows_with_the_load() {
    let mashroom = Example::of("mashroom", &["scale.max=3"]);
    mashroom.ok(&["deploy"]);
    let address = mashroom.listener(PORT);
    mashroom.released_again(&address);
    let tasks = || {
        let input = json!({ "cluster": "mashroom-dev", "services": ["mashroom"] });
        let answer = mashroom.asked("ecs", "AmazonEC2ContainerServiceV20141113.DescribeServices", &input);
        answer["services"][0]["runningCount"].as_u64().unwrap()
    };
    assert_eq!(tasks(), 2);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let _ = get(&address, "/work?ms=500");
                }
            });
        }
        let grown = Instant::now() + Duration::from_secs(90);
        while tasks() < 3 && Instant::now() < grown {
            std::thread::sleep(Duration::from_millis(200));
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(tasks(), 3, "the load was seen");
    until("the third task goes again", || tasks() == 2);
}

#[test]
#[ignore = "needs podman, docker-registry and the base of `cargo xtask node-base`"]
fn quest_keeps_its_word_behind_tls() {
    let certificate = format!("cloud.aws.certificate={CERTIFICATE}");
    let quest = Example::of("quest", &[&certificate, "cloud.aws.domain=quest.example.com", "rollout.bake=1m"]);
    let secret = json!({ "Name": "secret-word", "SecretString": "plugh", "ClientRequestToken": "0123456789abcdef0123456789abcdef" });
    quest.asked("secretsmanager", "secretsmanager.CreateSecret", &secret);
    quest.ok(&["deploy"]);
    let address = quest.listener(TLS_PORT);
    let asked = [("/secret_word", "plugh"), ("/tls", "by TLS"), ("/loadbalanced", "through a load balancer")];
    for (path, wanted) in asked {
        let (status, body) = get(&address, path).unwrap();
        // It comes in chunks, each with its length before it.
        assert!(status == 200 && body.lines().any(|line| line == wanted), "{path}: {status} {body}");
    }
    let (status, _) = request(&quest.listener(PORT), "GET", "/", "").unwrap();
    assert_eq!(status, 301, "without TLS one is sent to it");
    quest.released_again(&address);
}

#[test]
#[ignore = "needs podman, docker-registry and the base of `cargo xtask node-base`"]
fn mashroom_runs_here_as_well() {
    let mashroom = Example::of("mashroom", &[]);
    let (port, test_port) = (mashroom.deployed.project.port, mashroom.deployed.project.test_port);
    let doors =
        [format!("cloud.local.listen=127.0.0.1:{port}"), format!("cloud.local.test_listen=127.0.0.1:{test_port}")];
    let sets = doors.iter().flat_map(|set| ["--set", set.as_str()]).chain(mashroom.sets.iter().map(String::as_str));
    mashroom.deployed.project.ok(&["deploy", "-y"].into_iter().chain(sets).collect::<Vec<_>>());
    let (status, body) = mashroom.deployed.project.get("/").unwrap();
    assert!(status == 200 && body.contains("mashroom"), "{status} {body}");
}
