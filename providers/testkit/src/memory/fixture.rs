//! The in-memory provider as the laws want it.

use std::sync::Arc;

use async_trait::async_trait;
use dbird_core::{Action, Digest, Provider, ReleaseId, StepId, StepKind, Target, Work, provider::Start};
use serde_json::{Value, json};

use super::{Behaviour, Beside, MemoryProvider, ServiceBody, VirtualClock};
use crate::{Fixture, Kind, broken::Fault};

const LAST_WORDS: &str = "I can't find my configuration";

/// A fresh provider with known services.
pub struct MemoryFixture {
    provider: MemoryProvider,
    /// How its releases move by themselves, where they do.
    beside: Option<Beside>,
}

impl MemoryFixture {
    /// One that keeps its promises, or breaks this one.
    pub fn new(fault: Option<Fault>) -> Self {
        let clock = Arc::new(VirtualClock::new());
        MemoryFixture {
            provider: match fault {
                Some(fault) => MemoryProvider::broken(clock, fault),
                None => MemoryProvider::new(clock),
            },
            beside: None,
        }
    }

    /// The same, whose releases move by themselves.
    pub fn driving(fault: Option<Fault>) -> Self {
        let fixture = MemoryFixture::new(fault);
        let beside = Beside {
            shares: vec![(20, 100), (60, 100)],
            gate_limit_ms: 60_000,
            bake_ms: 60_000,
            bake_gate: true,
            ..Beside::default()
        };
        MemoryFixture { provider: fixture.provider.driving(), beside: Some(beside) }
    }
}

#[async_trait]
impl Fixture for MemoryFixture {
    fn provider(&self) -> &dyn Provider {
        &self.provider
    }

    fn target(&self) -> Target {
        Target { service: "bird".to_owned(), environment: "dev".to_owned() }
    }

    fn other_target(&self) -> Target {
        Target { service: "bird".to_owned(), environment: "prod".to_owned() }
    }

    fn works(&self, _: &Target, release: ReleaseId, kind: Kind) -> Vec<Work> {
        let behaves = match kind {
            Kind::First | Kind::Second => Behaviour::Healthy,
            Kind::Dies => Behaviour::Dies { last_words: LAST_WORDS.to_owned() },
        };
        let beside = self.beside.clone();
        let body = ServiceBody { greeting: format!("{kind:?}"), behaves, beside, ..ServiceBody::default() };
        vec![
            work("data", StepKind::Data, Action::Create, release, json!({ "name": "data" })),
            work("service", StepKind::Service, Action::Create, release, json!(body)),
        ]
    }

    fn with_copies(&self, mut works: Vec<Work>, copies: u32) -> Vec<Work> {
        for work in works.iter_mut().filter(|work| work.kind == StepKind::Service) {
            work.body["replicas"] = copies.into();
            work.document = Digest::of_json(&work.body);
        }
        works
    }

    fn waiting(&self, mut works: Vec<Work>, on_the_way: bool) -> Vec<Work> {
        for work in works.iter_mut().filter(|work| work.kind == StepKind::Service) {
            work.body["beside"]["first_gate"] = true.into();
            work.body["beside"]["gates"] = on_the_way.into();
            work.document = Digest::of_json(&work.body);
        }
        works
    }

    async fn ask(&self, _: &Target, count: u64) -> Option<u64> {
        // Everybody who serves here gets a request in a millisecond.
        self.provider.clock().advance(count);
        Some(count)
    }

    fn removal(&self, _: &Target, release: ReleaseId) -> Vec<Work> {
        vec![work("service", StepKind::Service, Action::Delete, release, Value::Null)]
    }

    fn last_words(&self) -> &str {
        LAST_WORDS
    }

    fn exits_with(&self, code: u8) -> Vec<String> {
        vec!["exit".to_owned(), code.to_string()]
    }

    fn writes_lines(&self, count: u32) -> Vec<String> {
        vec!["lines".to_owned(), count.to_string()]
    }

    fn takes_long(&self) -> Vec<String> {
        vec!["sleep".to_owned(), "600000".to_owned()]
    }

    /// Virtual time costs nothing, so whatever takes this long is stuck.
    fn patience_ms(&self) -> u64 {
        200
    }
}

fn work(step: &str, kind: StepKind, action: Action, release: ReleaseId, body: Value) -> Work {
    Work { step: StepId::new(step), kind, action, release, document: Digest::of_json(&body), body, start: Start::All }
}
