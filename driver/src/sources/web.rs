//! The HTTP client of all sources: bounded in time and size, plain in its errors. It follows a redirect only to the host that
//! sent it, and never puts an address into a message: addresses can carry passwords.

use std::time::Duration;

use reqwest::{Client, header, redirect::Policy};
use url::{Host, Url};

use crate::tls::{self, innermost};

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 3;

/// A client.
#[derive(Debug, Clone)]
pub(super) struct Web(Client);

/// What is asked.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    /// Where; user and password in it are sent as such.
    pub(super) url: &'a Url,
    /// What is understood.
    pub(super) accept: &'static str,
    /// Until the last byte.
    pub(super) timeout: Duration,
    /// A longer body is an error.
    pub(super) bytes_max: usize,
}

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The latest time that it may be there, by its own clock: the header counts whole seconds.
    pub(super) now_ms: Option<u64>,
}

impl Web {
    /// For tasks, which are reached directly.
    pub(super) fn direct() -> Result<Self, String> {
        Self::build(true)
    }

    /// For a server: directly on this machine, elsewhere as the process environment says.
    pub(super) fn to(url: &Url) -> Result<Self, String> {
        Self::build(is_loopback(url))
    }

    fn build(direct: bool) -> Result<Self, String> {
        let builder = tls::client()
            .redirect(Policy::custom(|attempt| {
                let same = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
                if same && attempt.previous().len() <= REDIRECTS_MAX { attempt.follow() } else { attempt.stop() }
            }))
            // A kept connection leads to the same one of several processes again and again.
            .pool_max_idle_per_host(0);
        let builder = if direct { builder.no_proxy() } else { builder };
        builder.build().map(Web).map_err(|e| innermost(&e))
    }

    /// Asks; an error is why there is no answer.
    pub(super) async fn get(&self, question: Question<'_>) -> Result<Answer, String> {
        let Question { url, accept, timeout, bytes_max } = question;
        let why = |e: reqwest::Error| {
            if e.is_timeout() { format!("no answer within {} s", timeout.as_secs_f64()) } else { innermost(&e) }
        };
        let request = self.0.get(url.clone()).header(header::ACCEPT, accept).timeout(timeout);
        let mut response = request.send().await.map_err(why)?;
        let status = response.status().as_u16();
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let now_ms = date.and_then(|date| httpdate::parse_http_date(date).ok()).and_then(|date| {
            let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
            u64::try_from(since.as_millis()).ok()?.checked_add(999)
        });
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(why)? {
            if body.len() + chunk.len() > bytes_max {
                return Err(format!("the answer is longer than {} MiB", bytes_max >> 20));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body, now_ms })
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// An address without what may be secret in it: user, password, query.
pub(super) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = if url.path() == "/" { "" } else { url.path() };
    format!("{}://{}{port}{path}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        for (url, expected, loopback) in [
            ("http://127.0.0.1:9090", "http://127.0.0.1:9090", true),
            ("http://localhost:9090/prom/", "http://localhost:9090/prom/", true),
            ("https://me:secret@metrics.example.com/p?token=secret", "https://metrics.example.com/p", false),
            ("http://[::1]:1", "http://[::1]:1", true),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!((shown(&url).as_str(), is_loopback(&url)), (expected, loopback), "{url}");
        }
    }
}
