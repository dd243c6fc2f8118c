//! A small real HTTP service: it answers, counts its answers as services do, and shows them at /metrics. Several processes may
//! take turns behind its one address.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};

/// What one process has counted, by method, route and status.
#[derive(Default)]
pub(crate) struct Process {
    pub(crate) started_s: Option<u64>,
    pub(crate) answers: BTreeMap<(String, String, u16), u64>,
}

impl Process {
    pub(crate) fn named(started_s: u64) -> Self {
        Process { started_s: Some(started_s), ..Process::default() }
    }

    pub(crate) fn count(&mut self, request: &str, status: u16, count: u64) {
        let (method, route) = request.split_once(' ').unwrap();
        *self.answers.entry((method.to_owned(), route.to_owned(), status)).or_default() += count;
    }

    /// Its page; every answer took between 10 and 50 ms.
    fn page(&self) -> String {
        let mut page = String::from("# TYPE http_requests_total counter\n");
        if let Some(started_s) = self.started_s {
            writeln!(page, "process_start_time_seconds {started_s}").unwrap();
        }
        for ((method, route, status), count) in &self.answers {
            let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
            writeln!(page, "http_requests_total{{{labels}}} {count}").unwrap();
            for (le, up_to) in [("0.01", 0), ("0.05", *count), ("+Inf", *count)] {
                writeln!(page, "http_request_duration_seconds_bucket{{{labels},le=\"{le}\"}} {up_to}").unwrap();
            }
            writeln!(page, "http_request_duration_seconds_count{{{labels}}} {count}").unwrap();
        }
        page
    }
}

/// What answers a path, with the status and the body.
type Answers = dyn Fn(&str) -> Option<(u16, String)> + Send + Sync;

/// A running service; it ends with the test's runtime.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    /// They take turns in showing their metrics; without any, there is no such page.
    pub(crate) processes: Arc<Mutex<Vec<Process>>>,
    /// Everything that was asked, with its headers.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    /// Metrics of these processes, and everything else by `answers`; what it does not answer hangs.
    pub(crate) async fn start(
        processes: Vec<Process>,
        answers: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> Service {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service { address, processes: Arc::new(Mutex::new(processes)), asked: Arc::default() };
        let (processes, asked) = (service.processes.clone(), service.asked.clone());
        let answers: Arc<Answers> = Arc::new(answers);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (processes, asked, answers) = (processes.clone(), asked.clone(), answers.clone());
                let answer = service_fn(move |request: Request<Incoming>| {
                    let text = answer(&request, &processes, &asked, &*answers);
                    async move {
                        match text {
                            Some((status, text)) => {
                                let builder =
                                    Response::builder().status(status).header("location", "http://example.invalid/");
                                Ok::<_, Infallible>(builder.body(Full::new(Bytes::from(text))).unwrap())
                            }
                            None => std::future::pending().await,
                        }
                    }
                });
                let connection =
                    http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(async { drop(connection.await) });
            }
        });
        service
    }

    /// Changes the counters of one process.
    pub(crate) fn count(&self, process: usize, request: &str, status: u16, count: u64) {
        self.processes.lock().unwrap()[process].count(request, status, count);
    }
}

fn answer(
    request: &Request<Incoming>,
    processes: &Mutex<Vec<Process>>,
    asked: &Mutex<Vec<String>>,
    answers: &Answers,
) -> Option<(u16, String)> {
    let path = request.uri().path_and_query().unwrap().as_str();
    let mut asked = asked.lock().unwrap();
    asked.push(format!("{} {path} {:?}", request.method(), request.headers()));
    let processes = processes.lock().unwrap();
    if path == "/metrics" && !processes.is_empty() {
        let turn = asked.iter().filter(|a| a.contains(" /metrics ")).count();
        return Some((200, processes[turn % processes.len()].page()));
    }
    answers(path)
}
