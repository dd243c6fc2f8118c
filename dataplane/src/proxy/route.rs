//! What a door asks for each request. It decides which table is valid at which instant; it never touches a socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::counts::Counts;
use super::failing::Failures;
use super::hold::{Hold, Queued};
use super::limits::HoldLimits;
use super::release::Release;
use super::table::{Backend, Plan, Portion, Share, Table};

/// Releases whose totals are kept after they left the table; beyond, the one that left first is dropped.
const RELEASES_KEPT_MAX: usize = 256;
/// How often those are looked at who may still have a request.
const LEAVING_EVERY: Duration = Duration::from_millis(10);

/// The shares of one door and everything counted about them. All methods may be called from any thread or task.
#[derive(Debug)]
pub struct Route {
    /// That of the table inside; read by the doors' threads for each request, so that most need no lock.
    version: AtomicU64,
    inside: Mutex<Inside>,
    /// Counts requests that no release got.
    unrouted: Arc<Release>,
}

#[derive(Debug, Default)]
struct Inside {
    table: Arc<Table>,
    releases: BTreeMap<String, Arc<Release>>,
    hold: Hold,
    next_backend: u64,
    /// Backends that left the table while requests to them may be in flight.
    leaving: Vec<Leaving>,
    watchers: Vec<Weak<Notify>>,
}

/// A backend that is told apart from one that comes later to the same address.
#[derive(Debug)]
struct Leaving {
    release: String,
    address: SocketAddr,
    /// Alive as long as a thread may send a request to it or has one there.
    backend: Weak<Backend>,
}

impl Route {
    /// A route without a share: every request is told 503 "no release serves here".
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { version: AtomicU64::new(0), inside: Mutex::default(), unrouted: Release::new("") })
    }

    /// Replaces all shares at once. When it returns, no request chooses by the old ones any more; those that were
    /// sent on before are counted by [`in_flight`](Self::in_flight). With no share that has both weight and a
    /// backend, requests are told 503.
    pub fn set(&self, shares: Vec<Share>) {
        let mut inside = self.lock();
        let portions = shares
            .into_iter()
            .filter(|share| !share.backends.is_empty())
            .map(|share| {
                let release = inside.release(&share.release);
                let backends = share.backends.iter().map(|address| inside.backend(&release, *address)).collect();
                Portion::new(release, backends, share.weight)
            })
            .collect();
        let before = Arc::clone(&inside.table);
        self.publish(&mut inside, Arc::new(Plan::new(portions)));
        inside.note_leaving(&before.plan);
        inside.prune();
    }

    /// From now on new requests wait instead of being sent on, read no further than their head, until
    /// [`resume`](Self::resume). One too many is told 503 at once, one that waited too long then; both with
    /// `Retry-After: 1`. A client that disconnects frees its place.
    pub fn hold(&self, limits: HoldLimits) {
        let mut inside = self.lock();
        inside.hold.start(limits);
        let plan = Arc::clone(&inside.table.plan);
        self.publish(&mut inside, plan);
    }

    /// Lets the requests that wait go on, in the order they came, over the shares as they are now.
    pub fn resume(&self) {
        let mut inside = self.lock();
        if !inside.hold.is_on() {
            return;
        }
        let waiting = inside.hold.end();
        let plan = Arc::clone(&inside.table.plan);
        self.publish(&mut inside, plan);
        drop(inside);
        for go in waiting {
            // An error is a client that left just now.
            let _ = go.send(());
        }
    }

    /// Requests that wait in a hold.
    pub fn waiting(&self) -> usize {
        self.lock().hold.waiting()
    }

    /// Requests sent on to a release whose response is not completely relayed; upgraded connections apart.
    pub fn in_flight(&self, release: &str) -> usize {
        self.find(release).map_or(0, |release| release.in_flight())
    }

    /// Upgraded connections (WebSocket and the like) that are open to a release. They end with their backend.
    pub fn upgraded(&self, release: &str) -> usize {
        self.find(release).map_or(0, |release| release.upgraded())
    }

    /// Waits until a release has no request in flight; false if the deadline passed before. It does not keep new ones
    /// away: that is [`set`](Self::set) or [`hold`](Self::hold). Needs a tokio runtime with its timer on.
    pub async fn drained(&self, release: &str, deadline: Duration) -> bool {
        match self.find(release) {
            Some(release) => release.drained(deadline).await,
            None => true,
        }
    }

    /// Waits until the requests in flight to these backends have ended, which [`set`](Self::set) left out; false if the
    /// deadline passed before. Those to the release's other backends are not waited for, nor are upgraded connections.
    /// Idle connections to them are closed. Needs a tokio runtime with its timer on.
    pub async fn left(&self, release: &str, addresses: &[SocketAddr], deadline: Duration) -> bool {
        let gone = async {
            while !self.lock().have_left(release, addresses) {
                // Threads without a request see only now that the table is another.
                self.lock().tell_watchers();
                tokio::time::sleep(LEAVING_EVERY).await;
            }
        };
        tokio::time::timeout(deadline, gone).await.is_ok()
    }

    /// Closes the idle connections to a release's backends; none of them is used again from now on.
    pub fn forget(&self, release: &str) {
        let mut inside = self.lock();
        let Some(release) = inside.releases.get(release) else { return };
        release.forget();
        inside.tell_watchers();
    }

    /// Totals of each release since it was first named; under "" those of requests that no release got (no share, hold
    /// full or too long, not valid HTTP). Only after 256 later releases are the totals of one that left dropped.
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        let releases: Vec<Arc<Release>> = self.lock().releases.values().cloned().collect();
        let unrouted = Some(&self.unrouted).filter(|release| release.counts() != Counts::default());
        releases.iter().chain(unrouted).map(|release| (release.name.clone(), release.counts())).collect()
    }

    /// Which requests of each release failed since this was last asked; only of releases that had such. What never was a
    /// release's is not among them.
    pub fn take_failures(&self) -> BTreeMap<String, Failures> {
        let releases: Vec<Arc<Release>> = self.lock().releases.values().cloned().collect();
        let taken = releases.iter().map(|release| (release.name.clone(), release.take_failures()));
        taken.filter(|(_, failures)| !failures.is_empty()).collect()
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(SeqCst)
    }

    pub(super) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.lock().table)
    }

    pub(super) fn unrouted(&self) -> &Arc<Release> {
        &self.unrouted
    }

    pub(super) fn queue(&self) -> Queued {
        self.lock().hold.queue()
    }

    pub(super) fn give_back(&self, id: u64) {
        self.lock().hold.give_back(id);
    }

    /// Something that is told whenever pooled connections may have to go.
    pub(super) fn watch(&self, watcher: &Arc<Notify>) {
        self.lock().watchers.push(Arc::downgrade(watcher));
    }

    fn publish(&self, inside: &mut Inside, plan: Arc<Plan>) {
        let version = inside.table.version + 1;
        for portion in &plan.portions {
            portion.release.last_named.store(version, SeqCst);
        }
        inside.table = Arc::new(Table { version, held: inside.hold.is_on(), plan });
        self.version.store(version, SeqCst);
    }

    fn find(&self, release: &str) -> Option<Arc<Release>> {
        self.lock().releases.get(release).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn release(&mut self, name: &str) -> Arc<Release> {
        if let Some(known) = self.releases.get(name) {
            return Arc::clone(known);
        }
        let release = Release::new(name);
        self.releases.insert(name.to_owned(), Arc::clone(&release));
        release
    }

    /// The same backend as in the table that is replaced, so that its pooled connections stay in use.
    fn backend(&mut self, release: &Arc<Release>, address: SocketAddr) -> Arc<Backend> {
        let same = self.table.plan.portions.iter().filter(|portion| Arc::ptr_eq(&portion.release, release));
        if let Some(known) = same.flat_map(|portion| &portion.backends).find(|backend| backend.address == address) {
            return Arc::clone(known);
        }
        self.next_backend += 1;
        Backend::new(self.next_backend, address)
    }

    fn note_leaving(&mut self, before: &Plan) {
        self.leaving.retain(|leaving| leaving.backend.strong_count() > 0);
        let stays = |id| self.table.plan.portions.iter().flat_map(|portion| &portion.backends).any(|b| b.id == id);
        for portion in &before.portions {
            for backend in portion.backends.iter().filter(|backend| !stays(backend.id)) {
                backend.leaving.store(true, SeqCst);
                self.leaving.push(Leaving {
                    release: portion.release.name.clone(),
                    address: backend.address,
                    backend: Arc::downgrade(backend),
                });
            }
        }
    }

    fn have_left(&self, release: &str, addresses: &[SocketAddr]) -> bool {
        let asked = |leaving: &&Leaving| leaving.release == release && addresses.contains(&leaving.address);
        self.leaving.iter().filter(asked).all(|leaving| leaving.backend.strong_count() == 0)
    }

    fn tell_watchers(&mut self) {
        self.watchers.retain(|watcher| match watcher.upgrade() {
            Some(watcher) => {
                watcher.notify_one();
                true
            }
            None => false,
        });
    }

    fn prune(&mut self) {
        while self.releases.len() > RELEASES_KEPT_MAX {
            let current = self.table.version;
            let gone = |release: &&Arc<Release>| {
                release.last_named.load(SeqCst) < current && release.in_flight() == 0 && release.upgraded() == 0
            };
            let oldest = self.releases.values().filter(gone).min_by_key(|release| release.last_named.load(SeqCst));
            let Some(name) = oldest.map(|release| release.name.clone()) else { return };
            self.releases.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(release: &str) -> Share {
        Share { release: release.to_owned(), weight: 100, backends: vec![SocketAddr::from(([127, 0, 0, 1], 9))] }
    }

    #[test]
    fn a_backend_that_stays_is_the_same_backend() {
        let route = Route::new();
        let id = |route: &Route| route.table().plan.portions[0].backends[0].id;
        route.set(vec![share("a")]);
        let first = id(&route);
        route.set(vec![Share { weight: 1, ..share("a") }, share("b")]);
        assert_eq!(id(&route), first);
        route.set(vec![share("b")]);
        assert_ne!(id(&route), first, "the same address under another release is another backend");
    }

    #[test]
    fn only_old_releases_without_requests_are_dropped() {
        let route = Route::new();
        route.set(vec![share("busy")]);
        route.find("busy").unwrap().enter(0);
        for n in 0..2 * RELEASES_KEPT_MAX {
            route.set(vec![share(&n.to_string())]);
        }
        assert_eq!(route.counts().len(), RELEASES_KEPT_MAX);
        assert_eq!(route.in_flight("busy"), 1);
        assert!(route.find("0").is_none() && route.find(&(2 * RELEASES_KEPT_MAX - 1).to_string()).is_some());
    }

    #[tokio::test]
    async fn drained_is_told_of_the_last_one() {
        let route = Route::new();
        route.set(vec![share("a")]);
        let release = route.find("a").unwrap();
        (0..3).for_each(|shard| release.enter(shard));
        assert!(!route.drained("a", Duration::ZERO).await);
        let waits = tokio::spawn({
            let route = Arc::clone(&route);
            async move { route.drained("a", Duration::from_secs(20)).await }
        });
        for shard in 0..3 {
            tokio::task::yield_now().await;
            assert!(!waits.is_finished());
            release.leave(shard);
        }
        assert!(waits.await.unwrap());
        assert!(route.drained("unknown", Duration::ZERO).await);
    }
}
