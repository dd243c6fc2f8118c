//! Queries of metrics and of expressions over them, for alarms and for whoever asks. It reads what was measured and decides
//! nothing but an alarm's verdict.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    alarm::{self, Alarm},
    expression::{Expression, Grid},
    series::{Key, Measurements, Series, Statistic},
    verdict::{PERIODS_MORE, State, verdict},
};
use crate::aws::{Fault, flag, number, text};

/// Queries in a call or an alarm.
const QUERIES_MAX: usize = 500;

/// One of the queries of a call or an alarm.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) id: String,
    pub(super) label: Option<String>,
    pub(super) told: bool,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Metric { key: Key, statistic: Statistic, period_ms: u64 },
    Expression { expression: Expression, period_ms: Option<u64> },
}

impl Query {
    /// The metric that it asks for.
    pub(super) fn key(&self) -> Option<&Key> {
        match &self.what {
            What::Metric { key, .. } => Some(key),
            What::Expression { .. } => None,
        }
    }

    pub(super) fn label(&self) -> String {
        let own = || self.key().map_or_else(|| self.id.clone(), |key| key.name.clone());
        self.label.clone().unwrap_or_else(own)
    }
}

fn invalid(said: impl Into<String>) -> Fault {
    Fault::new("ValidationError", said)
}

/// A number with a fraction, however it was sent.
pub(super) fn float(input: &Value, name: &str) -> Option<f64> {
    let value = input.get(name)?;
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn period(input: &Value) -> Result<Option<u64>, Fault> {
    let Some(seconds) = number(input, "Period") else { return Ok(None) };
    match u64::try_from(seconds) {
        Ok(seconds) if matches!(seconds, 1 | 5 | 10 | 20 | 30) || (seconds > 0 && seconds % 60 == 0) => {
            Ok(Some(seconds * 1000))
        }
        _ => Err(invalid("The period must be 1, 5, 10, 20, 30 or a multiple of 60 seconds")),
    }
}

fn metric(id: &str, metric: &Value, stat: &Value) -> Result<Query, Fault> {
    let statistic = ["Stat", "Statistic", "ExtendedStatistic"].iter().find_map(|name| text(stat, name));
    let statistic = Statistic::parse(statistic.unwrap_or_default())?;
    let period_ms = period(stat)?.ok_or_else(|| invalid("A period is required"))?;
    let what = What::Metric { key: Key::parse(metric)?, statistic, period_ms };
    Ok(Query { id: id.to_owned(), label: None, told: true, what })
}

/// A list of queries, each under its own id, those that an expression names included.
pub(super) fn queries(all: &[Value]) -> Result<Vec<Query>, Fault> {
    if all.is_empty() || all.len() > QUERIES_MAX {
        return Err(invalid(format!("There must be between 1 and {QUERIES_MAX} queries")));
    }
    let mut ids = BTreeSet::new();
    let mut parsed = Vec::new();
    for one in all {
        let id = text(one, "Id").unwrap_or_default();
        if !id.starts_with(|letter: char| letter.is_ascii_lowercase()) || !ids.insert(id.to_owned()) {
            return Err(invalid(format!("The id '{id}' must begin with a lower case letter and be there only once")));
        }
        let mut query = match (one.get("MetricStat").filter(|stat| !stat.is_null()), text(one, "Expression")) {
            (Some(stat), None) => metric(id, stat.get("Metric").unwrap_or(&Value::Null), stat)?,
            (None, Some(expression)) => {
                let what = What::Expression { expression: Expression::parse(expression)?, period_ms: period(one)? };
                Query { id: id.to_owned(), label: None, told: true, what }
            }
            _ => return Err(invalid(format!("The query '{id}' must have either a MetricStat or an Expression"))),
        };
        query.label = text(one, "Label").map(str::to_owned);
        query.told = flag(one, "ReturnData").unwrap_or(true);
        parsed.push(query);
    }
    for query in &parsed {
        let What::Expression { expression, .. } = &query.what else { continue };
        if let Some(unknown) = expression.ids().iter().find(|id| !ids.contains(*id) || **id == query.id) {
            return Err(invalid(format!("The expression '{}' names '{unknown}', which no other query has", query.id)));
        }
    }
    Ok(parsed)
}

/// Those of an alarm: of one metric, or several of which exactly one is told.
pub(super) fn alarm_queries(input: &Value) -> Result<Vec<Query>, Fault> {
    let several = alarm::metrics(input);
    if several.is_empty() {
        return metric("m1", input, input).map(|query| vec![query]);
    }
    if text(input, "MetricName").is_some() {
        return Err(invalid("An alarm has either a MetricName or Metrics, not both"));
    }
    let queries = queries(several)?;
    if queries.iter().filter(|query| query.told).count() != 1 {
        return Err(invalid("Exactly one element of the metrics list should return data."));
    }
    Ok(queries)
}

/// The longest period among them.
pub(super) fn period_ms(queries: &[Query]) -> u64 {
    let each = queries.iter().filter_map(|query| match &query.what {
        What::Metric { period_ms, .. } => Some(*period_ms),
        What::Expression { period_ms, .. } => *period_ms,
    });
    each.max().unwrap_or(super::MINUTE_MS)
}

/// What every query gives, by id.
pub(super) fn evaluate(
    queries: &[Query],
    measured: &Measurements,
    from_ms: u64,
    until_ms: u64,
) -> Result<BTreeMap<String, Series>, Fault> {
    let mut known: BTreeMap<String, Series> = BTreeMap::new();
    for query in queries {
        if let What::Metric { key, statistic, period_ms } = &query.what {
            known.insert(query.id.clone(), measured.series(key, *statistic, from_ms, until_ms, *period_ms));
        }
    }
    let grid = Grid { from_ms, until_ms, period_ms: period_ms(queries) };
    // Each round finds at least one more, or they name each other in a circle.
    while known.len() < queries.len() {
        let before = known.len();
        for query in queries.iter().filter(|query| !known.contains_key(&query.id)).collect::<Vec<_>>() {
            let What::Expression { expression, .. } = &query.what else { continue };
            if expression.ids().iter().all(|id| known.contains_key(id)) {
                let series = expression.series(&known, &grid)?;
                known.insert(query.id.clone(), series);
            }
        }
        if known.len() == before {
            return Err(invalid("The expressions name each other in a circle"));
        }
    }
    Ok(known)
}

/// An alarm's state by the periods that end at this instant, and why; none where it stays.
pub(super) fn alarm(alarm: &Alarm, measured: &Measurements, end_ms: u64) -> Option<(State, String)> {
    let period_ms = period_ms(&alarm.queries);
    let count = alarm.periods as u64 + PERIODS_MORE;
    let from_ms = end_ms.saturating_sub(count * period_ms);
    let told = alarm.queries.iter().find(|query| query.told)?;
    let series = match evaluate(&alarm.queries, measured, from_ms, end_ms) {
        Ok(mut all) => all.remove(&told.id).unwrap_or_default(),
        Err(fault) => return Some((State::Insufficient, fault.message)),
    };
    let at = |period: u64| series.get(&(from_ms + period * period_ms)).copied();
    let values: Vec<Option<f64>> = (0..count).map(at).collect();
    let bad: Vec<Option<bool>> =
        values.iter().map(|value| value.map(|value| alarm.comparison.is_bad(value, alarm.threshold))).collect();
    let state = verdict(&bad, alarm.periods, alarm.to_alarm, alarm.missing)?;
    let last: Vec<f64> = values.iter().rev().filter_map(|value| *value).take(alarm.periods).collect();
    let bad_count = bad.iter().rev().flatten().take(alarm.periods).filter(|bad| **bad).count();
    let reason = match last.len() {
        0 if state == State::Insufficient => "Insufficient Data: no datapoints were received".to_owned(),
        0 => format!(
            "no datapoints were received for {} periods and missing ones count as they are set to",
            alarm.periods
        ),
        lasts => format!(
            "Threshold Crossed: {bad_count} out of the last {lasts} datapoints {} crossed the threshold ({}); minimum to alarm: {}",
            json!(last),
            alarm.threshold,
            alarm.to_alarm,
        ),
    };
    Some((state, reason))
}
