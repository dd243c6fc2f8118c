//! A shared folder that does what network shares do, decided by a seed: what was written is seen by others when it is synced or
//! earlier, listings and look-ups are answered from old knowledge, locks get lost without a word, calls fail before or
//! after they did their work, processes are paused anywhere and killed anywhere with what they had not synced.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use spool::{File, Share};

/// How often what goes wrong, in thousandths of all calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) switch: u32,
    pub(crate) fail: u32,
    pub(crate) kill: u32,
    pub(crate) pause: u32,
    pub(crate) stale: u32,
    pub(crate) lose_lock: u32,
}

impl Faults {
    pub(crate) const NONE: Self = Self { switch: 0, fail: 0, kill: 0, pause: 0, stale: 0, lose_lock: 0 };
}

/// How a share may break its word, so that a simulation that finds nothing is known to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Broken {
    #[default]
    Nothing,
    /// Making and removing folders is answered by the client.
    CachedFolders,
    /// A sync does nothing.
    LyingSync,
    /// Making a file that exists succeeds.
    SharedCreate,
}

type Inode = usize;
/// Offsets and bytes, in order.
type Writes = Vec<(u64, Vec<u8>)>;

#[derive(Clone, Debug)]
enum Node {
    Folder,
    File(Inode),
}

#[derive(Default)]
struct Inner {
    rng: Rng,
    faults: Option<Faults>,
    broken: Broken,
    now: Duration,
    names: BTreeMap<String, Node>,
    inodes: Vec<Vec<u8>>,
    /// What a client wrote and did not sync, in order.
    unsynced: HashMap<(usize, Inode), Writes>,
    /// What a client believes of a folder's names.
    listings: HashMap<(usize, String), Vec<String>>,
    missing: HashSet<(usize, String)>,
    lock: Option<usize>,
    dead: HashSet<usize>,
    threads: Vec<Thread>,
    turn: usize,
    clients: usize,
    pub(crate) calls: u64,
}

struct Thread {
    wakes: Duration,
    client: usize,
    ended: bool,
}

/// The server, and who may call it next: one thread at a time, so that a seed decides everything.
pub(crate) struct World {
    inner: Mutex<Inner>,
    turns: Vec<Condvar>,
    traced: bool,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, broken: Broken, threads: usize) -> Arc<Self> {
        let turns = (0..threads).map(|_| Condvar::new()).collect();
        let threads = (0..threads).map(|_| Thread { wakes: Duration::ZERO, client: 0, ended: false }).collect();
        let names = [(String::new(), Node::Folder)].into();
        let rng = Rng::with_seed(seed);
        let inner = Inner { rng, faults: Some(faults), broken, threads, names, ..Inner::default() };
        Arc::new(Self { inner: Mutex::new(inner), turns, traced: std::env::var_os("SPOOL_TRACE").is_some() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A new client, used by one thread.
    pub(crate) fn client(self: &Arc<Self>, thread: usize) -> Client {
        let mut inner = self.lock();
        inner.clients += 1;
        let id = inner.clients;
        inner.threads[thread].client = id;
        Client { world: self.clone(), id, thread }
    }

    pub(crate) fn random<T>(&self, choose: impl FnOnce(&mut Rng) -> T) -> T {
        choose(&mut self.lock().rng)
    }

    pub(crate) fn now(&self) -> Duration {
        self.lock().now
    }

    pub(crate) fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// From now on this goes wrong, beside what a broken share always does.
    pub(crate) fn trouble(&self, faults: Faults) {
        self.lock().faults = Some(faults);
    }

    /// Waits for this thread's first turn.
    pub(crate) fn begin(&self, thread: usize) {
        drop(self.wait(self.lock(), thread));
    }

    pub(crate) fn sleep(&self, thread: usize, time: Duration) {
        let mut inner = self.lock();
        let wakes = inner.now + time.max(Duration::from_micros(1));
        inner.threads[thread].wakes = wakes;
        self.pass_on(inner, thread);
    }

    pub(crate) fn end(&self, thread: usize) {
        let mut inner = self.lock();
        inner.threads[thread].ended = true;
        inner.choose();
        self.turns[inner.turn].notify_one();
    }

    fn pass_on(&self, mut inner: MutexGuard<'_, Inner>, thread: usize) {
        inner.choose();
        self.turns[inner.turn].notify_one();
        drop(self.wait(inner, thread));
    }

    fn wait<'a>(&'a self, mut inner: MutexGuard<'a, Inner>, thread: usize) -> MutexGuard<'a, Inner> {
        while inner.turn != thread {
            inner = self.turns[thread].wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        inner
    }
}

impl Inner {
    /// Chooses whose turn it is; time passes until somebody is awake.
    fn choose(&mut self) {
        let awake = |now: Duration, threads: &[Thread]| -> Vec<usize> {
            (0..threads.len()).filter(|at| !threads[*at].ended && threads[*at].wakes <= now).collect()
        };
        let mut ready = awake(self.now, &self.threads);
        if ready.is_empty() {
            let Some(next) = self.threads.iter().filter(|thread| !thread.ended).map(|thread| thread.wakes).min() else {
                return;
            };
            self.now = next;
            ready = awake(self.now, &self.threads);
        }
        self.turn = ready[self.rng.usize(..ready.len())];
    }

    fn rolls(&mut self, thousandths: impl Fn(&Faults) -> u32) -> bool {
        let chance = self.faults.as_ref().map_or(0, thousandths);
        chance > 0 && self.rng.u32(..1000) < chance
    }

    fn kill(&mut self, client: usize) {
        self.dead.insert(client);
        if self.lock == Some(client) {
            self.lock = None;
        }
        let inodes: Vec<Inode> =
            self.unsynced.keys().filter(|(of, _)| *of == client).map(|(_, inode)| *inode).collect();
        let mut inodes = inodes;
        inodes.sort_unstable();
        for inode in inodes {
            // Of what was not synced anything may have reached the server: nothing, some writes, a part of one.
            for (offset, bytes) in self.unsynced.remove(&(client, inode)).unwrap_or_default() {
                let kept = if self.rng.bool() { 0 } else { self.rng.usize(..=bytes.len()) };
                self.put(inode, offset, &bytes[..kept]);
            }
        }
    }

    fn put(&mut self, inode: Inode, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let (data, start) = (&mut self.inodes[inode], usize::try_from(offset).unwrap());
        if data.len() < start + bytes.len() {
            data.resize(start + bytes.len(), 0);
        }
        data[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn flush(&mut self, client: usize, inode: Inode) {
        for (offset, bytes) in self.unsynced.remove(&(client, inode)).unwrap_or_default() {
            self.put(inode, offset, &bytes);
        }
    }

    fn parent_exists(&self, name: &str) -> bool {
        let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
        matches!(self.names.get(parent), Some(Node::Folder))
    }
}

/// One process's view of the share.
#[derive(Clone)]
pub(crate) struct Client {
    world: Arc<World>,
    id: usize,
    thread: usize,
}

impl Client {
    pub(crate) fn is_dead(&self) -> bool {
        self.world.lock().dead.contains(&self.id)
    }

    /// The process ends here and now, however much it had not synced.
    pub(crate) fn die(&self) {
        self.world.lock().kill(self.id);
    }

    /// A call to the server: perhaps others come first, perhaps it fails, perhaps after it was carried out.
    fn call<T>(&self, what: (&str, &str), work: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let result = self.call_untold(work);
        if self.world.traced {
            let outcome = result.as_ref().map(|_| ()).map_err(ToString::to_string);
            eprintln!("{:?} {} {} {} {outcome:?}", self.world.now(), self.id, what.0, what.1);
        }
        result
    }

    fn call_untold<T>(&self, work: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.world.lock();
        inner.calls += 1;
        assert!(inner.calls < 3_000_000, "the simulation does not come to an end");
        let step = inner.rng.u64(..2_000);
        inner.now += Duration::from_micros(step);
        if inner.rolls(|faults| faults.pause) {
            let pause = Duration::from_millis(inner.rng.u64(..20_000));
            let now = inner.now;
            inner.threads[self.thread].wakes = now + pause;
            inner.choose();
            self.world.turns[inner.turn].notify_one();
            inner = self.world.wait(inner, self.thread);
        } else if inner.rolls(|faults| faults.switch) {
            inner.choose();
            self.world.turns[inner.turn].notify_one();
            inner = self.world.wait(inner, self.thread);
        }
        if inner.rolls(|faults| faults.kill) {
            inner.kill(self.id);
        }
        if inner.rolls(|faults| faults.lose_lock) {
            inner.lock = None;
        }
        if inner.dead.contains(&self.id) {
            return Err(io::Error::other("this process was killed"));
        }
        if inner.rolls(|faults| faults.fail) {
            // Carried out, perhaps, but its answer got lost.
            let lost = inner.rng.bool().then(|| work(&mut inner));
            drop(inner);
            drop(lost);
            return Err(io::Error::from_raw_os_error(5));
        }
        work(&mut inner)
    }

    fn look_up(&self, inner: &mut Inner, name: &str) -> io::Result<Node> {
        let key = (self.id, name.to_owned());
        if inner.missing.contains(&key) && inner.rolls(|faults| faults.stale) {
            return Err(ErrorKind::NotFound.into());
        }
        let node = inner.names.get(name).cloned();
        if node.is_none() {
            inner.missing.insert(key);
        } else {
            inner.missing.remove(&key);
        }
        node.ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn handle(&self, inner: &Inner, name: &str, inode: Inode) -> Handle {
        Handle { client: self.clone(), inode, name: name.to_owned(), len: inner.inodes[inode].len() }
    }
}

/// An open file: how long it is, is known from when it was opened.
pub(crate) struct Handle {
    client: Client,
    inode: Inode,
    name: String,
    len: usize,
}

pub(crate) struct Lock(Client);

impl Drop for Lock {
    fn drop(&mut self) {
        let mut inner = self.0.world.lock();
        if inner.lock == Some(self.0.id) {
            inner.lock = None;
        }
    }
}

impl Share for Client {
    type File = Handle;
    type Lock = Lock;

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.call(("list", folder), |inner| {
            let key = (self.id, folder.to_owned());
            if let Some(old) = inner.listings.get(&key).cloned()
                && inner.rolls(|faults| faults.stale)
            {
                return Ok(old);
            }
            if !matches!(inner.names.get(folder), Some(Node::Folder)) {
                return Err(ErrorKind::NotFound.into());
            }
            let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            let names = inner.names.keys().filter_map(|name| name.strip_prefix(&prefix));
            let names: Vec<String> =
                names.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned).collect();
            inner.listings.insert(key, names.clone());
            Ok(names)
        })
    }

    fn create_new(&self, name: &str) -> io::Result<Handle> {
        self.call(("create_new", name), |inner| {
            if let Some(node) = inner.names.get(name).cloned() {
                return match node {
                    Node::File(inode) if inner.broken == Broken::SharedCreate => Ok(self.handle(inner, name, inode)),
                    _ => Err(ErrorKind::AlreadyExists.into()),
                };
            }
            if !inner.parent_exists(name) {
                return Err(ErrorKind::NotFound.into());
            }
            inner.inodes.push(Vec::new());
            let inode = inner.inodes.len() - 1;
            inner.names.insert(name.to_owned(), Node::File(inode));
            inner.missing.remove(&(self.id, name.to_owned()));
            Ok(self.handle(inner, name, inode))
        })
    }

    fn open(&self, name: &str) -> io::Result<Handle> {
        self.call(("open", name), |inner| match self.look_up(inner, name)? {
            Node::File(inode) => Ok(self.handle(inner, name, inode)),
            Node::Folder => Err(ErrorKind::IsADirectory.into()),
        })
    }

    fn open_or_create(&self, name: &str) -> io::Result<Handle> {
        match self.create_new(name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.call(("open_or_create", name), |inner| match inner.names.get(name) {
                    Some(Node::File(inode)) => Ok(self.handle(inner, name, *inode)),
                    _ => Err(ErrorKind::NotFound.into()),
                })
            }
            other => other,
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(("rename", &format!("{from} {to}")), |inner| {
            self.look_up(inner, from)?;
            let Some(node) = inner.names.remove(from) else { return Err(ErrorKind::NotFound.into()) };
            inner.names.insert(to.to_owned(), node);
            inner.missing.remove(&(self.id, to.to_owned()));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(("remove", name), |inner| match inner.names.get(name) {
            Some(Node::File(_)) => {
                inner.names.remove(name);
                Ok(())
            }
            Some(Node::Folder) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        })
    }

    fn make_dir(&self, name: &str) -> io::Result<()> {
        self.call(("make_dir", name), |inner| {
            if inner.broken == Broken::CachedFolders && name.starts_with("fence") {
                return Ok(());
            }
            if inner.names.contains_key(name) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            inner.names.insert(name.to_owned(), Node::Folder);
            inner.missing.remove(&(self.id, name.to_owned()));
            Ok(())
        })
    }

    fn remove_dir(&self, name: &str) -> io::Result<()> {
        self.call(("remove_dir", name), |inner| match inner.names.get(name) {
            _ if inner.broken == Broken::CachedFolders && name.starts_with("fence") => Ok(()),
            Some(Node::Folder) => {
                inner.names.remove(name);
                Ok(())
            }
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        })
    }

    fn is_dir(&self, name: &str) -> io::Result<bool> {
        self.call(("is_dir", name), |inner| self.look_up(inner, name).map(|node| matches!(node, Node::Folder)))
    }

    fn sync_dir(&self, folder: &str) -> io::Result<()> {
        self.call(("sync_dir", folder), |_| Ok(()))
    }

    fn try_lock(&self) -> io::Result<Option<Lock>> {
        self.call(("try_lock", ""), |inner| {
            Ok(if inner.lock.is_none() {
                inner.lock = Some(self.id);
                Some(Lock(self.clone()))
            } else {
                None
            })
        })
    }

    fn now(&self) -> Duration {
        self.world.lock().now
    }
}

impl File for Handle {
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let client = &self.client;
        client.call(("read_at", &self.name), |inner| {
            let named = inner.names.values().any(|node| matches!(node, Node::File(inode) if *inode == self.inode));
            if !named {
                // Removed by another machine: ESTALE.
                return Err(io::Error::from_raw_os_error(116));
            }
            let mut data = inner.inodes[self.inode].clone();
            data.truncate(self.len);
            for (offset, bytes) in inner.unsynced.get(&(client.id, self.inode)).into_iter().flatten() {
                let start = usize::try_from(*offset).unwrap();
                data.resize(data.len().max(start + bytes.len()), 0);
                data[start..start + bytes.len()].copy_from_slice(bytes);
            }
            let start = usize::try_from(offset).unwrap().min(data.len());
            let end = start.saturating_add(len).min(data.len());
            Ok(data[start..end].to_vec())
        })
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let client = self.client.clone();
        let inode = self.inode;
        client.call(("write_at", &self.name.clone()), |inner| {
            if inner.rolls(|faults| faults.fail) {
                let part = inner.rng.usize(..=bytes.len());
                inner.put(inode, offset, &bytes[..part]);
                return Err(io::Error::from_raw_os_error(28));
            }
            inner.unsynced.entry((client.id, inode)).or_default().push((offset, bytes.to_vec()));
            if inner.rng.u8(..4) == 0 {
                // The kernel writes back when it likes.
                inner.flush(client.id, inode);
            }
            Ok(())
        })?;
        self.len = self.len.max(usize::try_from(offset).unwrap() + bytes.len());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let client = self.client.clone();
        client.call(("sync", &self.name), |inner| {
            if inner.broken == Broken::LyingSync {
                return Ok(());
            }
            if inner.rolls(|faults| faults.fail) {
                // Nobody knows what became of it.
                let lost = inner.unsynced.remove(&(client.id, self.inode)).unwrap_or_default();
                for (offset, bytes) in lost {
                    let kept = inner.rng.usize(..=bytes.len());
                    inner.put(self.inode, offset, &bytes[..kept]);
                }
                return Err(io::Error::from_raw_os_error(5));
            }
            inner.flush(client.id, self.inode);
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len as u64)
    }
}
