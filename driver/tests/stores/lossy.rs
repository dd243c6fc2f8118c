//! A bad network in front of a server: requests arrive, and every few answers are lost on their way back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Every so many pieces of an answer, one is lost and its connection with it.
const LOST_EVERY: usize = 7;

/// It runs until the test ends.
pub(crate) struct Lossy {
    pub(crate) port: u16,
    pieces: Arc<AtomicUsize>,
}

impl Lossy {
    pub(crate) async fn before(server: u16) -> Lossy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pieces = Arc::new(AtomicUsize::new(0));
        let counted = pieces.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, server, counted.clone()));
            }
        });
        Lossy { port, pieces }
    }

    pub(crate) fn lost(&self) -> usize {
        self.pieces.load(Ordering::SeqCst) / LOST_EVERY
    }
}

async fn connection(client: TcpStream, server: u16, pieces: Arc<AtomicUsize>) {
    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(drop) };
    let back = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let bytes = from_server.read(&mut buffer).await?;
            if bytes == 0 || (pieces.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(LOST_EVERY) {
                return Ok::<_, std::io::Error>(());
            }
            to_client.write_all(&buffer[..bytes]).await?;
        }
    };
    // Whichever ends first ends both.
    tokio::select! { _ = there => {}, _ = back => {} }
}
