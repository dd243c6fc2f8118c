//! What a look at a rollout reads like: both sides in one line. Numbers are as short as people need them, and never more
//! exact than they are.

use std::collections::BTreeMap;

use dbird_core::analysis::percent;

use super::{
    events::{LookView, SideView},
    style::{DIM, GREEN, RED, YELLOW, paint},
};

/// One line: `look 3: r5 10 %  512 requests  0.2 % failed  p99 41 ms | r4 4.6k requests  0.1 % failed  p99 40 ms  good`.
pub(crate) fn line(look: &LookView) -> String {
    let mut sides = Vec::new();
    if let Some(candidate) = &look.candidate {
        let share = look.weights.get(&candidate.release).map(|w| format!(" {w} %")).unwrap_or_default();
        let own = match look.probes {
            0 => String::new(),
            n => format!(" ({} by dbird)", count(n)),
        };
        sides.push(format!("{}{share}  {}{own}{}", candidate.release, requests(candidate.requests), how(candidate)));
    }
    if let Some(current) = &look.current {
        sides.push(format!("{} {}{}", current.release, requests(current.requests), how(current)));
    }
    let sides = if sides.is_empty() { String::new() } else { format!("{}  ", sides.join(" | ")) };
    format!("{} {sides}{}", paint(DIM, format!("look {}:", look.look)), verdict(look))
}

/// `good`, or what is wrong and why.
pub(crate) fn verdict(look: &LookView) -> String {
    let style = match look.verdict.as_str() {
        "good" => GREEN,
        "bad" => RED,
        _ => YELLOW,
    };
    let word = paint(style, &look.verdict);
    if look.text.is_empty() { word } else { format!("{word}: {}", look.text) }
}

fn how(side: &SideView) -> String {
    if side.requests == 0 {
        return String::new();
    }
    let p99 = side.p99_ms.map(|ms| format!("  p99 {}", milliseconds(ms))).unwrap_or_default();
    format!("  {} failed{p99}", percent(side.error_rate))
}

fn requests(n: u64) -> String {
    format!("{} request{}", count(n), if n == 1 { "" } else { "s" })
}

/// `512`, `4.6k`, `1.2M`.
pub(crate) fn count(n: u64) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{}.{}k", n / 1_000, n % 1_000 / 100),
        _ => format!("{}.{}M", n / 1_000_000, n % 1_000_000 / 100_000),
    }
}

/// `3.4 ms`, `41 ms`, `1.20 s`.
pub(crate) fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}

/// The newest of the releases that share the traffic: the one that takes over.
pub(crate) fn newest(weights: &BTreeMap<String, u8>) -> Option<(&str, u8)> {
    let number = |release: &str| release.trim_start_matches('r').parse::<u64>().unwrap_or(0);
    weights.iter().max_by_key(|(release, _)| number(release)).map(|(release, weight)| (release.as_str(), *weight))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn side(release: &str, requests: u64, errors: u64, p99_ms: Option<f64>) -> SideView {
        let error_rate = if requests == 0 { 0.0 } else { errors as f64 / requests as f64 };
        SideView { release: release.to_owned(), requests, errors, error_rate, p99_ms }
    }

    /// A look at 10 %, with so many failed requests of 512.
    pub(crate) fn sample(look: u32, errors: u64, p99_ms: f64) -> LookView {
        LookView {
            look,
            window_ms: 1000,
            weights: BTreeMap::from([("r10".to_owned(), 10), ("r9".to_owned(), 90)]),
            candidate: Some(side("r10", 512, errors, Some(p99_ms))),
            current: Some(side("r9", 4_608, 4, Some(40.0))),
            probes: 0,
            verdict: if errors > 10 { "bad" } else { "good" }.to_owned(),
            check: (errors > 10).then(|| "error-rate".to_owned()),
            text: if errors > 10 { "20 % of 512 requests failed, allowed are 1 %" } else { "" }.to_owned(),
        }
    }

    #[test]
    fn looks_read_as_one_line() {
        let none = || LookView { candidate: None, current: None, ..sample(1, 0, 0.0) };
        let unclear = |text: &str| ("unclear".to_owned(), text.to_owned());
        let (word, text) = unclear("only 3 of the 50 requests that are needed to judge it");
        let few = LookView {
            candidate: Some(side("r10", 3, 0, None)),
            current: Some(side("r9", 0, 0, None)),
            probes: 3,
            verdict: word,
            text,
            ..none()
        };
        let (verdict, text) = unclear("the source of its numbers can't be read");
        let blind = LookView { verdict, text, ..none() };
        let all = [sample(3, 1, 41.0), sample(4, 102, 1204.0), few, blind];
        let lines: Vec<String> = all.iter().map(|look| anstream::adapter::strip_str(&line(look)).to_string()).collect();
        insta::assert_snapshot!("looks", lines.join("\n"));
    }

    #[test]
    fn numbers_are_short() {
        for (n, wanted) in [(0, "0"), (999, "999"), (4_608, "4.6k"), (999_999, "999.9k"), (1_200_000, "1.2M")] {
            assert_eq!(count(n), wanted);
        }
        for (ms, wanted) in [(0.04, "0.0 ms"), (9.94, "9.9 ms"), (9.96, "10 ms"), (999.4, "999 ms"), (1204.0, "1.20 s")]
        {
            assert_eq!(milliseconds(ms), wanted);
        }
    }

    #[test]
    fn the_newest_release_is_the_highest_number_not_the_last_word() {
        assert_eq!(newest(&sample(1, 0, 1.0).weights), Some(("r10", 10)));
        assert_eq!(newest(&BTreeMap::new()), None);
    }
}
