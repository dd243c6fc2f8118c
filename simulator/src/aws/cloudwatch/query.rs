//! Metrics as the API puts and gets them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    MINUTE_MS,
    evaluate::{self, float},
    series::{Key, Series, Statistic},
};
use crate::aws::{Answer, Fault, World, list as members, number, stamp, tags::texts, text, time_ms};

/// Data in a call that puts them.
const DATA_MAX: usize = 1_000;
/// Periods that one call may ask for, over all its queries.
const POINTS_MAX: u64 = 100_800;

pub(super) fn put(world: &Arc<World>, input: &Value) -> Answer {
    let data = members(input, "MetricData");
    if data.len() > DATA_MAX {
        return Err(Fault::new("LimitExceeded", "The collection MetricData must not have a size greater than 1000."));
    }
    let now_ms = world.clock.now_ms();
    let namespace = input.get("Namespace").cloned().unwrap_or_default();
    let mut inside = world.cloudwatch.lock();
    for datum in data {
        let mut named = datum.clone();
        named["Namespace"] = namespace.clone();
        let key = Key::parse(&named)?;
        let unit_ms = if number(datum, "StorageResolution") == Some(1) { 1_000 } else { MINUTE_MS };
        let at_ms = time_ms(datum, "Timestamp").unwrap_or(now_ms) / unit_ms * unit_ms;
        let into = inside.measured.at(key, at_ms);
        if let Some(value) = float(datum, "Value") {
            into.add(value, 1.0);
        }
        let counts = members(datum, "Counts");
        for (at, value) in members(datum, "Values").iter().enumerate() {
            let count = counts.get(at).map_or(Some(1.0), as_float).unwrap_or(1.0);
            if let Some(value) = as_float(value) {
                into.add(value, count);
            }
        }
        if let Some(set) = datum.get("StatisticValues") {
            let part = |name| float(set, name).unwrap_or_default();
            into.add_set(part("SampleCount"), part("Sum"), part("Minimum"), part("Maximum"));
        }
    }
    drop(inside);
    super::keep_up(world);
    Ok(json!({}))
}

fn as_float(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn span(input: &Value) -> Result<(u64, u64), Fault> {
    let bound = |name| {
        time_ms(input, name).ok_or_else(|| Fault::new("MissingParameter", format!("The parameter {name} is required.")))
    };
    let (from_ms, until_ms) = (bound("StartTime")?, bound("EndTime")?);
    if from_ms >= until_ms {
        let said = "The parameter StartTime must be less than the parameter EndTime.";
        return Err(Fault::new("ValidationError", said));
    }
    Ok((from_ms, until_ms))
}

/// The newest first, unless they are asked for the other way round.
pub(super) fn data(world: &Arc<World>, input: &Value) -> Answer {
    let queries = evaluate::queries(members(input, "MetricDataQueries"))?;
    let (from_ms, until_ms) = span(input)?;
    let period_ms = evaluate::period_ms(&queries);
    let from_ms = from_ms / period_ms * period_ms;
    if (until_ms - from_ms) / period_ms * queries.len() as u64 > POINTS_MAX {
        return Err(Fault::new("ValidationError", "The call asks for too many data points"));
    }
    let all = {
        let inside = world.cloudwatch.lock();
        evaluate::evaluate(&queries, &inside.measured, from_ms, until_ms)?
    };
    let ascending = text(input, "ScanBy") == Some("TimestampAscending");
    let results: Vec<Value> = queries
        .iter()
        .filter(|query| query.told)
        .map(|query| {
            let mut points: Vec<(u64, f64)> = all[&query.id].iter().map(|(at, value)| (*at, *value)).collect();
            if !ascending {
                points.reverse();
            }
            json!({
                "Id": query.id, "Label": query.label(), "StatusCode": "Complete", "Messages": [],
                "Timestamps": points.iter().map(|(at, _)| stamp(*at)).collect::<Vec<_>>(),
                "Values": points.iter().map(|(_, value)| json!(value)).collect::<Vec<_>>(),
            })
        })
        .collect();
    Ok(json!({ "MetricDataResults": results, "Messages": [] }))
}

pub(super) fn statistics(world: &Arc<World>, input: &Value) -> Answer {
    let key = Key::parse(input)?;
    let (from_ms, until_ms) = span(input)?;
    let period_ms = number(input, "Period").and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0).unwrap_or(60) * 1000;
    let from_ms = from_ms / period_ms * period_ms;
    let inside = world.cloudwatch.lock();
    let of = |name: &String| -> Result<(String, Series), Fault> {
        let statistic = Statistic::parse(name)?;
        Ok((name.clone(), inside.measured.series(&key, statistic, from_ms, until_ms, period_ms)))
    };
    let plain: Vec<_> = texts(input, "Statistics").iter().map(of).collect::<Result<_, _>>()?;
    let extended: Vec<_> = texts(input, "ExtendedStatistics").iter().map(of).collect::<Result<_, _>>()?;
    let mut times: Vec<u64> = plain.iter().chain(&extended).flat_map(|(_, series)| series.keys().copied()).collect();
    times.sort_unstable();
    times.dedup();
    let point = |at: &u64| {
        let mut point = json!({ "Timestamp": stamp(*at), "Unit": "None" });
        for (name, series) in &plain {
            point[name] = json!(series.get(at));
        }
        if !extended.is_empty() {
            let values = extended.iter().filter_map(|(name, series)| Some((name.clone(), json!(series.get(at)?))));
            point["ExtendedStatistics"] = Value::Object(values.collect());
        }
        point
    };
    Ok(json!({ "Label": key.name, "Datapoints": times.iter().map(point).collect::<Vec<_>>() }))
}

pub(super) fn list(world: &Arc<World>, input: &Value) -> Answer {
    let inside = world.cloudwatch.lock();
    let (namespace, name) = (text(input, "Namespace"), text(input, "MetricName"));
    let filters = members(input, "Dimensions");
    let fits = |key: &&Key| {
        namespace.is_none_or(|wanted| key.namespace == wanted)
            && name.is_none_or(|wanted| key.name == wanted)
            && filters.iter().all(|filter| {
                let found = key.dimensions.get(text(filter, "Name").unwrap_or_default());
                found.is_some_and(|found| text(filter, "Value").is_none_or(|wanted| found == wanted))
            })
    };
    let told = inside.measured.keys().filter(fits).map(|key| {
        let dimensions = key.dimensions.iter().map(|(name, value)| json!({ "Name": name, "Value": value }));
        json!({
            "Namespace": key.namespace, "MetricName": key.name, "Dimensions": dimensions.collect::<Vec<_>>(),
        })
    });
    Ok(json!({ "Metrics": told.take(500).collect::<Vec<_>>() }))
}
