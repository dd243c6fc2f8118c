//! State in every kind of store: one table of laws, whole deploys, and what failures mean. The tests with real servers are for
//! machines that have them: `cargo xtask test` installs them and runs these.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod answers;
mod deploys;
mod fake;
mod laws;
mod lossy;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::{path::Path, sync::Arc};

use dbird_core::{Cloud, Target};
use dbird_driver::{Objects, Store, StoreError, open_store, open_store_with};
use lossy::Lossy;
use object_store::memory::InMemory;
use server::Server;
use tempfile::TempDir;

/// Opens a store for an environment, as a new process would.
type Open = Box<dyn Fn(&str) -> Arc<dyn Store> + Send + Sync>;

/// A kind of store.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) open: Open,
    /// The same for somebody whom it does not know.
    pub(crate) unknown: Option<Arc<dyn Store>>,
    /// A place in it that does not exist.
    pub(crate) nowhere: Option<Arc<dyn Store>>,
}

pub(crate) fn target(environment: &str) -> Target {
    Target { service: "bird".into(), environment: environment.into() }
}

pub(crate) fn open(url: &str, environment: &str, variables: &[(String, String)]) -> Result<Arc<dyn Store>, StoreError> {
    open_store_with(url, Path::new("/nowhere"), Cloud::Local, &target(environment), variables, None)
}

/// A server's store, with `secret` naming the variable that a stranger has wrong.
fn remote(name: &'static str, url: [&'static str; 2], secret: &str, variables: Vec<(String, String)>) -> Kind {
    let mut wrong = variables.clone();
    for (key, value) in &mut wrong {
        if key == secret {
            *value = laws::CANARY.to_owned();
        }
    }
    Kind {
        name,
        unknown: Some(open(url[0], "unknown", &wrong).unwrap()),
        nowhere: Some(open(url[1], "nowhere", &variables).unwrap()),
        open: Box::new(move |environment| open(url[0], environment, &variables).unwrap()),
    }
}

async fn holds(kind: Kind) {
    laws::hold(&kind).await;
    deploys::work(&kind).await;
}

/// The same place as somebody with a bad network reaches it.
async fn holds_with_losses(url: &'static str, server: &Server, variables: &[(String, String)]) {
    let lossy = Lossy::before(server.port).await;
    let [real, bad] = [server.port, lossy.port].map(|port| format!("127.0.0.1:{port}"));
    let variables: Vec<_> = variables.iter().map(|(key, value)| (key.clone(), value.replace(&real, &bad))).collect();
    let open = move |environment: &str| open(url, environment, &variables).unwrap();
    let kind = Kind { name: "bad network", open: Box::new(open), unknown: None, nowhere: None };
    deploys::two_releases(&kind, "lossy").await;
    assert!(lossy.lost() > 3, "{}", lossy.lost());
}

#[tokio::test(flavor = "multi_thread")]
async fn folder() {
    let project = TempDir::new().unwrap();
    let path = project.path().to_owned();
    let open =
        move |environment: &str| open_store("file:.dbird/state", &path, Cloud::Local, &target(environment)).unwrap();
    holds(Kind { name: "folder", open: Box::new(open), unknown: None, nowhere: None }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    let memory = Arc::new(InMemory::new());
    let open = move |environment: &str| -> Arc<dyn Store> {
        Arc::new(Objects::new(memory.clone(), &format!("local/bird/{environment}"), "memory:"))
    };
    holds(Kind { name: "memory", open: Box::new(open), unknown: None, nowhere: None }).await;
}

const S3: [&str; 2] = ["s3://state/some/prefix", "s3://missing/some/prefix"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto_server; `cargo xtask test` installs it and runs this"]
async fn s3_on_moto() {
    let (server, variables) = Server::moto();
    holds_with_losses(S3[0], &server, &variables).await;
    holds(remote("moto", S3, "AWS_SECRET_ACCESS_KEY", variables)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ministack; `cargo xtask test` installs it and runs this"]
async fn s3_on_ministack() {
    let (server, variables) = Server::ministack();
    holds_with_losses(S3[0], &server, &variables).await;
    holds(remote("ministack", S3, "AWS_ACCESS_KEY_ID", variables)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs azurite-blob; `cargo xtask test` installs it and runs this"]
async fn blob_on_azurite() {
    let (server, variables) = Server::azurite();
    let urls = ["az://devstoreaccount1/state/some/prefix", "az://devstoreaccount1/missing/some/prefix"];
    holds_with_losses(urls[0], &server, &variables).await;
    holds(remote("azurite", urls, "AZURE_STORAGE_ACCOUNT_KEY", variables)).await;
}
