//! A model of the spool's protocol, searched whole within bounds: the right design keeps every acknowledged record, and each
//! design that is known to fail does fail. It decides whether the protocol is right; it uses none of the crate's code, and
//! says nothing about whether that follows the protocol.
//!
//! What may happen: any process takes its next step at any time or never, so that a pause, a crash and an operation that
//! arrives late are all there. There is no lock and no clock: a candidate claims whenever it likes, which is all that a lock
//! that may be lost at any moment allows. A look-up may be answered from a cache: nothing is there. A name is made, renamed
//! or removed at once and durably; a commit is durable at once, unless it is said to fail; a checkpoint writes two pages,
//! one after the other, and a copy reads the log, then the pages, then the log again. A record is acknowledged in the moment
//! in which it is durable, and may be ingested before. The accepter and the candidates are processes of their own, which
//! contains every run in which some of them are one.
//!
//! Bounds: see [`Bounds`]; those of the tests take some seconds. `SPOOL_MODEL=big cargo test --release -p spool --test model`
//! takes minutes, and gigabytes of memory.

mod design;
mod process;
mod property;
mod search;
mod share;
mod takeover;

use std::collections::BTreeSet;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use design::Design;
use search::{Bounds, Protocol};

/// For each search of the right design.
const BOUNDS: [Bounds; 5] = [
    // Two records, in one segment or two.
    Bounds { epochs: 2, processes: 2, records: 2, crashes: 0, troubles: 0 },
    // The accepter loses what was not synced, and it comes again.
    Bounds { epochs: 2, processes: 2, records: 1, crashes: 1, troubles: 1 },
    // A hand-over of a hand-over.
    Bounds { epochs: 3, processes: 3, records: 1, crashes: 0, troubles: 0 },
    // Take-overs alone, with errors.
    Bounds { epochs: 3, processes: 3, records: 0, crashes: 0, troubles: 1 },
    // Take-overs alone, many at once.
    Bounds { epochs: 4, processes: 4, records: 0, crashes: 0, troubles: 0 },
];

const BIG: [Bounds; 4] = [
    Bounds { epochs: 2, processes: 2, records: 2, crashes: 1, troubles: 1 },
    Bounds { epochs: 3, processes: 3, records: 2, crashes: 0, troubles: 0 },
    Bounds { epochs: 3, processes: 3, records: 1, crashes: 1, troubles: 1 },
    Bounds { epochs: 4, processes: 4, records: 1, crashes: 0, troubles: 0 },
];

#[test]
#[expect(clippy::print_stderr, reason = "how far a search went is for whoever asks, with --nocapture")]
fn the_right_design_keeps_every_record() {
    let is_big = std::env::var("SPOOL_MODEL").is_ok_and(|size| size == "big");
    let all_bounds: &[Bounds] = if is_big { &BIG } else { &BOUNDS };
    let mut seen = BTreeSet::new();
    for bounds in all_bounds {
        let begun = std::time::Instant::now();
        let checker = Protocol { design: Design::Right, bounds: *bounds }.checker().spawn_bfs().join();
        assert!(checker.is_done());
        let (states, depth) = (checker.unique_state_count(), checker.max_depth());
        eprintln!("{bounds:?}: {states} states, {depth} steps, {:?}", begun.elapsed());
        for property in checker.model().properties() {
            let found = checker.discovery(property.name).map(stateright::Path::into_actions);
            match (property.expectation, found) {
                (Expectation::Sometimes, Some(_)) => drop(seen.insert(property.name)),
                (Expectation::Sometimes, None) | (_, None) => {}
                (_, Some(steps)) => panic!("{}, within {bounds:?}: not so after {steps:#?}", property.name),
            }
        }
    }
    for property in property::all().iter().filter(|property| property.expectation == Expectation::Sometimes) {
        assert!(seen.contains(property.name), "{}: never, so the search proves little", property.name);
    }
}

/// Searches a design that is wrong until that property is broken.
fn fails(design: Design, property: &'static str, bounds: Bounds) {
    let wanted = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = Protocol { design, bounds }.checker().finish_when(wanted).spawn_bfs().join();
    let states = checker.unique_state_count();
    assert!(checker.discovery(property).is_some(), "{design:?}: {property}, always, in {states} states");
}

/// A test for each wrong design: its name, what it breaks, and the bounds within which it does.
macro_rules! failing {
    ($($name:ident: $design:ident, $property:ident, $epochs:literal $records:literal $crashes:literal $troubles:literal;)*) => {
        $(#[test]
        fn $name() {
            let bounds = Bounds {
                epochs: $epochs,
                processes: $epochs,
                records: $records,
                crashes: $crashes,
                troubles: $troubles,
            };
            fails(Design::$design, property::$property, bounds);
        })*
    };
}

failing! {
    lease_checked_before_the_write: LeaseBeforeWrite, ONE_WRITER, 2 1 0 0;
    epoch_checked_after_the_write: EpochAfterWrite, ONE_WRITER, 2 1 0 0;
    check_before_the_commit: CheckBeforeWrite, KEPT, 2 1 0 0;
    cached_check: CachedCheck, KEPT, 2 1 0 0;
    check_by_looking: LookedUpCheck, KEPT, 2 1 0 0;
    deletion_before_the_check: DeleteBeforeCheck, KEPT, 2 1 0 0;
    deletion_of_an_unsealed_segment: UnsealedDeleted, KEPT, 1 2 0 0;
    rename_of_what_was_not_left_clean: UncleanRename, ONE_WRITER, 2 1 0 0;
    rename_of_what_was_not_seen: UnseenRename, ONE_WRITER, 2 1 0 0;
    copy_with_the_header_of_the_log_compared: HeaderCompared, WHOLE, 2 2 0 0;
    base_from_an_old_listing: StaleListing, IN_ORDER, 2 1 0 0;
    records_lost_by_an_old_listing: StaleListing, KEPT, 2 1 0 0;
    copy_before_the_fence: CopiedBeforeFence, KEPT, 2 1 0 0;
    begun_before_the_database_is_published: BegunTooEarly, KEPT, 2 1 0 0;
    database_written_before_it_is_begun: WrittenBeforeBegun, ONE_WRITER, 3 1 0 0;
    clean_before_the_database_is_closed: CleanBeforeClosed, ONE_WRITER, 2 1 0 0;
    log_found_missing_by_looking: LogLookedUp, KEPT, 2 1 0 0;
    log_emptied_before_the_check: LogEmptiedBeforeCheck, WHOLE, 2 1 0 0;
    same_epoch_after_a_failed_sync: ReopenedAfterFailure, KEPT, 1 1 0 1;
    original_renamed_by_many: OriginalRenamed, KEPT, 3 0 0 0;
    original_renamed_twice_after_an_error: OriginalRenamed, KEPT, 1 0 0 1;
    original_renamed_and_the_first_name_asked_first: OriginalRenamedUpwards, KEPT, 2 0 0 0;
}
