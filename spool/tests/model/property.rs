//! What must hold in every state, and what must happen in some, so that the search is known to have been there. It decides
//! whether a design is safe; what must hold never depends on what processes remember.

use stateright::Property;

use crate::search::{Protocol, State};
use crate::share::{Database, Mark};

/// In a segment, or durably in the database that a successor would build upon.
pub(crate) const KEPT: &str = "every acknowledged record is kept";
pub(crate) const WHOLE: &str = "no record is in the database in part";
/// Nobody writes to a database after a later epoch gave it its name. Writing to one that nobody builds upon any more is fine.
pub(crate) const ONE_WRITER: &str = "a database has one writer";
pub(crate) const IN_ORDER: &str = "an epoch builds upon the last that began";

/// All properties.
pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(KEPT, |model: &Protocol, state: &State| state.share.is_kept(model.design)),
        Property::always(WHOLE, |model: &Protocol, state: &State| {
            !state.share.current(model.design).is_some_and(Database::is_torn)
        }),
        Property::always(ONE_WRITER, |_, state: &State| {
            !state.share.databases.iter().any(|database| database.intruded)
        }),
        Property::always(IN_ORDER, |_, state: &State| {
            let last = |epoch| began(state).map(|(other, _)| other).filter(|other| *other < epoch).max();
            began(state).all(|(epoch, base)| base == last(epoch).unwrap_or_default())
        }),
        Property::sometimes("a segment is deleted", |_, state: &State| {
            state.share.segments.iter().any(|segment| segment.deleted)
        }),
        Property::sometimes("a hand-over is clean", |_, state: &State| {
            began(state).any(|(epoch, base)| base > 0 && state.share.names[usize::from(epoch)] < epoch)
        }),
        Property::sometimes("a take-over is not clean", |_, state: &State| {
            began(state).any(|(epoch, base)| base > 0 && state.share.names[usize::from(epoch)] == epoch)
        }),
        Property::sometimes("an epoch never begins", |_, state: &State| state.share.begun.contains(&Mark::File)),
        Property::sometimes("an epoch is fenced while its holder checks it", |_, state: &State| {
            state.processes.iter().any(|process| process.fails_its_check(&state.share))
        }),
        Property::sometimes("a copy is made again", |_, state: &State| {
            state.processes.iter().any(|process| process.has_a_spoilt_copy(&state.share))
        }),
        Property::sometimes("an acknowledged record is only in the database", |_, state: &State| {
            state.share.segments.iter().any(|segment| segment.deleted && segment.synced != 0)
        }),
    ]
}

/// The epochs that began, and what each was built upon.
fn began(state: &State) -> impl Iterator<Item = (u8, u8)> {
    let share = state.share;
    (1..=share.claimed)
        .filter(move |epoch| share.begun[usize::from(*epoch)] == Mark::Folder)
        .map(move |epoch| (epoch, share.built_on[usize::from(epoch)]))
}
