//! One question to a task over HTTP: is it alive, is it ready. It decides what an answer means; how often it is asked,
//! and what follows from it, is the supervisor's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// More of an answer's body is not looked at.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Keys of a readiness answer that are kept, and how long their values may be.
const KEYS_MAX: usize = 32;
const VALUE_BYTES_MAX: usize = 256;

/// What a task answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status, if it answered at all.
    pub status: Option<StatusCode>,
    /// Why it did not.
    pub error: String,
    /// What it waits for, in its own word (`waiting_for`).
    pub waiting_for: Option<String>,
    /// Its JSON object's other plain values.
    pub reported: BTreeMap<String, Value>,
}

impl Answer {
    /// 2xx and 3xx.
    pub fn is_good(&self) -> bool {
        self.status.is_some_and(|status| status.is_success() || status.is_redirection())
    }

    /// What is wrong, in a few words.
    pub fn describe(&self) -> String {
        match (&self.waiting_for, self.status) {
            (Some(what), _) => format!("waiting for the {what}"),
            (None, Some(status)) => {
                match self.reported.get("error").or(self.reported.get("reason")).and_then(Value::as_str) {
                    Some(why) => format!("answers {}: {why}", status.as_u16()),
                    None => format!("answers {}", status.as_u16()),
                }
            }
            (None, None) => self.error.clone(),
        }
    }

    fn none(error: impl Into<String>) -> Self {
        Answer { status: None, error: error.into(), waiting_for: None, reported: BTreeMap::new() }
    }
}

/// Asks once, on a connection of its own.
pub async fn ask(address: SocketAddr, path: &str, timeout: Duration) -> Answer {
    match tokio::time::timeout(timeout, get(address, path)).await {
        Ok(answer) => answer,
        Err(_) => Answer::none(format!("no answer within {} ms", timeout.as_millis())),
    }
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Answer::none("does not listen yet");
        }
        Err(error) => return Answer::none(format!("can't be reached: {error}")),
    };
    let request = Request::get(path)
        .header(http::header::HOST, address.to_string())
        .header(http::header::USER_AGENT, "dbird-probe")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let request = match request {
        Ok(request) => request,
        Err(error) => return Answer::none(format!("can't be asked: {error}")),
    };
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let respond = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
            Ok::<_, hyper::Error>((status, body.map(|body| body.to_bytes()).unwrap_or_default()))
        };
        tokio::pin!(connection, respond);
        tokio::select! {
            done = &mut respond => done,
            // The connection may end in the very moment in which the answer is complete.
            ended = &mut connection => match ended {
                Ok(()) => respond.await,
                Err(error) => Err(error),
            },
        }
    };
    match exchange.await {
        Ok((status, body)) => read(status, &body),
        Err(error) => Answer::none(format!("breaks off: {error}")),
    }
}

fn read(status: StatusCode, body: &[u8]) -> Answer {
    let mut answer =
        Answer { status: Some(status), error: String::new(), waiting_for: None, reported: BTreeMap::new() };
    if let Ok(Value::Object(object)) = serde_json::from_slice(body) {
        answer.waiting_for = object.get("waiting_for").and_then(Value::as_str).map(|what| shorten(what).to_owned());
        let plain = |(key, value): (String, Value)| match value {
            Value::String(text) => Some((key, Value::from(shorten(&text)))),
            Value::Number(_) | Value::Bool(_) => Some((key, value)),
            _ => None,
        };
        let wanted = object.into_iter().filter(|(key, _)| key != "waiting_for" && key.len() <= VALUE_BYTES_MAX);
        answer.reported = wanted.filter_map(plain).take(KEYS_MAX).collect();
    }
    answer
}

fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn answered(raw: &'static str) -> Answer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await.unwrap();
            stream.write_all(raw.as_bytes()).await.unwrap();
            // An answer that never comes: stay until the other side leaves.
            if raw.is_empty() {
                let _ = stream.read(&mut head).await;
            }
        });
        let answer = ask(address, "/readyz", Duration::from_millis(300)).await;
        server.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_mean_what_they_say() {
        for (raw, good, says) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{\"status\":\"ready\"}", true, "answers 200"),
            ("HTTP/1.1 204 No Content\r\n\r\n", true, "answers 204"),
            ("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", true, "answers 302"),
            (
                "HTTP/1.1 503 X\r\n\r\n{\"status\":\"not_ready\",\"waiting_for\":\"store\"}",
                false,
                "waiting for the store",
            ),
            ("HTTP/1.1 503 X\r\n\r\n{\"error\":\"disk\"}", false, "answers 503: disk"),
            ("HTTP/1.1 404 X\r\n\r\nnot json", false, "answers 404"),
            ("SMTP ready\r\n\r\n", false, "breaks off: invalid HTTP version parsed"),
            ("", false, "no answer within 300 ms"),
        ] {
            let answer = answered(raw).await;
            assert_eq!((answer.is_good(), answer.describe().as_str()), (good, says), "{raw}");
        }
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(ask(free, "/", Duration::from_secs(1)).await.describe(), "does not listen yet");
    }

    #[tokio::test]
    async fn plain_values_are_kept_and_bounded() {
        let body = r#"{"status":"ready","storage_mode":"sqlite","n":3,"ok":true,"deep":{"a":1},"list":[1]}"#;
        let answer = read(StatusCode::OK, body.as_bytes());
        assert_eq!(
            answer.reported.keys().map(String::as_str).collect::<Vec<_>>(),
            ["n", "ok", "status", "storage_mode"]
        );
        let long = format!("{{\"a\":\"{}\"}}", "ü".repeat(1000));
        assert_eq!(read(StatusCode::OK, long.as_bytes()).reported["a"].as_str().unwrap().len(), 256);
        assert!(read(StatusCode::OK, b"[1]").reported.is_empty());
    }
}
