//! The proxy in front of given backends, or a fast backend to measure it with, or both against nginx:
//!
//! ```text
//! cargo run --release -p dataplane --example proxy -- serve 127.0.0.1:8080 127.0.0.1:9000 [127.0.0.1:9001 ...]
//! cargo run --release -p dataplane --example proxy -- backend 127.0.0.1:9000
//! cargo run --release -p dataplane --example proxy -- compare [SECONDS [ROUNDS]]
//! ```
//!
//! `compare` needs `nginx` and `wrk` on the PATH. It starts nginx with a configuration and a prefix folder of its own,
//! measures both proxies in turn over the same backend with 64 connections, and prints one JSON line.
#![expect(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dataplane::proxy::{Door, Limits, Route, Share};
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

const CONNECTIONS: u32 = 64;
const USAGE: &str = "usage: proxy serve LISTEN BACKEND... | backend LISTEN | compare [SECONDS [ROUNDS]]";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match &*args {
        ["serve", listen, backends @ ..] if !backends.is_empty() => serve(listen, backends),
        ["backend", listen] => backend(listen.parse()?),
        ["compare", rest @ ..] if rest.len() < 3 => {
            let number = |at: usize, default| rest.get(at).map_or(Ok(default), |text| text.parse::<u32>());
            compare(number(0, 10)?, number(1, 3)?)
        }
        _ => Err(USAGE.into()),
    }
}

fn serve(listen: &str, backends: &[&str]) -> Result<(), Box<dyn Error>> {
    let backends = backends.iter().map(|address| address.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;
    let route = Route::new();
    route.set(vec![Share { release: "example".to_owned(), weight: 100, backends }]);
    let door = Door::start(TcpListener::bind(listen)?, route.clone(), Limits::default())?;
    println!("listening on {}", door.local_addr());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted?,
            _ = terminate.recv() => {}
        }
        door.stop(Duration::from_secs(5)).await;
        println!("{:?}", route.counts());
        Ok(())
    })
}

/// Answers `/bytes/N` with so many bytes and everything else with one small JSON body, on a thread per core.
fn backend(listen: SocketAddr) -> Result<(), Box<dyn Error>> {
    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
        const SMALL: &[u8] = br#"{"scores":[{"name":"bird","score":7},{"name":"drafty","score":5}]}"#;
        static LARGE: [u8; 16 << 20] = [b'x'; 16 << 20];
        let size = request.uri().path().strip_prefix("/bytes/").and_then(|size| size.parse::<usize>().ok());
        let body = Bytes::from_static(size.map_or(SMALL, |size| &LARGE[..size.min(LARGE.len())]));
        let mut response = Response::new(Full::new(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        loop {
            let (tcp, _) = listener.accept().await?;
            tcp.set_nodelay(true)?;
            tokio::spawn(async move {
                let mut server = hyper::server::conn::http1::Builder::new();
                // A client that goes away is no concern of a measurement.
                let _ = server.pipeline_flush(true).serve_connection(TokioIo::new(tcp), service_fn(answer)).await;
            });
        }
    })
}

/// A process that ends with the measurement.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to be done about either error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn compare(seconds: u32, rounds: u32) -> Result<(), Box<dyn Error>> {
    let own = std::env::current_exe()?;
    let [backend, ours, nginx] = free_addresses()?;
    let folder = tempfile::tempdir()?;
    let _backend = start(Command::new(&own).arg("backend").arg(backend.to_string()), backend)?;
    let door = start(Command::new(&own).arg("serve").args([ours.to_string(), backend.to_string()]), ours)?;
    let configuration = folder.path().join("nginx.conf");
    std::fs::write(&configuration, nginx_configuration(folder.path(), nginx, backend))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(&configuration).args(["-g", "daemon off;"]);
    let _nginx = Nginx { running: start(&mut command, nginx)? };

    let mut results = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (result, address) in results.iter_mut().zip([ours, nginx]) {
            result.push(wrk(address, seconds)?);
        }
    }
    let [ours, nginx] = results.map(|rounds| median(&rounds));
    println!(
        "{}",
        serde_json::json!({
            "connections": CONNECTIONS, "seconds": seconds, "rounds": rounds,
            "proxy": { "requests_per_s": ours.0, "p99_us": ours.1, "peak_rss_kib": peak_rss_kib(door.0.id()) },
            "nginx": { "requests_per_s": nginx.0, "p99_us": nginx.1 },
            "throughput_ratio": ours.0 / nginx.0, "p99_ratio": ours.1 / nginx.1,
        })
    );
    Ok(())
}

/// nginx's workers end only when its master is asked to stop.
struct Nginx {
    running: Running,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let asked = Command::new("kill").arg(self.running.0.id().to_string()).status();
        if asked.is_ok_and(|status| status.success()) {
            let _ = self.running.0.wait();
        }
    }
}

fn nginx_configuration(folder: &Path, listen: SocketAddr, backend: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "worker_processes auto;
        pid {folder}/nginx.pid;
        error_log {folder}/error.log;
        events {{ worker_connections 4096; }}
        http {{
            access_log off;
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            keepalive_requests 1000000000;
            upstream backend {{ server {backend}; keepalive 64; keepalive_requests 1000000000; }}
            server {{
                listen {listen};
                location / {{
                    proxy_pass http://backend;
                    proxy_http_version 1.1;
                    proxy_set_header Connection \"\";
                }}
            }}
        }}"
    )
}

fn free_addresses() -> Result<[SocketAddr; 3], Box<dyn Error>> {
    let held =
        [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([held[0].local_addr()?, held[1].local_addr()?, held[2].local_addr()?])
}

/// Starts a server and waits until it listens.
fn start(command: &mut Command, address: SocketAddr) -> Result<Running, Box<dyn Error>> {
    let running = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            return Err(format!("{command:?} does not listen on {address}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(running)
}

/// Requests per second and the 99th percentile in microseconds.
fn wrk(address: SocketAddr, seconds: u32) -> Result<(f64, f64), Box<dyn Error>> {
    let output = Command::new("wrk")
        .args(["-t2", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "--latency"])
        .arg(format!("http://{address}/"))
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let field = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    if let Some(errors) = field("Non-2xx").or(field("Socket errors")) {
        return Err(format!("requests failed: {errors}").into());
    }
    let rate = field("Requests/sec:").ok_or("wrk gave no rate")?.parse()?;
    let p99 = field("99%").ok_or("wrk gave no 99th percentile")?;
    let unit = p99.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1_000.0,
        _ => 1_000_000.0,
    };
    Ok((rate, p99[..p99.len() - unit.len()].parse::<f64>()? * factor))
}

fn median(rounds: &[(f64, f64)]) -> (f64, f64) {
    let middle = |pick: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    (middle(|round| round.0), middle(|round| round.1))
}

fn peak_rss_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}
