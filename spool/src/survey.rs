//! What is on a share, for people who work on it by hand: the epochs, and how much of each segment is in the database. It
//! decides nothing, and what it says may be old by the time it is read.

use std::collections::BTreeMap;
use std::io;

use crate::append::SPOOL;
use crate::claim::{FOLDED, is_clean, last_begun, last_epoch};
use crate::numbered;
use crate::share::{File, Share};
use crate::takeover::database;
use crate::top::{self, Top};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The last epoch that somebody claimed; 0 if nobody did.
    pub claimed: u64,
    /// The last epoch whose database came to be used; 0 if none did.
    pub begun: u64,
    /// Whether its holder handed it over.
    pub clean: bool,
    /// Whether its database was moved back to where a release that knows no epochs looks for it.
    pub folded: bool,
    /// The epoch whose list is the newest, which says what is covered; 0 if there is none.
    pub listed: u64,
    /// All segments.
    pub segments: Vec<Segment>,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its name on the share.
    pub name: String,
    /// Its bytes.
    pub len: u64,
    /// How many of them are in the database; `None` if the ingester did not see it yet.
    pub covered: Option<u64>,
}

impl Segment {
    /// Whether all of it is in the database.
    #[must_use]
    pub fn is_covered(&self) -> bool {
        self.covered == Some(self.len)
    }
}

impl Survey {
    /// Looks at a share.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn of<S: Share>(share: &S) -> io::Result<Self> {
        let names = share.list("")?;
        let claimed = last_epoch(&names);
        let begun = last_begun(share, &names);
        // Before the segments: what is deleted meanwhile is missing there, and nothing is taken for covered that is not.
        let top = Top::newest(share, &names).unwrap_or_default();
        Ok(Self {
            claimed,
            begun,
            clean: begun > 0 && is_clean(share, begun),
            folded: begun > 0 && names.contains(&format!("{FOLDED}.{begun}")),
            listed: top.epoch,
            segments: segments(share, &top.covered)?,
        })
    }

    /// Name of the database that the next epoch builds upon.
    #[must_use]
    pub fn database(&self) -> Option<String> {
        (self.begun > 0).then(|| database(self.begun))
    }

    /// What an old name on the share is, if it is nothing that anybody needs: the list of an earlier epoch, a copy that was
    /// not finished, a check of the mount that was broken off.
    #[must_use]
    pub fn leftover(&self, name: &str) -> Option<&'static str> {
        if name.starts_with(crate::mount::SCRATCH_PREFIX) {
            Some("a broken-off check of the mount")
        } else if crate::backup::is_of_request(name) {
            Some("of a backup that nobody waits for")
        } else if name.starts_with("restore.") && ends_with_nonce(name, &[".db"]) {
            Some("of a restore that was broken off")
        } else if ends_with_nonce(name, &[".tmp", ".tmp-wal", ".tmp-journal"]) {
            Some("a file that was not finished")
        } else if numbered(name, top::PREFIX).is_some_and(|epoch| epoch < self.listed) {
            Some("the list of an earlier epoch")
        } else {
            None
        }
    }
}

/// Whether a name ends with a dot, 16 hexadecimal digits and one of these: other people's files do not.
fn ends_with_nonce(name: &str, ends: &[&str]) -> bool {
    let stem = ends.iter().find_map(|end| name.strip_suffix(end)).and_then(|stem| stem.rsplit_once('.'));
    stem.is_some_and(|(_, nonce)| nonce.len() == 16 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn segments<S: Share>(share: &S, covered: &BTreeMap<String, u64>) -> io::Result<Vec<Segment>> {
    let mut names = match share.list(SPOOL) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    names.sort_unstable();
    let mut segments = Vec::with_capacity(names.len());
    for short in names.into_iter().filter(|name| crate::tail::is_segment(name)) {
        let name = format!("{SPOOL}/{short}");
        match share.open(&name).and_then(|file| file.size()) {
            Ok(len) => segments.push(Segment { covered: covered.get(&short).copied(), name, len }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(segments)
}
