//! Down to a release without a spool and up again, also when it is broken off.

use std::fs;
use std::time::Duration;

use crate::bench::{Bench, post, runs};
use crate::common::{stored_runs, until};

#[test]
fn down_and_up_again_keeps_every_score_once() {
    let bench = Bench::new();
    bench.with_scores("direct", &["old"]);
    bench.with_scores("spool", &["a"]);
    let server = bench.server("spool");
    post(&server, &["b"]);
    let said = bench.refused(1, &["downgrade", "--timeout", "200ms"]);
    assert!(said.contains("another process still writes"), "{said}");
    // Killed: what it accepted last is in its segment.
    drop(server);
    let said = bench.did(&["downgrade"]);
    assert_eq!(said["changed"], true);
    assert_eq!(stored_runs(&bench.database()), runs(&["old", "a", "b"]));
    assert_eq!(bench.did(&["downgrade"])["changed"], false);
    // It would take the scores up again.
    assert!(bench.refused(1, &["backup", &bench.aside("x")]).contains("without a spool"));

    bench.with_scores("direct", &["c"]);
    bench.with_scores("spool", &["d", "a"]);
    assert_eq!(bench.stored(), runs(&["old", "a", "b", "c", "d"]));
    // And down again, with what the first time left.
    bench.did(&["downgrade"]);
    assert_eq!(stored_runs(&bench.database()), runs(&["old", "a", "b", "c", "d"]));
    bench.nothing_is_left();
}

#[test]
fn a_downgrade_that_was_broken_off_is_done_by_the_next_one() {
    for step in ["copied", "marked"] {
        let bench = Bench::new();
        bench.with_scores("spool", &["a"]);
        bench.did(&["downgrade"]);
        let mark = bench.names().into_iter().find(|name| name.starts_with("folded.")).unwrap();
        if step == "copied" {
            fs::remove_file(bench.path(&mark)).unwrap();
        }
        // Going up is not hindered either way.
        let said = bench.did(&["downgrade"]);
        assert_eq!(said["changed"], step == "copied");
        assert_eq!(stored_runs(&bench.database()), runs(&["a"]));
        bench.with_scores("spool", &["b"]);
        assert_eq!(bench.stored(), runs(&["a", "b"]), "{step}");
    }
    // Killed before the mark, and started again without another try.
    let bench = Bench::new();
    bench.with_scores("spool", &["a"]);
    bench.did(&["downgrade"]);
    let mark = bench.names().into_iter().find(|name| name.starts_with("folded.")).unwrap();
    fs::remove_file(bench.path(&mark)).unwrap();
    bench.with_scores("spool", &["b"]);
    assert_eq!(bench.stored(), runs(&["a", "b"]));
    // What is left of it is not what the spool has now.
    let said = bench.refused(1, &["downgrade"]);
    assert!(said.contains("not in the spool") && said.contains("move it away"), "{said}");
    assert_eq!(stored_runs(&bench.database()), runs(&["a"]));
}

#[test]
fn killed_at_any_moment_a_downgrade_loses_nothing() {
    for delay_ms in [0, 20, 40, 60, 80, 120, 160] {
        let bench = Bench::new();
        bench.with_scores("spool", &["a", "b"]);
        let mut child = bench.spawn(&["downgrade"]);
        let begun = std::time::Instant::now();
        until("its time", || begun.elapsed() >= Duration::from_millis(delay_ms));
        drop(child.kill());
        child.wait().unwrap();
        bench.did(&["downgrade"]);
        assert_eq!(stored_runs(&bench.database()), runs(&["a", "b"]), "{delay_ms}");
        bench.with_scores("spool", &["c"]);
        assert_eq!(bench.stored(), runs(&["a", "b", "c"]), "{delay_ms}");
    }
}

#[test]
fn what_cannot_be_read_keeps_a_downgrade_from_happening() {
    let bench = Bench::new();
    bench.with_scores("spool", &["a"]);
    let server = bench.server("spool");
    post(&server, &["b"]);
    drop(server);
    // Now what is sealed is gone.
    bench.did(&["backup", &bench.aside("x.db")]);
    let segment = bench.segments().pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes.extend_from_slice(&[0xD5, 0xB1, 1, 0, 9]);
    fs::write(&segment, bytes).unwrap();
    let said = bench.refused(1, &["downgrade"]);
    assert!(said.contains("not all that was accepted can be read") && said.contains("--leave-unread"), "{said}");
    assert!(!bench.database().exists());
    let said = bench.did(&["downgrade", "--leave-unread"]);
    assert_eq!(said["unread"].as_array().unwrap().len(), 1);
    assert_eq!(stored_runs(&bench.database()), runs(&["a", "b"]));
}
