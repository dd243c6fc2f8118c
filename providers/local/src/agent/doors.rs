//! The listening addresses: front doors and test doors. It decides which are open from the releases that name them, and
//! that an old one is closed only when the new one is open; what comes in is the route's.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use dataplane::port;
use dataplane::proxy::{Door, Limits, Route};
use dbird_core::ProviderError;
use dbird_core::provider::ErrorKind;

use super::channel::{Channel, Word, carried};
use super::log;
use crate::document;
use crate::fault::{Adding, fault};

/// A door that is closed lets its requests end for this long.
const CLOSING: Duration = Duration::from_secs(30);
/// After a successor took over, requests and streams of this process may go on so long.
const LEAVING: Duration = Duration::from_secs(600);
/// Client connections of one door.
const CONNECTIONS_MAX: usize = 4096;

/// Which of the two doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Front,
    Test,
}

impl Side {
    fn setting(self) -> &'static str {
        match self {
            Side::Front => "listen",
            Side::Test => "test_listen",
        }
    }
}

/// All doors, by what the documents call them.
pub(super) struct Doors {
    open: BTreeMap<(Side, String), Door>,
    /// Sockets from an earlier agent, not in use yet.
    inherited: BTreeMap<String, OwnedFd>,
    watchdog: Option<Channel>,
}

impl Doors {
    pub(super) fn new(inherited: BTreeMap<String, OwnedFd>, watchdog: Option<Channel>) -> Self {
        Doors { open: BTreeMap::new(), inherited, watchdog }
    }

    /// Opens a door, unless it is open.
    pub(super) fn open(
        &mut self,
        side: Side,
        text: &str,
        route: &Arc<Route>,
        operation: &str,
    ) -> Result<(), ProviderError> {
        let key = (side, text.to_owned());
        if self.open.contains_key(&key) {
            return Ok(());
        }
        let listener = match self.inherited.remove(&name(side, text)) {
            Some(socket) => TcpListener::from(socket),
            None => bind(side, text, operation)?,
        };
        let limits = Limits {
            connections_max: CONNECTIONS_MAX,
            workers: if side == Side::Test { 1 } else { 0 },
            ..Limits::default()
        };
        let failed = |error: io::Error| {
            fault(ErrorKind::Internal, operation, text, format!("can't serve {text}")).because(&error)
        };
        // Kept first: a crash right after finds it.
        self.keep(&name(side, text), &listener);
        let door = Door::start(listener, Arc::clone(route), limits).map_err(failed)?;
        log(format_args!("{side:?} door open on {}", door.local_addr()));
        self.open.insert(key, door);
        Ok(())
    }

    /// Closes every door that is not wanted. Returns at once; requests end by themselves.
    pub(super) fn close_others(&mut self, wanted: &[(Side, String)]) {
        let surplus: Vec<_> = self.open.keys().filter(|key| !wanted.contains(key)).cloned().collect();
        for key in surplus {
            if let Some(door) = self.open.remove(&key) {
                log(format_args!("{:?} door on {} closes", key.0, door.local_addr()));
                self.say(&Word::Close(name(key.0, &key.1)));
                tokio::spawn(async move { door.stop(CLOSING).await });
            }
        }
        let unused: Vec<_> = self
            .inherited
            .keys()
            .filter(|known| !wanted.iter().any(|(side, text)| **known == name(*side, text)))
            .cloned()
            .collect();
        for known in unused {
            self.inherited.remove(&known);
            self.say(&Word::Close(known));
        }
    }

    /// Stops accepting everywhere and lets requests end; the sockets stay open with the watchdog.
    pub(super) async fn leave(&mut self) {
        let doors = std::mem::take(&mut self.open);
        let closing = doors.into_values().map(|door| tokio::spawn(async move { door.stop(LEAVING).await }));
        for door in closing.collect::<Vec<_>>() {
            // It ends by its deadline; a panic in there is over as well.
            let _ = door.await;
        }
    }

    /// Where a door really listens.
    pub(super) fn address(&self, side: Side, text: &str) -> Option<SocketAddr> {
        self.open.get(&(side, text.to_owned())).map(Door::local_addr)
    }

    /// Tells a new watchdog of all sockets.
    pub(super) fn acquaint(&mut self, watchdog: Channel) {
        self.watchdog = Some(watchdog);
        for ((side, text), door) in &self.open {
            self.keep(&name(*side, text), door.listener());
        }
    }

    pub(super) fn say(&self, word: &Word) {
        if let Some(watchdog) = &self.watchdog {
            // A watchdog that has gone is noticed by whoever listens to it.
            let _ = watchdog.say(word, None);
        }
    }

    /// Has a socket kept open beyond this process.
    pub(super) fn keep(&self, name: &str, listener: &TcpListener) {
        if let (Some(watchdog), Ok(socket)) = (&self.watchdog, carried(listener)) {
            let _ = watchdog.say(&Word::Socket(name.to_owned()), Some(&socket));
        }
    }
}

fn name(side: Side, text: &str) -> String {
    format!("{side:?} {text}")
}

fn bind(side: Side, text: &str, operation: &str) -> Result<TcpListener, ProviderError> {
    let address =
        document::address(side.setting(), text).map_err(|why| fault(ErrorKind::Invalid, operation, text, why))?;
    port::listen(address).map_err(|error| obstacle(side.setting(), address, operation, &error))
}

/// Why an address can't be had.
pub(crate) fn obstacle(setting: &str, address: SocketAddr, operation: &str, error: &io::Error) -> ProviderError {
    let remedy = format!("`--set cloud.local.{setting}=127.0.0.1:<another port>`");
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = port::holder(address);
            let by = holder.as_deref().map(|who| format!(" by {who}")).unwrap_or_default();
            let stop =
                if holder.is_some() { "stop that process" } else { "stop what uses it (`ss -ltnp` names it to root)" };
            fault(ErrorKind::Conflict, operation, address.to_string(), format!("port {} is in use{by}", address.port()))
                .hint(format!("{stop}, or choose another port: {remedy}"))
        }
        io::ErrorKind::PermissionDenied => {
            fault(ErrorKind::Denied, operation, address.to_string(), format!("this user may not listen on {address}"))
                .because(error)
                .hint(format!("choose a port from 1024 on: {remedy}"))
        }
        io::ErrorKind::AddrNotAvailable => fault(
            ErrorKind::Invalid,
            operation,
            address.to_string(),
            format!("{} is no address of this machine", address.ip()),
        )
        .because(error)
        .hint(format!("choose one that it has: {remedy}")),
        _ => fault(ErrorKind::Internal, operation, address.to_string(), format!("can't listen on {address}"))
            .because(error)
            .hint(format!("choose another one: {remedy}")),
    }
}

/// The URL under which an address is reached from this machine.
pub(super) fn url(address: SocketAddr) -> String {
    let reachable = if address.ip().is_unspecified() {
        let ip =
            if address.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        SocketAddr::new(ip, address.port())
    } else {
        address
    };
    format!("http://{reachable}")
}
