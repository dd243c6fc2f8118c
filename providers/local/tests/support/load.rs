//! Clients that keep asking, each on a connection that it keeps, and notes of every answer that was no success.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// One request on a connection of its own.
pub(crate) async fn get(port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
    ask(&mut stream, path).await.map(|(status, body, _)| (status, body))
}

/// Status, body, and whether the connection stays.
async fn ask(stream: &mut BufReader<TcpStream>, path: &str) -> io::Result<(u16, String, bool)> {
    stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nhost: bird\r\n\r\n").as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "no answer");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    let (mut length, mut stays) = (0, true);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(cut());
        }
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().map_err(io::Error::other)?;
        }
        stays &= header != "connection: close";
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok((status, String::from_utf8_lossy(&body).into_owned(), stays))
}

/// A constant load.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) done: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many clients; `path` gets a number that is never used twice.
    pub(crate) fn start(port: u16, clients: usize, path: impl Fn(u64) -> String + Send + Sync + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let failed = Arc::new(Mutex::new(Vec::new()));
        let path = Arc::new(path);
        let next = Arc::new(AtomicU64::new(0));
        let clients = (0..clients)
            .map(|_| {
                let (stop, done, failed) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failed));
                let (path, next) = (Arc::clone(&path), Arc::clone(&next));
                tokio::spawn(async move {
                    let mut connection = None;
                    while !stop.load(Relaxed) {
                        let path = path(next.fetch_add(1, Relaxed));
                        match once(&mut connection, port, &path).await {
                            Ok((200, ..)) => drop(done.fetch_add(1, Relaxed)),
                            Ok((status, body)) => failed.lock().unwrap().push(format!("{path}: {status} {body}")),
                            Err(error) => failed.lock().unwrap().push(format!("{path}: {error}")),
                        }
                        // As much as the machine's other tests can bear.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                })
            })
            .collect();
        Load { stop, done, failed, clients }
    }

    /// Waits for so many more answers.
    pub(crate) async fn go_on(&self, count: u64) {
        let until = self.done.load(Relaxed) + count;
        super::eventually("more answers", async || self.done.load(Relaxed) >= until).await;
    }

    /// Ends the load; successes, and every failure in words.
    pub(crate) async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        let failed = std::mem::take(&mut *self.failed.lock().unwrap());
        (self.done.load(Relaxed), failed)
    }
}

async fn once(connection: &mut Option<BufReader<TcpStream>>, port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?),
    };
    let (status, body, stays) = ask(&mut stream, path).await?;
    *connection = stays.then_some(stream);
    Ok((status, body))
}
