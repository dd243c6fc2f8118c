//! The agent's socket: who may speak, what is asked, what is answered. It decides who is let in; every call is carried out
//! elsewhere.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dataplane::supervise::State;
use dbird_core::provider::ErrorKind;
use dbird_core::{Observed, Preview, ProviderError};
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::keeper::Keeper;
use super::line::{read_line, write_line};
use super::log;
use crate::config::Paths;
use crate::fault::{Adding, fault};
use crate::observe;
use crate::status::AgentStatus;
use crate::wire::{Answer, Build, Call, Hello, PROTOCOL, Request};

/// A poll waits no longer for news.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Calls at once; more wait in the socket's queue.
const CALLS_MAX: usize = 64;
/// For so long an agent is new.
const FIRST_ANSWERS_MS: u64 = 2000;
/// A caller that says nothing for so long is hung up on.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What concerns the whole process.
#[derive(Debug)]
pub(super) enum Order {
    /// Make room for a successor from this program.
    HandOver(std::path::PathBuf),
    /// End; nothing runs any more.
    Shutdown,
}

/// Binds the socket in the agent's folder, however long that folder's path is, over a stale one.
pub(super) fn bind(folder: &Path) -> io::Result<StdListener> {
    let directory = std::fs::File::open(folder)?;
    let path = crate::client::socket_path(&directory);
    match std::fs::remove_file(folder.join(Paths::SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(path)?;
    std::fs::set_permissions(folder.join(Paths::SOCKET), std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers calls until the process ends.
pub(super) async fn serve(keeper: Arc<Keeper>, listener: UnixListener, orders: mpsc::Sender<Order>) {
    let places = Arc::new(tokio::sync::Semaphore::new(CALLS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (keeper, orders) = (Arc::clone(&keeper), orders.clone());
                tokio::spawn(async move {
                    if let Err(error) = attend(&keeper, stream, &orders).await {
                        log(format_args!("a caller was lost: {error}"));
                    }
                    drop(place);
                });
            }
            Err(error) => {
                log(format_args!("can't accept calls: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn attend(keeper: &Arc<Keeper>, stream: UnixStream, orders: &mpsc::Sender<Order>) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream.as_fd())?;
    let own = rustix::process::geteuid();
    if peer.uid != own && !peer.uid.is_root() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("user {} is not its owner", peer.uid.as_raw()),
        ));
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "it said nothing");
    let Some(hello) = tokio::time::timeout(SILENCE_MAX, read_line::<Hello>(&mut reader)).await.map_err(silent)?? else {
        return Ok(());
    };
    write_line(&mut writer, &Hello { protocol: PROTOCOL, build: keeper.build.clone(), take_over: None }).await?;
    if let Some(program) = hello.take_over {
        if hello.build.is_newer_than(&keeper.build) {
            // Nobody to tell means that this process ends anyway.
            let _ = orders.send(Order::HandOver(program)).await;
        }
        return Ok(());
    }
    if hello.protocol != PROTOCOL {
        return Ok(());
    }
    while let Some(request) =
        tokio::time::timeout(SILENCE_MAX, read_line::<Request>(&mut reader)).await.map_err(silent)??
    {
        let answer = match answer(keeper, request, orders).await {
            Ok(answer) => answer,
            Err(error) => Answer::Failed { error: Box::new(error) },
        };
        write_line(&mut writer, &answer).await?;
    }
    Ok(())
}

async fn answer(keeper: &Arc<Keeper>, request: Request, orders: &mpsc::Sender<Order>) -> Result<Answer, ProviderError> {
    let gone = |_| fault(ErrorKind::Unavailable, "call the agent", "", "the agent is about to end").retry();
    Ok(match request.call {
        Call::Observe => Answer::Observed { observed: Box::new(observed(keeper).await) },
        Call::Preview { listen, test_listen } => {
            Answer::Preview { preview: preview(keeper, &listen, &test_listen).await }
        }
        Call::Apply { work, secrets } => {
            Answer::Handle { handle: keeper.apply(&request.target.service, *work, secrets).await? }
        }
        Call::Poll { handle, seen, wait_ms } => {
            let wait = Duration::from_millis(wait_ms).min(WAIT_MAX);
            let moves = |progress: &dbird_core::Progress| {
                use dbird_core::Phase::{Finishing, RollingBack, Shifting, Working};
                matches!(progress.phase, Working | Shifting | Finishing | RollingBack)
            };
            let mut progress = keeper.poll(&handle).await?;
            if moves(&progress) && keeper.version() == seen {
                keeper.changed_since(seen, wait).await;
                progress = keeper.poll(&handle).await?;
            }
            Answer::Progress { seen: keeper.version(), progress: Box::new(progress) }
        }
        Call::Steer { handle, steer } => {
            keeper.steer(&handle, &steer).await?;
            Answer::Done
        }
        Call::Sample { releases, length_ms } => {
            Answer::Samples { samples: keeper.sample(Duration::from_millis(length_ms), &releases) }
        }
        Call::Run { command } => Answer::Handle { handle: keeper.run(command).await? },
        Call::Status => Answer::Status { status: Box::new(status(keeper)) },
        Call::Shutdown => {
            if keeper.read(|state| !state.is_empty()) {
                let what = "releases still run here";
                return Err(fault(ErrorKind::Conflict, "stop the agent", "", what)
                    .hint("`dbird destroy` takes them away first"));
            }
            orders.send(Order::Shutdown).await.map_err(gone)?;
            Answer::Done
        }
    })
}

/// An agent that was started for this very call has not asked the tasks yet that it took over.
async fn first_answers(keeper: &Keeper) {
    if super::now_ms().saturating_sub(keeper.since_unix_ms) > FIRST_ANSWERS_MS {
        return;
    }
    let asked = |inner: &super::keeper::Inner| {
        let statuses = inner.live.values().flat_map(super::live::Live::statuses).collect::<Vec<_>>();
        (!statuses.iter().any(|status| status.state == State::Starting)).then_some(())
    };
    // What has not answered by then is told as it is.
    let _ = keeper.within(Duration::from_millis(FIRST_ANSWERS_MS / 4), asked).await;
}

async fn observed(keeper: &Arc<Keeper>) -> Observed {
    first_answers(keeper).await;
    let current = keeper.read(|state| state.current().or_else(|| state.releases.keys().next_back().copied()));
    let endpoints = keeper.endpoints(current).await;
    let inner = keeper.lock();
    let mut observed = observe::written(&inner.state, &keeper.paths);
    observed.endpoints = endpoints;
    observed.notes.extend(inner.notes.iter().cloned());
    observed.releases = observe::releases(
        &inner.state,
        |release| inner.live.get(&release).map(|live| live.statuses()).unwrap_or_default(),
        &keeper.paths,
    );
    observed
}

async fn preview(keeper: &Keeper, listen: &str, test_listen: &str) -> Preview {
    let doors = keeper.doors.lock().await;
    let held = |text: &str| {
        [super::doors::Side::Front, super::doors::Side::Test]
            .into_iter()
            .any(|side| doors.address(side, text).is_some())
    };
    let obstacles = observe::obstacles(&[("listen", listen), ("test_listen", test_listen)], held);
    Preview { obstacles, ..Preview::default() }
}

fn status(keeper: &Keeper) -> AgentStatus {
    let inner = keeper.lock();
    let tasks = inner.live.values().map(|live| live.slots().count()).sum::<usize>() + inner.runs.len();
    let Build { version: (major, minor, patch), .. } = keeper.build;
    AgentStatus {
        pid: std::process::id(),
        watchdog_pid: inner.watchdog_pid,
        version: format!("{major}.{minor}.{patch}"),
        since_unix_ms: keeper.since_unix_ms,
        tasks: u32::try_from(tasks).unwrap_or(u32::MAX),
        folder: keeper.paths.folder.clone(),
        log: keeper.paths.log(),
        notes: inner.notes.clone(),
        memory_kib: resident_kib().unwrap_or(0),
    }
}

fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// The control socket, as the watchdog keeps it.
pub(super) const SOCKET_NAME: &str = "control";

/// A socket from the watchdog is used again only while its file is still there.
pub(super) fn inherited(folder: &Path, socket: OwnedFd) -> Option<StdListener> {
    folder.join(Paths::SOCKET).exists().then(|| StdListener::from(socket))
}
