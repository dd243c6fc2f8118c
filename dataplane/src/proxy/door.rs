//! One listening address. It decides how many threads serve it and how they start and stop; it never looks at a request.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc as sync_mpsc};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

use super::limits::Limits;
use super::route::Route;
use super::worker::{self, Command, Shared};

/// Connections that wait to be accepted; the kernel may have a lower bound of its own. The standard library asks for 128,
/// and drops what a burst has beyond that for a second.
const BACKLOG: i32 = 4096;

/// A listening address with its own [`Route`] and its own threads. Dropping it closes everything at once.
#[derive(Debug)]
pub struct Door {
    local: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
    stopped: Vec<oneshot::Receiver<()>>,
}

impl Door {
    /// Serves a listener. All threads accept from it, so it may be shared with another process, before and after.
    ///
    /// # Errors
    /// If the limits can't work ([`io::ErrorKind::InvalidInput`]), or no thread or event loop can be made.
    pub fn start(listener: TcpListener, route: Arc<Route>, limits: Limits) -> io::Result<Self> {
        limits.check()?;
        listener.set_nonblocking(true)?;
        // On a socket that listens already this only changes the length of its queue.
        rustix::net::listen(&listener, BACKLOG)?;
        let local = listener.local_addr()?;
        let count = limits.worker_count();
        let (commands, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let open = (0..count).map(|_| AtomicUsize::new(0)).collect();
        let shared = Arc::new(Shared { limits, route, open, commands });
        let mut door = Self { local, listener, shared, stopped: Vec::with_capacity(count) };
        let (ready, started) = sync_mpsc::channel();
        for (at, inbox) in inboxes.into_iter().enumerate() {
            let listener = door.listener.try_clone()?;
            let shared = Arc::clone(&door.shared);
            let ready = ready.clone();
            let (stopped, gone) = oneshot::channel();
            let body = move || {
                serve(at, listener, shared, inbox, &ready);
                // An error is a door that nobody waits for.
                let _ = stopped.send(());
            };
            std::thread::Builder::new().name(format!("door-{}-{at}", local.port())).spawn(body)?;
            door.stopped.push(gone);
        }
        drop(ready);
        for _ in 0..count {
            started.recv().unwrap_or_else(|_| Err(io::Error::other("a thread of the proxy ended as it began")))?;
        }
        Ok(door)
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The listening socket, to hand to a successor (by [`TcpListener::try_clone`] or as a file descriptor). While
    /// both hold it, each connection is accepted by either; after [`stop`](Self::stop) the other has it alone.
    #[must_use]
    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Open client connections, upgraded ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open.iter().map(|open| open.load(Relaxed)).sum()
    }

    /// Accepts no more, lets requests in flight end, and closes each connection after its next answer, or idle ones
    /// after [`Limits::farewell`]. What is left at the deadline is cut off. It may be awaited in any async context.
    pub async fn stop(mut self, deadline: Duration) {
        self.tell_all(Command::Stop, Instant::now() + deadline);
        for stopped in self.stopped.drain(..) {
            // An error is a thread that is gone as well.
            let _ = stopped.await;
        }
    }

    fn tell_all(&self, command: impl Fn(Instant) -> Command, deadline: Instant) {
        for inbox in &self.shared.commands {
            // An error is a thread that is gone already.
            let _ = inbox.send(command(deadline));
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.tell_all(Command::Stop, Instant::now());
    }
}

fn serve(
    at: usize,
    listener: TcpListener,
    shared: Arc<Shared>,
    inbox: mpsc::UnboundedReceiver<Command>,
    ready: &sync_mpsc::Sender<io::Result<()>>,
) {
    let runtime = match Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                let _ = ready.send(Ok(()));
                worker::run(at, listener, shared, inbox).await;
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    });
}
