//! Where each task listens, in a file that a Prometheus on this machine can read (`file_sd_configs`). It decides what is in
//! the file and when it is written anew; who scrapes it, and what, is for others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dataplane::files::{self, Lasting};
use dbird_core::ReleaseId;
use serde::Serialize;

use super::keeper::{Inner, Keeper};
use super::log;

/// A file that can't be written is tried this often.
const AGAIN_EVERY: Duration = Duration::from_secs(5);

/// The tasks of one release, as Prometheus reads them.
#[derive(Debug, Serialize)]
struct Group<'a> {
    targets: Vec<String>,
    labels: Labels<'a>,
}

#[derive(Debug, Serialize)]
struct Labels<'a> {
    service: &'a str,
    environment: &'a str,
    release: String,
}

type Addresses = BTreeMap<ReleaseId, Vec<SocketAddr>>;

/// Keeps the file as the tasks are, for as long as this agent works.
pub(super) async fn follow(keeper: Arc<Keeper>) {
    let mut written = None;
    loop {
        let now = keeper.until(|inner| Some(found(inner)).filter(|now| Some(now) != written.as_ref())).await;
        let text = document(&now.0, &keeper.options.environment, &now.1);
        let path = keeper.paths.prometheus();
        match files::replace(&path, text.as_bytes(), Lasting::Crash) {
            Ok(()) => written = Some(now),
            Err(error) => {
                log(format_args!("can't write {}: {error}; trying again", path.display()));
                tokio::time::sleep(AGAIN_EVERY).await;
            }
        }
    }
}

/// Whose tasks have which addresses.
fn found(inner: &Inner) -> (String, Addresses) {
    let mut addresses = Addresses::new();
    for (release, live) in &inner.live {
        let mut of: Vec<SocketAddr> = live.statuses().iter().filter_map(|status| status.address).collect();
        of.sort_unstable();
        if !of.is_empty() {
            addresses.insert(*release, of);
        }
    }
    (inner.state.service.clone().unwrap_or_default(), addresses)
}

fn document(service: &str, environment: &str, addresses: &Addresses) -> String {
    let groups: Vec<Group<'_>> = addresses
        .iter()
        .map(|(release, addresses)| Group {
            targets: addresses.iter().map(SocketAddr::to_string).collect(),
            labels: Labels { service, environment, release: release.to_string() },
        })
        .collect();
    // Strings and lists only: there is nothing that can't be written.
    serde_json::to_string_pretty(&groups).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn each_release_is_a_group_with_its_labels() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for (addresses, expected) in [
            (Addresses::new(), json!([])),
            (
                Addresses::from([
                    (ReleaseId(4), vec![address(4711), address(4712)]),
                    (ReleaseId(5), vec![address(80)]),
                ]),
                json!([
                    {"targets": ["127.0.0.1:4711", "127.0.0.1:4712"],
                     "labels": {"service": "bird", "environment": "dev", "release": "r4"}},
                    {"targets": ["127.0.0.1:80"],
                     "labels": {"service": "bird", "environment": "dev", "release": "r5"}},
                ]),
            ),
        ] {
            let text = document("bird", "dev", &addresses);
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        }
    }
}
