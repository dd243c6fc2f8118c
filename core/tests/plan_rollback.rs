//! Which release a rollback goes to.

use dbird_core::{
    Cloud, Digest, Documents, Outcome, Reason, Release, ReleaseId,
    history::{NoTarget, rollback_target},
};

/// A history from `(number, outcome, content, rollback to)`.
fn history(releases: &[(u64, Outcome, &str, Option<u64>)]) -> Vec<Release> {
    let release = |(id, outcome, content, to): &(u64, Outcome, &str, Option<u64>)| Release {
        format: 1,
        id: ReleaseId(*id),
        service: "bird".into(),
        environment: "dev".into(),
        cloud: Cloud::Local,
        parent: None,
        reason: match (outcome, to) {
            (Outcome::Destroyed, _) => Reason::Destroy,
            (_, Some(to)) => Reason::Rollback { to: ReleaseId(*to) },
            _ => Reason::Deploy,
        },
        digest: Digest::of(content.as_bytes()),
        documents: Documents {
            service: "bird".into(),
            environment: "dev".into(),
            cloud: Cloud::Local,
            steps: Vec::new(),
        },
        image: None,
        actor: "ann@nest".into(),
        git_revision: String::new(),
        outcome: *outcome,
        why: String::new(),
        started_unix_ms: 0,
        took_ms: 0,
        step_ms: Vec::new(),
        changes: Vec::new(),
        looked: None,
        snapshot: None,
        copy_lost: None,
    };
    releases.iter().map(release).collect()
}

#[test]
fn without_a_number_the_last_other_one_that_succeeded() {
    use Outcome::{Destroyed, Failed, Removed, RolledBack, Succeeded};
    type Case = (&'static str, Vec<(u64, Outcome, &'static str, Option<u64>)>, Option<u64>, Result<u64, NoTarget>);
    let cases: Vec<Case> = vec![
        ("two in a row", vec![(1, Succeeded, "a", None), (2, Succeeded, "b", None)], Some(2), Ok(1)),
        (
            "failures between",
            vec![
                (1, Succeeded, "a", None),
                (2, RolledBack, "b", None),
                (3, Failed, "c", None),
                (4, Succeeded, "d", None),
            ],
            Some(4),
            Ok(1),
        ),
        (
            "failures after",
            vec![(1, Succeeded, "a", None), (2, Succeeded, "b", None), (3, RolledBack, "c", None)],
            Some(2),
            Ok(1),
        ),
        (
            "a restart between is the same thing",
            vec![(1, Succeeded, "a", None), (2, Succeeded, "b", None), (3, Succeeded, "b", None)],
            Some(3),
            Ok(1),
        ),
        (
            "twice goes back twice",
            vec![
                (1, Succeeded, "a", None),
                (2, Succeeded, "b", None),
                (3, Succeeded, "c", None),
                (4, Succeeded, "b", Some(2)),
            ],
            Some(4),
            Ok(1),
        ),
        ("only one", vec![(1, Succeeded, "a", None)], Some(1), Err(NoTarget::NoEarlier { live: ReleaseId(1) })),
        (
            "only a removed one before",
            vec![(1, Removed, "a", None), (2, Succeeded, "b", None)],
            Some(2),
            Err(NoTarget::NoEarlier { live: ReleaseId(2) }),
        ),
        (
            "nothing serves",
            vec![(1, Succeeded, "a", None), (2, Destroyed, "a", None)],
            None,
            Err(NoTarget::NothingLive),
        ),
        ("nothing was ever made", vec![], None, Err(NoTarget::NothingLive)),
        ("the live one has no record", vec![(1, Succeeded, "a", None)], Some(7), Ok(1)),
        // A record that points at itself or forward can't be, and must not hang.
        ("a loop", vec![(1, Succeeded, "a", Some(2)), (2, Succeeded, "b", Some(2))], Some(2), Ok(1)),
    ];
    for (what, releases, live, expected) in cases {
        let history = history(&releases);
        let found = rollback_target(&history, live.map(ReleaseId), None).map(|r| r.id.0);
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_number_must_name_one_that_served() {
    use Outcome::{Destroyed, RolledBack, Succeeded};
    let history = history(&[
        (1, Succeeded, "a", None),
        (2, RolledBack, "b", None),
        (3, Succeeded, "c", None),
        (4, Destroyed, "c", None),
        (5, Succeeded, "d", None),
    ]);
    let to = |n: u64| {
        rollback_target(&history, Some(ReleaseId(5)), Some(ReleaseId(n))).map(|r| r.id.0).map_err(|e| e.to_string())
    };
    assert_eq!(to(1), Ok(1));
    assert_eq!(to(3), Ok(3));
    assert_eq!(to(2), Err("r2 can't be rolled back to: it failed and was rolled back".into()));
    assert_eq!(to(4), Err("r4 can't be rolled back to: it took the service away".into()));
    assert_eq!(to(5), Err("r5 is what serves now".into()));
    assert_eq!(to(9), Err("there is no release r9 here; these can be rolled back to: r3, r1".into()));
    let drill: Vec<_> = history.iter().map(|r| Release { reason: Reason::Drill, ..r.clone() }).collect();
    let to = |to| rollback_target(&drill, Some(ReleaseId(5)), to).map(|r| r.id.0).map_err(|e| e.to_string());
    assert_eq!(
        to(Some(ReleaseId(1))),
        Err("r1 can't be rolled back to: it was a drill, with faults on purpose".into())
    );
    assert_eq!(to(None), Err("no earlier release succeeded with anything else than what serves now (r5)".into()));
    // After a destroy any that served can be brought back.
    assert_eq!(rollback_target(&history, None, Some(ReleaseId(5))).map(|r| r.id.0), Ok(5));
}
