//! Hooks that are addresses: a POST that says what happens, and that has to be answered with 2xx in time. It never follows a
//! redirect, and never shows more of an address than where it points.

use std::time::Duration;

use dbird_core::spec::HookWhen;
use reqwest::{Client, Url, redirect::Policy};
use serde::Serialize;

use crate::tls::{self, innermost};

/// An address that can't be reached is tried again so often, within its time.
const TRIES_MAX: u32 = 3;
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// Of an answer that refuses, so much is shown.
const SHOWN_CHARS: usize = 200;

/// What an address is told.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    /// 1; fields are only added within one version.
    pub(crate) format: u32,
    pub(crate) when: HookWhen,
    pub(crate) service: String,
    pub(crate) environment: String,
    /// As `r4`.
    pub(crate) release: String,
    /// What serves, or served, beside it.
    pub(crate) parent: Option<String>,
    /// The candidate's share of the traffic in percent.
    pub(crate) weight: u8,
    pub(crate) actor: String,
}

/// An address without what may be secret in it: user, password, path, query.
pub(crate) fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => {
            let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
            format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
        }
        Err(_) => "an address that can't be read".to_owned(),
    }
}

/// Tells it; why that failed.
pub(crate) async fn tell(url: &str, told: &Told, timeout_ms: u64) -> Result<(), String> {
    let body = serde_json::to_vec(told).map_err(|e| e.to_string())?;
    let limit = Duration::from_millis(timeout_ms);
    let client = tls::client().redirect(Policy::none()).build().map_err(|e| innermost(&e))?;
    match tokio::time::timeout(limit, tries(&client, url, &body)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {}", humantime::format_duration(limit))),
    }
}

/// Only what never arrived is sent again.
async fn tries(client: &Client, url: &str, body: &[u8]) -> Result<(), String> {
    let mut tried = 0;
    loop {
        tried += 1;
        let post = client.post(url).header("content-type", "application/json").body(body.to_vec());
        match post.send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(mut answer) => {
                let status = answer.status();
                let first = answer.chunk().await.ok().flatten().unwrap_or_default();
                let text = String::from_utf8_lossy(&first);
                let text: String = text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
                return Err(format!("{status}{}{text}", if text.is_empty() { "" } else { ": " }));
            }
            Err(e) if e.is_connect() && tried < TRIES_MAX => tokio::time::sleep(AGAIN_AFTER).await,
            Err(e) => return Err(innermost(&e)),
        }
    }
}
