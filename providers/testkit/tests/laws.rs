//! The laws hold for the in-memory provider, and each catches a provider that breaks it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;

use dbird_testkit::{
    all,
    broken::{MUST_BE_CAUGHT, MUST_BE_CAUGHT_BESIDE},
    memory::MemoryFixture,
};

#[tokio::test]
async fn every_law_holds_in_memory() {
    let mut broken = Vec::new();
    for law in all() {
        if let Err(e) = law.check(&MemoryFixture::new(None)).await {
            broken.push(e.to_string());
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[tokio::test]
async fn every_law_holds_where_the_cloud_moves_traffic() {
    let mut broken = Vec::new();
    for law in all() {
        if let Err(e) = law.check(&MemoryFixture::driving(None)).await {
            broken.push(e.to_string());
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[tokio::test]
async fn every_law_catches_its_broken_provider() {
    let laws = all();
    let tried: BTreeSet<&str> = MUST_BE_CAUGHT.iter().chain(&MUST_BE_CAUGHT_BESIDE).map(|(law, _)| *law).collect();
    let names: BTreeSet<&str> = laws.iter().map(|l| l.name).collect();
    assert_eq!(tried, names, "each law needs a provider that breaks it");
    for (name, fault) in MUST_BE_CAUGHT {
        let law = laws.iter().find(|l| l.name == name).unwrap();
        let caught = law.check(&MemoryFixture::new(Some(fault))).await;
        let broken = caught.expect_err(&format!("law `{name}` must catch {fault:?}"));
        assert_eq!(broken.law, name);
    }
    for (name, fault) in MUST_BE_CAUGHT_BESIDE {
        let law = laws.iter().find(|l| l.name == name).unwrap();
        let caught = law.check(&MemoryFixture::driving(Some(fault))).await;
        caught.expect_err(&format!("law `{name}` must catch {fault:?}"));
    }
}
