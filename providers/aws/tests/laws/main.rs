//! The laws that every provider obeys, tried on AWS against a simulated account: with CodeDeploy moving the traffic, and with
//! ECS moving it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod account;
mod image;

use std::sync::Arc;

use account::{Account, By};
use dbird_testkit::all;
use tokio::{sync::Semaphore, task::JoinSet};

/// Accounts at once: they mostly wait, and leave the machine's other tests room.
const PLACES: usize = 8;

async fn every_law_holds(by: By) {
    let places = Arc::new(Semaphore::new(PLACES));
    let mut laws = JoinSet::new();
    for law in all() {
        let places = Arc::clone(&places);
        laws.spawn(async move {
            let _place = places.acquire_owned().await;
            let account = Account::new(by).await;
            let verdict = law.check(&account).await;
            account.end().await;
            verdict
        });
    }
    let mut broken = Vec::new();
    while let Some(verdict) = laws.join_next().await {
        broken.extend(verdict.unwrap().err().map(|broken| broken.to_string()));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_law_holds_with_codedeploy() {
    every_law_holds(By::Codedeploy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_law_holds_with_ecs() {
    every_law_holds(By::Ecs).await;
}
