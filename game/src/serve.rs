//! Accepts connections and stops in order: not ready, drain, close the listener, finish what is in flight, close the
//! store. It never chooses ports or catches signals: the caller owns both.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use futures::FutureExt;
use http::StatusCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

use crate::app::{app, metrics_app};
use crate::connection;
use crate::game::{Game, Stage};
use crate::metrics::Refused;
use crate::watched::refusal;

/// Connections to the metrics port: a scraper or three.
const METRICS_CONNECTIONS_MAX: usize = 16;
/// How long the store may take to close when requests have used up the whole grace time.
const CLOSE_WAIT_MIN: Duration = Duration::from_secs(3);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Requests in flight were all answered within the grace time.
    pub drained: bool,
    /// The store was closed cleanly; if not, the next start recovers it, and no acknowledged score is lost.
    pub closed: bool,
}

/// Serves until `shutdown` resolves, then stops gracefully.
pub async fn run(
    listener: TcpListener,
    metrics_listener: Option<TcpListener>,
    shutdown: impl Future<Output = ()>,
    game: Game,
) -> Stopped {
    let settings = &game.settings();
    let public = Door::new(app(game.clone()), settings.limits.connections_max, &game);
    let metrics = metrics_listener
        .map(|listener| (Door::new(metrics_app(game.clone()), METRICS_CONNECTIONS_MAX, &game), Arc::new(listener)));
    let scraping = metrics.as_ref().map(|(door, listener)| {
        let (door, listener) = (door.clone(), listener.clone());
        tokio::spawn(async move { door.accept(&listener).await })
    });
    {
        let mut accepting = pin!(public.accept(&listener));
        tokio::select! {
            () = &mut accepting => {}
            () = shutdown => {}
        }
        game.life().enter(Stage::Draining);
        // First of all, so that a successor shows what is accepted from here on.
        game.store().release();
        info!(drain_delay_ms = u64::try_from(settings.drain_delay.as_millis()).unwrap_or(u64::MAX), "stopping");
        if !settings.drain_delay.is_zero() {
            let mut life = game.life().watch();
            let hurried = life.wait_for(|stage| *stage > Stage::Draining);
            let until_hurried = async {
                tokio::select! {
                    () = &mut accepting => {}
                    _ = hurried => {}
                }
            };
            drop(tokio::time::timeout(settings.drain_delay, until_hurried).await);
        }
    }
    // Whoever the system has already connected is served, not reset.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        public.welcome(stream);
    }
    drop(listener);
    game.life().enter(Stage::Closing);
    let deadline = Instant::now() + settings.stop_grace;
    let drained = public.empty(settings.stop_grace).await;
    if !drained {
        warn!("requests were still in flight at the end of the grace time and are dropped");
    }
    let patience = deadline.saturating_duration_since(Instant::now()).max(CLOSE_WAIT_MIN);
    let closed = game.close(patience).await;
    game.life().enter(Stage::Ending);
    if let Some(scraping) = scraping {
        scraping.abort();
    }
    info!(drained, closed, "stopped");
    Stopped { drained, closed }
}

/// A router with a bounded number of connections to it.
#[derive(Clone)]
struct Door {
    router: Router,
    places: Arc<Semaphore>,
    places_max: u32,
    game: Game,
}

impl Door {
    fn new(router: Router, connections_max: usize, game: &Game) -> Self {
        let places_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        Self { router, places: Arc::new(Semaphore::new(connections_max)), places_max, game: game.clone() }
    }

    /// Never ends by itself.
    async fn accept(&self, listener: &TcpListener) {
        /// Out of file descriptors, most likely: a pause lets some connections end.
        const PAUSE: Duration = Duration::from_millis(50);
        let mut troubled = false;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    troubled = false;
                    self.welcome(stream);
                }
                Err(fault) => {
                    if !troubled {
                        warn!(error = %fault, "connections can't be accepted");
                    }
                    troubled = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn welcome(&self, stream: TcpStream) {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            // Latency is all that is lost where this fails.
            drop(stream.set_nodelay(true));
            let (router, game) = (self.router.clone(), self.game.clone());
            tokio::spawn(async move {
                let _open = Open::new(&game, place);
                connection::serve(stream, router, game.clone()).await;
            });
        } else {
            self.game.metrics().refused(Refused::OverCapacity);
            let text = refusal(StatusCode::SERVICE_UNAVAILABLE, "too many connections");
            // A new socket's buffer has room; whoever can't take it at once gets a plain close.
            drop(stream.try_write(&text));
        }
    }

    /// Waits until every connection has ended; `false` if that took longer than `grace`.
    async fn empty(&self, grace: Duration) -> bool {
        tokio::time::timeout(grace, self.places.acquire_many(self.places_max)).await.is_ok()
    }
}

/// Counts a connection and holds its place for as long as it lives.
struct Open {
    connections: prometheus::IntGauge,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(game: &Game, place: OwnedSemaphorePermit) -> Self {
        let connections = game.metrics().connections.clone();
        connections.inc();
        Self { connections, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.dec();
    }
}
