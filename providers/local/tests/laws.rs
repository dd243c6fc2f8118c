//! The laws that every provider obeys, tried on this one with real processes.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use dbird_core::{Provider, ReleaseId, Target, Work};
use dbird_testkit::{Fixture, Kind, all};
use support::{Project, load};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const LAST_WORDS: &str = "nobody told me to live";

struct Local {
    project: Project,
    ports: (u16, u16),
}

#[async_trait]
impl Fixture for Local {
    fn provider(&self) -> &dyn Provider {
        &self.project.provider
    }

    fn target(&self) -> Target {
        self.project.target.clone()
    }

    fn other_target(&self) -> Target {
        Target { environment: "other".to_owned(), ..self.target() }
    }

    fn works(&self, target: &Target, release: ReleaseId, kind: Kind) -> Vec<Work> {
        let env: &[(&str, &str)] = match kind {
            Kind::First => &[("VERSION", "first")],
            Kind::Second => &[("VERSION", "second")],
            Kind::Dies => &[("DIE_SAYING", LAST_WORDS)],
        };
        let mut works = self.project.works(release.0, env);
        if *target != self.target() {
            let service = works.last_mut().unwrap();
            service.body["environment"] = target.environment.clone().into();
            service.body["listen"] = format!("127.0.0.1:{}", self.ports.0).into();
            service.body["test_listen"] = format!("127.0.0.1:{}", self.ports.1).into();
            service.document = dbird_core::Digest::of_json(&service.body);
        }
        works
    }

    fn with_copies(&self, mut works: Vec<Work>, copies: u32) -> Vec<Work> {
        let service = works.last_mut().unwrap();
        service.body["replicas"] = copies.into();
        service.document = dbird_core::Digest::of_json(&service.body);
        works
    }

    async fn ask(&self, target: &Target, count: u64) -> Option<u64> {
        let port = if *target == self.target() { self.project.port } else { self.ports.0 };
        for _ in 0..count {
            assert_eq!(load::get(port, "/").await.unwrap().0, 200);
        }
        Some(count)
    }

    fn removal(&self, _: &Target, release: ReleaseId) -> Vec<Work> {
        self.project.removal(release.0)
    }

    fn last_words(&self) -> &str {
        LAST_WORDS
    }

    fn exits_with(&self, code: u8) -> Vec<String> {
        vec!["service".to_owned(), "exit".to_owned(), code.to_string()]
    }

    fn writes_lines(&self, count: u32) -> Vec<String> {
        vec!["service".to_owned(), "lines".to_owned(), count.to_string()]
    }

    fn takes_long(&self) -> Vec<String> {
        vec!["service".to_owned(), "sleep".to_owned()]
    }
}

#[tokio::test]
async fn every_law_holds() {
    // Each has a project of its own; as many at once as leave the machine's other tests room.
    let places = Arc::new(Semaphore::new(4));
    let mut laws = JoinSet::new();
    for law in all() {
        let places = Arc::clone(&places);
        laws.spawn(async move {
            let _place = places.acquire_owned().await;
            let ports = (dataplane::port::free().unwrap(), dataplane::port::free().unwrap());
            let fixture = Local { project: Project::new(), ports };
            law.check(&fixture).await
        });
    }
    while let Some(verdict) = laws.join_next().await {
        if let Err(broken) = verdict.unwrap() {
            panic!("{broken}");
        }
    }
}
