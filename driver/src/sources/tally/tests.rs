//! Tables of what is counted and what is refused, and replicas in any order that are never counted twice.

use std::collections::BTreeMap;

use dbird_core::ReleaseId;
use proptest::prelude::*;

use super::*;
use crate::sources::reading::{BUCKETS, REQUESTS, STARTED, Sheet};

/// A process with so many answers of each kind, all quick.
fn reading(started_ms: Option<u64>, good: u64, bad: u64) -> Reading {
    let mut sheet = Sheet::default();
    let of = |labels: &[(&str, &str)]| labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let mut add = |name, labels: &[(&str, &str)], value: f64| sheet.add(name, of(labels), value, "").unwrap();
    if let Some(started_ms) = started_ms {
        add(STARTED, &[], started_ms as f64 / 1000.0);
    }
    for (status, count) in [("200", good), ("503", bad)] {
        // As many libraries do: what did not happen yet is not there.
        if count > 0 {
            add(REQUESTS, &[("status", status)], count as f64);
            add(BUCKETS, &[("status", status), ("le", "0.01")], count as f64);
            add(BUCKETS, &[("status", status), ("le", "+Inf")], count as f64);
        }
    }
    sheet.reading()
}

/// Requests and errors within the window.
fn take(tally: &mut Tally, now_ms: u64) -> (u64, u64) {
    let mut sum = Counts::default();
    tally.take(now_ms, &mut sum);
    let samples = sum.samples(ReleaseId(1), 0);
    let quick: BTreeMap<_, _> = (samples.requests > 0).then_some((10, samples.requests)).into_iter().collect();
    assert_eq!(samples.latency_ms, quick, "the histogram is counted as the requests are");
    (samples.requests, samples.errors)
}

/// Readings: the start time, good answers, bad ones.
type Seen<'a> = &'a [(Option<u64>, u64, u64)];
/// A name, what is seen before and within the window, and what came in: requests and errors.
type Case<'a> = (&'a str, Seen<'a>, Seen<'a>, Result<(u64, u64), &'a str>);

#[test]
fn windows() {
    const A: Option<u64> = Some(100_000);
    const B: Option<u64> = Some(200_000);
    const NEW: Option<u64> = Some(502_000);
    const N: Option<u64> = None;
    let cases: &[Case<'_>] = &[
        ("nothing", &[(A, 5, 0)], &[(A, 5, 0)], Ok((0, 0))),
        ("one process", &[(A, 5, 0)], &[(A, 15, 2)], Ok((12, 2))),
        ("one without a start time", &[(N, 5, 0)], &[(N, 15, 2)], Ok((12, 2))),
        ("its first error is counted", &[(N, 5, 0)], &[(N, 5, 1)], Ok((1, 1))),
        ("its first request is counted", &[(N, 0, 0)], &[(N, 7, 1)], Ok((8, 1))),
        ("several readings", &[(A, 5, 0)], &[(A, 6, 0), (A, 9, 1)], Ok((5, 1))),
        ("two behind one address", &[(A, 100, 1), (B, 10, 0)], &[(B, 30, 0), (A, 105, 2)], Ok((26, 1))),
        ("only the other one is seen", &[(A, 10, 0)], &[(B, 500, 0)], Ok((0, 0))),
        ("a restart begins at zero", &[(A, 100, 0)], &[(NEW, 7, 1)], Ok((8, 1))),
        ("so does one that did more than the first", &[(A, 10, 0)], &[(NEW, 70, 0), (A, 11, 0)], Ok((71, 0))),
        ("one that may have begun before", &[(A, 10, 0)], &[(Some(500_500), 70, 0)], Ok((0, 0))),
        ("a restart that does not say so", &[(N, 100, 0)], &[(N, 7, 1)], Err(BACKWARDS)),
        ("two, both known", &[(N, 100, 0), (N, 10, 0)], &[(N, 12, 0), (N, 101, 0)], Ok((3, 0))),
        ("two that pass each other", &[(N, 100, 0), (N, 90, 0)], &[(N, 110, 0), (N, 103, 0)], Ok((23, 0))),
        ("one of two is new", &[(N, 100, 0)], &[(N, 101, 0), (N, 50, 0)], Err(BACKWARDS)),
        ("either could have grown to that", &[(N, 9, 0), (N, 0, 9)], &[(N, 10, 10)], Err(UNCLEAR)),
        ("started in one second, seen before", &[(A, 9, 0), (A, 3, 0)], &[(A, 4, 0), (A, 9, 1)], Ok((2, 1))),
        ("started in one second, one new", &[(A, 9, 0)], &[(A, 3, 0)], Err(UNCLEAR)),
        ("some say it, some do not", &[(A, 9, 0), (N, 3, 0)], &[(N, 4, 0), (A, 10, 0)], Ok((2, 0))),
    ];
    for (name, before, within, expected) in cases {
        let mut tally = Tally::opening();
        for (started_ms, good, bad) in *before {
            tally.see(reading(*started_ms, *good, *bad)).unwrap();
        }
        tally.opened(500_000);
        let seen = within.iter().try_for_each(|(s, good, bad)| tally.see(reading(*s, *good, *bad)).map(drop));
        let found = seen.map(|()| take(&mut tally, 600_000));
        assert_eq!(found, expected.map_err(str::to_owned), "{name}");
    }
}

#[test]
fn an_address_that_appears_within_the_window() {
    for (started_ms, expected) in [(None, 0), (Some(400_000), 0), (Some(500_900), 0), (Some(501_000), 7)] {
        let mut tally = Tally::new(500_000);
        tally.see(reading(started_ms, 7, 0)).unwrap();
        assert_eq!(take(&mut tally, 600_000).0, expected, "{started_ms:?}");
        tally.see(reading(started_ms, 9, 0)).unwrap();
        assert_eq!(take(&mut tally, 700_000).0, 2, "{started_ms:?}");
    }
}

#[test]
fn who_is_gone_is_forgotten_and_comes_back_as_a_stranger() {
    let mut tally = Tally::opening();
    tally.see(reading(Some(1000), 100, 0)).unwrap();
    tally.see(reading(Some(2000), 10, 0)).unwrap();
    tally.opened(500_000);
    assert_eq!(tally.unseen(), 2);
    tally.see(reading(Some(1000), 105, 0)).unwrap();
    assert_eq!((tally.unseen(), take(&mut tally, 600_000), tally.processes()), (1, (5, 0), 1));
    assert_eq!(tally.see(reading(Some(2000), 50, 0)), Ok(Who::New));
    assert_eq!(take(&mut tally, 700_000), (0, 0), "it was started before the window");
}

#[test]
fn more_processes_than_can_be_are_refused() {
    let mut tally = Tally::opening();
    for process in 1..=64 {
        assert_eq!(tally.see(reading(Some(process), 1, 0)), Ok(Who::New));
    }
    assert!(tally.see(reading(Some(65), 1, 0)).unwrap_err().contains("more than 64"));
}

/// What happens behind an address.
#[derive(Debug, Clone, Copy)]
enum Step {
    Serve {
        replica: usize,
        good: u64,
        bad: u64,
    },
    Restart {
        replica: usize,
    },
    See {
        replica: usize,
    },
    /// A window ends, the next begins.
    Take,
}

fn step(replicas: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..replicas, 0..50u64, 0..5u64).prop_map(|(replica, good, bad)| Step::Serve { replica, good, bad }),
        1 => (0..replicas).prop_map(|replica| Step::Restart { replica }),
        4 => (0..replicas).prop_map(|replica| Step::See { replica }),
        1 => Just(Step::Take),
    ]
}

fn story() -> impl Strategy<Value = (usize, Vec<Step>)> {
    (1..=5usize).prop_flat_map(|replicas| (Just(replicas), proptest::collection::vec(step(replicas), 0..60)))
}

#[derive(Clone, Copy)]
struct Replica {
    started_ms: u64,
    good: u64,
    bad: u64,
}

/// Replicas with different numbers from before, each of which was started on its own.
fn replicas(count: usize) -> Vec<Replica> {
    (0..count as u64).map(|i| Replica { started_ms: 1000 + i, good: i * 37 % 90, bad: i % 3 }).collect()
}

/// Plays a story: what was counted within all windows, and what happened in them. Errors end it.
fn play(replicas: &mut [Replica], story: &[Step], tally: &mut Tally, named: bool) -> Result<[(u64, u64); 2], String> {
    let show = |r: &Replica| reading(named.then_some(r.started_ms), r.good, r.bad);
    let (mut counted, mut happened) = ((0, 0), (0, 0));
    let mut now_ms = 500_000;
    for step in story {
        now_ms += 2_000;
        match *step {
            Step::Serve { replica, good, bad } => {
                replicas[replica].good += good;
                replicas[replica].bad += bad;
                happened = (happened.0 + good + bad, happened.1 + bad);
            }
            Step::Restart { replica } => replicas[replica] = Replica { started_ms: now_ms, good: 0, bad: 0 },
            Step::See { replica } => drop(tally.see(show(&replicas[replica]))?),
            Step::Take => {
                let (requests, errors) = take(tally, now_ms);
                counted = (counted.0 + requests, counted.1 + errors);
            }
        }
    }
    Ok([counted, happened])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whoever is seen when: with start times nothing is counted that did not happen.
    #[test]
    fn never_too_much((count, mut story) in story(), known in 0..32u32) {
        let mut all = replicas(count);
        let mut tally = Tally::opening();
        for (at, replica) in all.iter().enumerate() {
            if known & (1 << at) != 0 {
                tally.see(reading(Some(replica.started_ms), replica.good, replica.bad)).unwrap();
            }
        }
        tally.opened(500_000);
        story.push(Step::Take);
        let [counted, happened] = play(&mut all, &story, &mut tally, true).unwrap();
        prop_assert!(counted.0 <= happened.0 && counted.1 <= happened.1, "{counted:?} of {happened:?}");
    }

    /// Seen at the begin and at the end, and before each restart: everything is counted once.
    #[test]
    fn exactly_all((count, story) in story()) {
        let mut all = replicas(count);
        let mut tally = Tally::opening();
        for replica in &all {
            tally.see(reading(Some(replica.started_ms), replica.good, replica.bad)).unwrap();
        }
        tally.opened(500_000);
        let mut seen = Vec::new();
        for step in story {
            match step {
                Step::Restart { replica } => seen.extend([Step::See { replica }, step]),
                Step::Take => seen.extend((0..count).map(|replica| Step::See { replica }).chain([step])),
                _ => seen.push(step),
            }
        }
        seen.extend((0..count).map(|replica| Step::See { replica }).chain([Step::Take]));
        let [counted, happened] = play(&mut all, &seen, &mut tally, true).unwrap();
        prop_assert_eq!(counted, happened);
    }

    /// Without start times, as long as all were seen once: never too much, and where it can't be told, an error.
    #[test]
    fn never_too_much_without_names((count, story) in story()) {
        let mut all = replicas(count);
        let mut tally = Tally::opening();
        for replica in &all {
            tally.see(reading(None, replica.good, replica.bad)).unwrap();
        }
        tally.opened(500_000);
        // Whoever did not answer in a round would be forgotten, and a restart can look like growth.
        let mut seen = Vec::new();
        for step in story {
            match step {
                Step::Restart { .. } => {}
                Step::Take => seen.extend((0..count).map(|replica| Step::See { replica }).chain([step])),
                _ => seen.push(step),
            }
        }
        seen.extend((0..count).map(|replica| Step::See { replica }).chain([Step::Take]));
        if let Ok([counted, happened]) = play(&mut all, &seen, &mut tally, false) {
            prop_assert!(counted.0 <= happened.0 && counted.1 <= happened.1, "{counted:?} of {happened:?}");
        }
    }
}
