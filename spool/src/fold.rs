//! The way back to a release that knows no epochs: the database of an epoch that was handed over is copied to where that release
//! looks for it. It decides nothing about scores that are not in that database; who calls it made sure that there are none.

use std::io::{self, ErrorKind};

use crate::claim::{self, FOLDED, last_epoch};
use crate::share::{File, Share};
use crate::takeover::{copy_file, database, same};

/// Why nothing was moved back.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// Another process was faster.
    #[error("another process claimed epoch {0} meanwhile")]
    Overtaken(u64),
    /// The database is still somebody's.
    #[error("epoch {0} was not handed over")]
    NotClean(u64),
    /// There is another database at that place.
    #[error("{0} is there and has something in it")]
    Taken(String),
    /// The share failed.
    #[error("{step} {name}")]
    Share {
        /// What was being done.
        step: &'static str,
        /// To which file.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn at<'a>(step: &'static str, name: &'a str) -> impl Fn(io::Error) -> FoldError + 'a {
    move |source| FoldError::Share { step, name: name.to_owned(), source }
}

/// Copies the database of `epoch`, the last one, to `original`, and then says on the share that it is there. After this a
/// new epoch takes over what is at `original`. `nonce` makes the temporary name.
///
/// # Errors
/// [`FoldError`]; called again it begins anew, and [`is_own_copy`] says whether `original` is what it left.
pub fn fold<S: Share>(share: &S, epoch: u64, original: &str, nonce: &str) -> Result<(), FoldError> {
    last(share, epoch)?;
    if !claim::is_clean(share, epoch) {
        return Err(FoldError::NotClean(epoch));
    }
    if share.open(original).and_then(|file| file.size()).is_ok_and(|size| size > 0) {
        return Err(FoldError::Taken(original.to_owned()));
    }
    let source = database(epoch);
    let temporary = format!("{original}.{nonce}.tmp");
    let copied = copy_file(share, &source, &temporary).and_then(|there| {
        if !there {
            return Err(ErrorKind::NotFound.into());
        }
        share.rename(&temporary, original)?;
        share.sync_dir("")
    });
    if let Err(error) = copied {
        drop(share.remove(&temporary));
        return Err(at("copy", &source)(error));
    }
    last(share, epoch)?;
    let mark = format!("{FOLDED}.{epoch}");
    match share.create_new(&mark) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(at("make", &mark)(error)),
    }
    share.sync_dir("").map_err(at("make durable", &mark))?;
    last(share, epoch)
}

fn last<S: Share>(share: &S, epoch: u64) -> Result<(), FoldError> {
    let names = share.list("").map_err(at("list the share for", "epochs"))?;
    match last_epoch(&names) {
        last if last > epoch => Err(FoldError::Overtaken(last)),
        _ => Ok(()),
    }
}

/// Whether `original` is, byte for byte, the database of an epoch that was handed over: left by a fold that was broken off.
///
/// # Errors
/// Whatever the system says.
pub fn is_own_copy<S: Share>(share: &S, epoch: u64, original: &str) -> io::Result<bool> {
    if !claim::is_clean(share, epoch) {
        return Ok(false);
    }
    match share.open(&database(epoch)) {
        Ok(file) => same(&file, &share.open(original)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
