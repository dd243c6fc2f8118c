//! Metrics: what was measured when, and the statistics over it. It never decides whether a number is good.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::aws::{Fault, list, text};

/// Instants of a metric that are kept: three days by the minute. The oldest go.
const INSTANTS_MAX: usize = 4_320;

/// Values over time, each at the beginning of its period in Unix milliseconds.
pub(super) type Series = BTreeMap<u64, f64>;

/// Which metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) dimensions: BTreeMap<String, String>,
}

impl Key {
    /// As an input names it.
    pub(super) fn parse(metric: &Value) -> Result<Self, Fault> {
        let part = |name: &str| {
            let missing = || Fault::new("MissingParameter", format!("The parameter {name} is required."));
            text(metric, name).map(str::to_owned).ok_or_else(missing)
        };
        let dimension =
            |one: &Value| Some((text(one, "Name")?.to_owned(), text(one, "Value").unwrap_or_default().to_owned()));
        let dimensions = list(metric, "Dimensions").iter().filter_map(dimension).collect();
        Ok(Key { namespace: part("Namespace")?, name: part("MetricName")?, dimensions })
    }
}

/// What was measured in an instant: how often which value.
#[derive(Debug, Clone, Default)]
pub(super) struct Datum {
    values: Vec<(f64, f64)>,
    count: f64,
    sum: f64,
    least: Option<f64>,
    most: Option<f64>,
}

impl Datum {
    pub(super) fn add(&mut self, value: f64, count: f64) {
        match self.values.iter_mut().find(|(known, _)| *known == value) {
            Some((_, known)) => *known += count,
            None => self.values.push((value, count)),
        }
        self.add_set(count, value * count, value, value);
    }

    /// A set of statistics; percentiles know nothing of it.
    pub(super) fn add_set(&mut self, count: f64, sum: f64, least: f64, most: f64) {
        self.count += count;
        self.sum += sum;
        self.least = Some(self.least.map_or(least, |before| before.min(least)));
        self.most = Some(self.most.map_or(most, |before| before.max(most)));
    }

    fn merge(&mut self, other: &Datum) {
        let (count, sum) = (self.count + other.count, self.sum + other.sum);
        for (value, times) in &other.values {
            self.add(*value, *times);
        }
        if let (Some(least), Some(most)) = (other.least, other.most) {
            self.add_set(0.0, 0.0, least, most);
        }
        (self.count, self.sum) = (count, sum);
    }

    fn statistic(&self, statistic: Statistic) -> Option<f64> {
        if self.count <= 0.0 {
            return None;
        }
        let mut sorted = self.values.clone();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = sorted.iter().map(|(_, count)| count).sum();
        match statistic {
            Statistic::Sum => Some(self.sum),
            Statistic::Average => Some(self.sum / self.count),
            Statistic::Minimum => self.least,
            Statistic::Maximum => self.most,
            Statistic::SampleCount => Some(self.count),
            Statistic::Percentile(percent) => {
                let wanted = total * percent / 100.0;
                let mut seen = 0.0;
                let reached = |(_, count): &&(f64, f64)| {
                    seen += count;
                    // A little less is enough, for what sums of fractions lose.
                    seen >= wanted - 1e-9
                };
                sorted.iter().find(reached).map(|(value, _)| *value)
            }
            Statistic::Rank(_, _) if total <= 0.0 => None,
            Statistic::Rank(above, most) => {
                let inside = sorted.iter().filter(|(value, _)| {
                    above.is_none_or(|above| *value > above) && most.is_none_or(|most| *value <= most)
                });
                Some(inside.map(|(_, count)| count).sum::<f64>() / total * 100.0)
            }
        }
    }
}

/// How many values become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Statistic {
    Sum,
    Average,
    Minimum,
    Maximum,
    SampleCount,
    /// `p99`.
    Percentile(f64),
    /// `PR(0.1:0.5)`: what percentage is more than the first and at most the second.
    Rank(Option<f64>, Option<f64>),
}

impl Statistic {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let plain = match text {
            "Sum" => Some(Statistic::Sum),
            "Average" => Some(Statistic::Average),
            "Minimum" => Some(Statistic::Minimum),
            "Maximum" => Some(Statistic::Maximum),
            "SampleCount" => Some(Statistic::SampleCount),
            _ => None,
        };
        let percentile = || {
            let percent: f64 = text.strip_prefix('p')?.parse().ok()?;
            (0.0..=100.0).contains(&percent).then_some(Statistic::Percentile(percent))
        };
        let rank = || {
            let (from, to) = text.strip_prefix("PR(")?.strip_suffix(')')?.split_once(':')?;
            let bound = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
            let (from, to) = (bound(from)?, bound(to)?);
            (from.is_some() || to.is_some()).then_some(Statistic::Rank(from, to))
        };
        plain.or_else(percentile).or_else(rank).ok_or_else(|| {
            Fault::new("InvalidParameterValue", format!("The value '{text}' for parameter Stat is not supported."))
        })
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(super) struct Measurements {
    all: BTreeMap<Key, BTreeMap<u64, Datum>>,
}

impl Measurements {
    /// What was measured at an instant, which is the beginning of its minute or second.
    pub(super) fn at(&mut self, key: Key, unix_ms: u64) -> &mut Datum {
        let instants = self.all.entry(key).or_default();
        if instants.len() >= INSTANTS_MAX && !instants.contains_key(&unix_ms) {
            instants.pop_first();
        }
        instants.entry(unix_ms).or_default()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.all.keys()
    }

    /// One value for each period that has any, from the first one's beginning to before the end.
    pub(super) fn series(
        &self,
        key: &Key,
        statistic: Statistic,
        from_ms: u64,
        until_ms: u64,
        period_ms: u64,
    ) -> Series {
        let Some(instants) = self.all.get(key) else { return Series::new() };
        let mut periods: BTreeMap<u64, Datum> = BTreeMap::new();
        for (at, datum) in instants.range(from_ms..until_ms.max(from_ms)) {
            let begins = from_ms + (at - from_ms) / period_ms * period_ms;
            periods.entry(begins).or_default().merge(datum);
        }
        periods.iter().filter_map(|(at, datum)| Some((*at, datum.statistic(statistic)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics() {
        let mut datum = Datum::default();
        // 90 fast, 9 slow, 1 very slow.
        for (value, count) in [(0.1, 90.0), (0.6, 9.0), (3.0, 1.0)] {
            datum.add(value, count);
        }
        for (name, expected) in [
            ("Sum", 17.4),
            ("Average", 0.174),
            ("Minimum", 0.1),
            ("Maximum", 3.0),
            ("SampleCount", 100.0),
            ("p50", 0.1),
            ("p90", 0.1),
            ("p90.1", 0.6),
            ("p99", 0.6),
            ("p99.5", 3.0),
            ("p100", 3.0),
            ("PR(:0.5)", 90.0),
            ("PR(:0.6)", 99.0),
            ("PR(0.5:)", 10.0),
            ("PR(0.1:0.6)", 9.0),
            ("PR(0.1:3)", 10.0),
        ] {
            let got = datum.statistic(Statistic::parse(name).unwrap()).unwrap();
            assert!((got - expected).abs() < 1e-9, "{name}: {got}");
        }
        for name in ["p101", "PR(:)", "PR(1)", "tm99", "sum", ""] {
            assert!(Statistic::parse(name).is_err(), "{name}");
        }
        assert_eq!(Datum::default().statistic(Statistic::Sum), None);
    }

    #[test]
    fn periods_merge_what_is_in_them() {
        let key = Key { namespace: "N".into(), name: "m".into(), dimensions: BTreeMap::new() };
        let mut measured = Measurements::default();
        for minute in 0..5u64 {
            measured.at(key.clone(), minute * 60_000).add(minute as f64, 1.0);
        }
        let sums = measured.series(&key, Statistic::Sum, 60_000, 300_000, 120_000);
        assert_eq!(sums, Series::from([(60_000, 3.0), (180_000, 7.0)]));
        let most = measured.series(&key, Statistic::Maximum, 0, 120_000, 60_000);
        assert_eq!(most, Series::from([(0, 0.0), (60_000, 1.0)]));
    }
}
