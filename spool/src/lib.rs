//! SQLite on a shared folder, one writer at a time, while any number of processes accept: each appends what it accepts to
//! segments of its own and answers once that is durable; one of them, the ingester, moves the records into the database.
//!
//! [`Appender`] is the accepting side, [`Keeper`] the other; both work over a [`Share`], which is a real [`Folder`] or, in
//! tests, a simulated one. What is promised, and why it holds, is written in docs/durability.md.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

mod append;
pub mod backup;
mod claim;
mod fold;
mod folder;
mod keeper;
mod leaders;
mod ledger;
pub mod mount;
mod record;
mod share;
mod survey;
mod tail;
mod takeover;
mod top;

pub use append::{AppendError, Appender, SEGMENT_BYTES_MAX, SEGMENT_IDLE_MAX};
pub use claim::PROTOCOL;
pub use fold::{FoldError, fold, is_own_copy};
pub use folder::{Folder, Lock};
pub use keeper::{Config, Keeper, ListState, Locking, Observer, Role, Shared, Status};
pub use leaders::{LEADERS_LEN, Leader};
pub use ledger::{Ingested, Ledger, LedgerError, Ledgers};
pub use record::{FORMAT, Record};
pub use share::{File, Share};
pub use survey::{Segment, Survey};
pub use takeover::Replacement;

/// The epoch whose database has the scores of a real folder; `None` if no epoch ever began there or a downgrade moved them
/// back to the original's place.
#[must_use]
pub fn in_use(folder: &std::path::Path) -> Option<u64> {
    let folder = Folder::new(folder);
    let names = folder.list("").ok()?;
    let last = claim::last_begun(&folder, &names);
    (last > 0 && !names.contains(&format!("{}.{last}", claim::FOLDED))).then_some(last)
}

/// The number of a name like `epoch.12`, spelled as this crate spells it.
fn numbered(name: &str, prefix: &str) -> Option<u64> {
    let number = name.strip_prefix(prefix)?.strip_prefix('.')?;
    let canonical = !number.is_empty() && !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    canonical.then(|| number.parse().ok())?
}
