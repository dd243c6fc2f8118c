//! One keep-alive connection that asks and waits, for what is asked one after another. It never tries again by itself.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// An answer that takes longer is an error.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Lines of a head; the servers here send a handful.
const HEAD_LINES_MAX: usize = 64;
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a server said.
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body, as text.
    pub(crate) body: String,
}

/// A connection, made when it is first used and again after an error.
pub(crate) struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Connects later.
    pub(crate) fn new(address: SocketAddr) -> Client {
        Client { address, stream: None }
    }

    /// Asks for a path.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: bench.local\r\n\r\n"))
    }

    /// Sends JSON to a path.
    pub(crate) fn post(&mut self, path: &str, json: &str) -> io::Result<Answer> {
        let len = json.len();
        self.ask(&format!(
            "POST {path} HTTP/1.1\r\nhost: bench.local\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n{json}"
        ))
    }

    fn ask(&mut self, request: &str) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER_MAX))?;
                BufReader::new(stream)
            }
        };
        stream.get_mut().write_all(request.as_bytes())?;
        let (answer, keep) = read(&mut stream)?;
        if keep {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

/// An answer, and whether the connection may be used again.
fn read(stream: &mut BufReader<TcpStream>) -> io::Result<(Answer, bool)> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let (mut status, mut len, mut keep) = (None, None, true);
    for _ in 0..HEAD_LINES_MAX {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            let status = status.ok_or_else(|| bad("an answer without a status"))?;
            // Without a length the body is all there is.
            let mut body = Vec::new();
            match len {
                Some(len) if len > BODY_BYTES_MAX => return Err(bad("a body that is too long")),
                Some(len) => {
                    body.resize(len, 0);
                    stream.read_exact(&mut body)?;
                }
                None => drop(stream.take(BODY_BYTES_MAX as u64).read_to_end(&mut body)?),
            }
            let body = String::from_utf8(body).map_err(|_| bad("a body that is no text"))?;
            return Ok((Answer { status, body }, keep && len.is_some()));
        }
        match line.split_once(':') {
            Some(("content-length", value)) => len = value.trim().parse().ok(),
            Some(("connection", value)) => keep = value.trim() != "close",
            Some(_) => {}
            None => status = line.split(' ').nth(1).and_then(|code| code.parse().ok()),
        }
    }
    Err(bad("a head that is too long"))
}
