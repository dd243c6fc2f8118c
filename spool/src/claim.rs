//! Epochs: who may write. It decides, by operations that only one of several processes can succeed in, which epoch is the last,
//! whose database the next one builds upon, and whether an epoch is still its holder's; it never opens a database.
//!
//! Two names of an epoch N stand for a choice that two processes race for, because making a folder and making a file
//! exclude each other on the server:
//!
//! - `begun.N` is a folder if its holder published a database and began to use it, and a file if a successor was first: then
//!   N never begins.
//! - `fence.N` is a folder only for the moment in which the holder checks its epoch, and a file, for ever, once a successor
//!   fenced it. A folder that a paused or dead holder left is removed by the successor, which makes that check fail.

use std::io::{self, ErrorKind};

use serde::Serialize;

use crate::numbered;
use crate::record::FORMAT;
use crate::share::{File, Share};

pub(crate) const EPOCH: &str = "epoch";
const FENCE: &str = "fence";
const BEGUN: &str = "begun";
const CLEAN: &str = "clean";
/// A downgrade moved this epoch's database back to where it was before any epoch.
pub(crate) const FOLDED: &str = "folded";
/// Tries to fence an epoch whose holder checks it all the time.
const FENCE_TRIES_MAX: u32 = 10_000;
/// What an epoch's file says.
#[derive(Debug, Serialize)]
struct Charter {
    /// Of the process that claimed it.
    nonce: String,
    /// In which accepters write.
    format: u16,
    /// Version of the protocol.
    protocol: u32,
}

/// Version of the protocol, as a release declares it.
pub const PROTOCOL: u32 = 1;

/// An epoch that this process claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) number: u64,
    pub(crate) nonce: String,
}

/// What a new epoch builds upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base {
    /// The last epoch that began; 0 if none did.
    pub(crate) epoch: u64,
    /// Epochs after it that never began, the last first: one of them may have renamed the base's database before.
    pub(crate) barred: Vec<u64>,
}

/// The highest epoch of a listing.
pub(crate) fn last_epoch(names: &[String]) -> u64 {
    names.iter().filter_map(|name| numbered(name, EPOCH)).max().unwrap_or_default()
}

/// Claims the next epoch after `last`; `None` if others claimed so many after it.
pub(crate) fn claim<S: Share>(share: &S, last: u64, nonce: &str, tries: u64) -> io::Result<Option<Epoch>> {
    let charter = Charter { nonce: nonce.to_owned(), format: FORMAT, protocol: PROTOCOL };
    let bytes = serde_json::to_vec(&charter)?;
    for number in last + 1..=last.saturating_add(tries) {
        match share.create_new(&format!("{EPOCH}.{number}")) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => {
                let mut file = made?;
                file.write_at(0, &bytes)?;
                file.sync()?;
                share.sync_dir("")?;
                return Ok(Some(Epoch { number, nonce: nonce.to_owned() }));
            }
        }
    }
    Ok(None)
}

/// Fences all earlier epochs that may still be at work; says what to build upon.
pub(crate) fn settle<S: Share>(share: &S, epoch: &Epoch) -> io::Result<Base> {
    let mut base = Base::default();
    for number in (1..epoch.number).rev() {
        fence(share, number)?;
        if !bar(share, number)? {
            base.epoch = number;
            break;
        }
        base.barred.push(number);
    }
    share.sync_dir("")?;
    Ok(base)
}

fn fence<S: Share>(share: &S, number: u64) -> io::Result<()> {
    let name = format!("{FENCE}.{number}");
    for _ in 0..FENCE_TRIES_MAX {
        match share.create_new(&name) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        match share.remove_dir(&name) {
            Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Err(io::Error::other(format!("epoch {number} is checked so often that it can't be fenced")))
}

/// Whether the epoch will never begin.
fn bar<S: Share>(share: &S, number: u64) -> io::Result<bool> {
    let name = format!("{BEGUN}.{number}");
    match share.create_new(&name) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(!share.is_dir(&name)?),
        Err(error) => Err(error),
    }
}

/// Says that the epoch's database is published; `false` if a successor was first.
pub(crate) fn begin<S: Share>(share: &S, epoch: &Epoch) -> io::Result<bool> {
    match share.make_dir(&format!("{BEGUN}.{}", epoch.number)) {
        Ok(()) => share.sync_dir("").map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the epoch is still the last: if so, nobody has begun to build upon it before this call. An error leaves it open.
pub(crate) fn check<S: Share>(share: &S, epoch: &Epoch) -> io::Result<bool> {
    let name = format!("{FENCE}.{}", epoch.number);
    match share.make_dir(&name) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // Perhaps the folder of an own check that broke off.
            return match share.remove_dir(&name) {
                Ok(()) => check_again(share, &name),
                Err(error) if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) => Ok(false),
                Err(error) => Err(error),
            };
        }
        Err(error) => return Err(error),
    }
    removed(share, &name)
}

fn check_again<S: Share>(share: &S, name: &str) -> io::Result<bool> {
    match share.make_dir(name) {
        Ok(()) => removed(share, name),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn removed<S: Share>(share: &S, name: &str) -> io::Result<bool> {
    match share.remove_dir(name) {
        Ok(()) => Ok(true),
        // A successor removed the folder, and perhaps put its file there.
        Err(error) if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The last act of an epoch's holder: its database is one durable file, and it touches nothing any more.
pub(crate) fn leave_clean<S: Share>(share: &S, epoch: &Epoch) -> io::Result<()> {
    share.create_new(&format!("{CLEAN}.{}", epoch.number))?;
    share.sync_dir("")
}

/// Whether the holder of an epoch began to use its database, or never will; `None` if neither is known.
pub(crate) fn has_begun<S: Share>(share: &S, number: u64) -> Option<bool> {
    share.is_dir(&format!("{BEGUN}.{number}")).ok()
}

/// Whether the holder of an epoch began to use its database. `false` is no proof of the contrary.
fn is_begun<S: Share>(share: &S, number: u64) -> bool {
    has_begun(share, number) == Some(true)
}

/// The last epoch of a listing that began; 0 if none did.
pub(crate) fn last_begun<S: Share>(share: &S, names: &[String]) -> u64 {
    let epochs = names.iter().filter_map(|name| numbered(name, BEGUN));
    epochs.filter(|number| is_begun(share, *number)).max().unwrap_or_default()
}

/// Gives up an epoch that has not begun, so that nobody waits for it.
pub(crate) fn give_up<S: Share>(share: &S, epoch: &Epoch) -> io::Result<()> {
    bar(share, epoch.number).map(|_| ())
}

/// Whether the holder of an epoch left it clean. `false` is no proof of the contrary.
pub(crate) fn is_clean<S: Share>(share: &S, number: u64) -> bool {
    share.open(&format!("{CLEAN}.{number}")).is_ok()
}
