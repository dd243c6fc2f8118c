//! When a rollout did what, from the lines of `dbird deploy -o json`. It reads the events that dbird promises to keep, and says
//! which one is missing where a rollout went another way.

use serde_json::Value;

use crate::setup::Outcome;

/// The moments of a rollout that was undone, in Unix milliseconds.
pub(super) struct Timeline {
    /// The candidate has its first traffic.
    pub(super) traffic_at: u64,
    /// The first bad look was told: its window has ended.
    pub(super) bad_at: u64,
    /// The time that this look is about.
    pub(super) window_ms: u64,
    /// The release of before has all traffic again.
    pub(super) back_at: u64,
}

impl Timeline {
    /// Of the output of one command, whose exit code was this.
    pub(super) fn of(output: &str, exit_code: Option<i32>) -> Outcome<Timeline> {
        let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let last = lines.last().map(ToString::to_string).unwrap_or_default();
        if exit_code != Some(3) {
            return Err(format!("it was not undone: exit code {exit_code:?}, {last}"));
        }
        let at = |found: Option<&Value>, what: &str| {
            let at = found.and_then(|line| line["at_unix_ms"].as_u64());
            at.ok_or_else(|| format!("{what} is missing; the last event is {last}"))
        };
        let bad = lines.iter().position(|line| line["event"] == "look" && line["verdict"] == "bad");
        let (before, after) = lines.split_at(bad.unwrap_or(lines.len()));
        Ok(Timeline {
            traffic_at: at(before.iter().find(|line| arrived(line, 2)), "the candidate's first traffic")?,
            bad_at: at(after.first(), "a bad look")?,
            window_ms: after.first().and_then(|look| look["window_ms"].as_u64()).unwrap_or_default(),
            back_at: at(after.iter().find(|line| arrived(line, 1)), "the traffic's way back")?,
        })
    }
}

/// Traffic has arrived at weights that so many releases share.
fn arrived(line: &Value, releases: usize) -> bool {
    let weights = line["weights"].as_object();
    let sharing = weights.map_or(0, |all| all.values().filter(|weight| weight.as_u64() > Some(0)).count());
    line["event"] == "traffic" && line["reached"] == true && sharing == releases
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing test is what is wanted")]
mod tests {
    use super::*;

    const UNDONE: &str = r#"{"at_unix_ms":1,"event":"traffic","reached":true,"weights":{"r1":100}}
{"at_unix_ms":2,"event":"traffic","reached":false,"weights":{"r1":90,"r2":10}}
{"at_unix_ms":3,"event":"traffic","reached":true,"weights":{"r1":90,"r2":10}}
{"at_unix_ms":1003,"event":"look","window_ms":1000,"verdict":"good"}
{"at_unix_ms":2003,"event":"look","window_ms":1000,"verdict":"bad"}
{"at_unix_ms":2004,"event":"traffic","reached":false,"weights":{"r1":100}}
{"at_unix_ms":2020,"event":"traffic","reached":true,"weights":{"r1":100,"r2":0}}
{"at_unix_ms":2100,"event":"finished","exit_code":3}"#;

    #[test]
    fn moments_are_found_and_missing_ones_named() {
        let found = Timeline::of(UNDONE, Some(3)).unwrap();
        assert_eq!((found.traffic_at, found.bad_at, found.window_ms, found.back_at), (3, 2_003, 1_000, 2_020));
        let without = |text: &str| UNDONE.lines().filter(|line| !line.contains(text)).collect::<Vec<_>>().join("\n");
        for (output, exit_code, said) in [
            (UNDONE.to_owned(), Some(0), "not undone"),
            (UNDONE.to_owned(), None, "not undone"),
            (without("\"bad\""), Some(3), "a bad look is missing"),
            (without("2020"), Some(3), "way back is missing"),
            (without(":3,"), Some(3), "first traffic is missing"),
            (String::new(), Some(3), "is missing"),
        ] {
            let why = Timeline::of(&output, exit_code).err().unwrap();
            assert!(why.contains(said), "{said}: {why}");
        }
    }
}
