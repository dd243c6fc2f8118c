//! A server that answers every request as a test tells it to: for answers that no emulator gives. It remembers what it was
//! asked.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A status and a body for the n-th request of a method to a path.
pub(crate) type Answers = dyn Fn(usize, &str, &str) -> (u16, String) + Send + Sync;

/// It runs until the test ends.
pub(crate) struct Fake {
    pub(crate) port: u16,
    /// Method and path of each request.
    pub(crate) asked: Arc<Mutex<Vec<(String, String)>>>,
    /// Who signed each request, as its header says.
    pub(crate) signed: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(crate) async fn start(answers: impl Fn(usize, &str, &str) -> (u16, String) + Send + Sync + 'static) -> Fake {
        let answers: Arc<Answers> = Arc::new(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let remembered = asked.clone();
        let signed: Arc<Mutex<Vec<String>>> = Arc::default();
        let signatures = signed.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, asked) = (answers.clone(), remembered.clone());
                let signatures = signatures.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answers, asked) = (answers.clone(), asked.clone());
                    let signatures = signatures.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let signature = head.headers.get("authorization").and_then(|value| value.to_str().ok());
                        signatures.lock().unwrap().push(signature.unwrap_or_default().to_owned());
                        let _ = body.collect().await;
                        let (method, path) = (head.method.to_string(), head.uri.path().to_owned());
                        let n = {
                            let mut asked = asked.lock().unwrap();
                            asked.push((method.clone(), path.clone()));
                            asked.len() - 1
                        };
                        let (status, body) = answers(n, &method, &path);
                        let answer = Response::builder()
                            .status(status)
                            .header("ETag", "\"1\"")
                            .header("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT")
                            .body(Full::new(Bytes::from(body)))
                            .unwrap();
                        Ok::<_, Infallible>(answer)
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Fake { port, asked, signed }
    }
}
