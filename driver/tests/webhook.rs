//! Hooks that are addresses, told by a driver over real connections: what they are told, and what their answers lead to.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::sync::{Arc, Mutex};

use dbird_core::{
    Outcome,
    rollout::Course,
    spec::{Hook, HookWhen},
};
use dbird_driver::Event;
use dbird_testkit::memory::Behaviour;
use serde_json::{Value, json};
use support::{World, body, canary, course};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Answers every POST with these bytes, and keeps what it was told; with nothing to answer it is silent.
struct Listener {
    url: String,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Listener {
    async fn answering(answer: &'static str) -> Listener {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://me:secret@{}/hook?token=secret", listener.local_addr().unwrap());
        let told: Arc<Mutex<Vec<Value>>> = Arc::default();
        let keeps = told.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let keeps = keeps.clone();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    let body = loop {
                        let mut some = [0; 4096];
                        let read = stream.read(&mut some).await.unwrap_or(0);
                        request.extend_from_slice(&some[..read]);
                        let text = String::from_utf8_lossy(&request).into_owned();
                        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
                        match body.and_then(|body| serde_json::from_str::<Value>(&body).ok()) {
                            Some(body) => break body,
                            None if read == 0 => return,
                            None => {}
                        }
                    };
                    keeps.lock().unwrap().push(body);
                    if answer.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    stream.write_all(answer.as_bytes()).await.unwrap();
                });
            }
        });
        Listener { url, told }
    }

    fn hook(&self, when: HookWhen) -> Hook {
        Hook { when, run: Vec::new(), url: Some(self.url.clone()), timeout_ms: 300 }
    }
}

const OK: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
const NO: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 8\r\nconnection: close\r\n\r\nnot now\n";
const ELSEWHERE: &str = "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

async fn release(hooks: Vec<Hook>) -> (World, Outcome, String) {
    let world = World::new();
    world.deploy(body("one", Behaviour::Healthy), &course()).await.unwrap();
    let course = Course { hooks, ..canary() };
    let ended = world.deploy(body("two", Behaviour::Healthy), &course).await.unwrap();
    (world, ended.release.outcome, ended.release.why)
}

#[tokio::test]
async fn addresses_are_told_what_happens() {
    let listener = Listener::answering(OK).await;
    let moments = [HookWhen::Before, HookWhen::BeforeTraffic, HookWhen::Step, HookWhen::After, HookWhen::Rollback];
    let (world, outcome, _) = release(moments.map(|when| listener.hook(when)).to_vec()).await;
    assert_eq!(outcome, Outcome::Succeeded);
    let told = listener.told.lock().unwrap().clone();
    let seen: Vec<_> = told.iter().map(|t| (t["when"].as_str().unwrap(), t["weight"].as_u64().unwrap())).collect();
    assert_eq!(seen, [("before", 0), ("before-traffic", 0), ("step", 5), ("step", 50), ("step", 100), ("after", 100)]);
    let first = json!({
        "format": 1, "when": "before", "service": "bird", "environment": "dev", "release": "r2", "parent": "r1", "weight": 0,
        "actor": "ann@nest"
    });
    assert_eq!(told[0], first);
    // What is told to people holds no secret.
    let events = format!("{:?}", world.events.lock().unwrap());
    assert!(events.contains("http://127.0.0.1:") && !events.contains("secret"), "{events}");
}

#[tokio::test]
async fn an_answer_decides() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let (refuses, silent, elsewhere) =
        (Listener::answering(NO).await, Listener::answering("").await, Listener::answering(ELSEWHERE).await);
    let unreachable = Hook { url: Some(gone), ..refuses.hook(HookWhen::BeforeTraffic) };
    for (hook, why) in [
        (refuses.hook(HookWhen::BeforeTraffic), "failed: 503 Service Unavailable: not now"),
        (silent.hook(HookWhen::Step), "failed: no answer within 300ms"),
        (elsewhere.hook(HookWhen::Before), "failed: 307 Temporary Redirect"),
        (unreachable, "failed: "),
    ] {
        let (world, outcome, said) = release(vec![hook]).await;
        assert_eq!((outcome, world.live().await.as_str()), (Outcome::RolledBack, "r1=100"), "{said}");
        assert!(said.starts_with("the hook `POST http://127.0.0.1:") && said.contains(why), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
    // After the end it only warns.
    let (world, outcome, _) = release(vec![refuses.hook(HookWhen::After)]).await;
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!(world.told(|e| matches!(e, Event::Warning { .. })), 1);
}
