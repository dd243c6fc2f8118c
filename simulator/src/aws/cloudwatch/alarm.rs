//! Alarms as the API has them: made, told, forgotten, and set by hand until the next evaluation. What their metrics say is
//! found out elsewhere.

use std::{collections::VecDeque, sync::Arc};

use serde_json::{Map, Value, json};

use super::{
    MINUTE_MS,
    evaluate::{self, Query},
    series::Key,
    verdict::{Missing, State},
};
use crate::aws::{
    Answer, Fault, World, flag, list, number, stamp,
    tags::{self, Tags},
    text,
};

/// Alarms in an account.
const ALARMS_MAX: usize = 5_000;
/// Changes of an alarm that are remembered.
const HISTORY_MAX: usize = 200;
/// What an alarm may look back on.
const LOOKS_BACK_MS_MAX: u64 = 7 * 86_400_000;

#[derive(Debug)]
pub(super) struct Alarm {
    pub(super) arn: String,
    /// Its settings as they were asked for, numbers as numbers.
    pub(super) settings: Map<String, Value>,
    pub(super) queries: Vec<Query>,
    pub(super) periods: usize,
    pub(super) to_alarm: usize,
    pub(super) missing: Missing,
    pub(super) threshold: f64,
    pub(super) comparison: Comparison,
    pub(super) state: State,
    reason: String,
    since_ms: u64,
    changed_ms: u64,
    pub(super) tags: Tags,
    history: VecDeque<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Comparison {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "GreaterThanThreshold" => Some(Comparison::Greater),
            "GreaterThanOrEqualToThreshold" => Some(Comparison::GreaterOrEqual),
            "LessThanThreshold" => Some(Comparison::Less),
            "LessThanOrEqualToThreshold" => Some(Comparison::LessOrEqual),
            _ => None,
        }
    }

    pub(super) fn is_bad(self, value: f64, threshold: f64) -> bool {
        match self {
            Comparison::Greater => value > threshold,
            Comparison::GreaterOrEqual => value >= threshold,
            Comparison::Less => value < threshold,
            Comparison::LessOrEqual => value <= threshold,
        }
    }
}

/// The settings that are kept and told.
const SETTINGS: [&str; 22] = [
    "AlarmName",
    "AlarmDescription",
    "ActionsEnabled",
    "OKActions",
    "AlarmActions",
    "InsufficientDataActions",
    "MetricName",
    "Namespace",
    "Statistic",
    "ExtendedStatistic",
    "Dimensions",
    "Period",
    "Unit",
    "EvaluationPeriods",
    "DatapointsToAlarm",
    "Threshold",
    "ComparisonOperator",
    "TreatMissingData",
    "EvaluateLowSampleCountPercentile",
    "Metrics",
    "ThresholdMetricId",
    "Tags",
];

fn invalid(said: impl Into<String>) -> Fault {
    Fault::new("ValidationError", said)
}

impl Alarm {
    pub(super) fn parse(world: &World, input: &Value) -> Result<Self, Fault> {
        let name = text(input, "AlarmName").unwrap_or_default();
        if name.is_empty() || name.len() > 255 {
            return Err(invalid("The alarm's name must have between 1 and 255 characters"));
        }
        let count = |name: &str| number(input, name).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let periods = count("EvaluationPeriods").ok_or_else(|| invalid("EvaluationPeriods must be at least 1"))?;
        let to_alarm = if input.get("DatapointsToAlarm").is_some_and(|value| !value.is_null()) {
            count("DatapointsToAlarm").filter(|n| *n <= periods)
        } else {
            Some(periods)
        };
        let to_alarm = to_alarm.ok_or_else(|| invalid("DatapointsToAlarm must be between 1 and EvaluationPeriods"))?;
        let comparison = Comparison::parse(text(input, "ComparisonOperator").unwrap_or_default());
        let comparison = comparison.ok_or_else(|| invalid("The ComparisonOperator is missing or is not simulated"))?;
        let missing = Missing::parse(text(input, "TreatMissingData").unwrap_or("missing"));
        let missing = missing.ok_or_else(|| {
            invalid("TreatMissingData must be one of 'breaching', 'notBreaching', 'ignore', 'missing'")
        })?;
        let threshold = evaluate::float(input, "Threshold").ok_or_else(|| invalid("A Threshold is required"))?;
        let queries = evaluate::alarm_queries(input)?;
        let back_ms = evaluate::period_ms(&queries) * periods as u64;
        if back_ms > LOOKS_BACK_MS_MAX {
            return Err(invalid("EvaluationPeriods times Period must not be more than seven days"));
        }
        let given = SETTINGS.iter().filter_map(|name| Some(((*name).to_owned(), input.get(*name)?.clone())));
        let mut settings: Map<String, Value> = given.filter(|(_, value)| !value.is_null()).collect();
        for name in ["EvaluationPeriods", "DatapointsToAlarm", "Period"] {
            if let Some(number) = number(input, name) {
                settings.insert(name.to_owned(), json!(number));
            }
        }
        settings.insert("Threshold".to_owned(), json!(threshold));
        settings.insert("ActionsEnabled".to_owned(), json!(flag(input, "ActionsEnabled").unwrap_or(true)));
        settings.remove("Tags");
        let now_ms = world.clock.now_ms();
        Ok(Alarm {
            arn: world.arn("cloudwatch", &format!("alarm:{name}")),
            settings,
            queries,
            periods,
            to_alarm,
            missing,
            threshold,
            comparison,
            state: State::Insufficient,
            reason: "Unchecked: Initial alarm creation".to_owned(),
            since_ms: now_ms,
            changed_ms: now_ms,
            tags: tags::read(input, "Tags"),
            history: VecDeque::new(),
        })
    }

    pub(super) fn name(&self) -> &str {
        self.settings.get("AlarmName").and_then(Value::as_str).unwrap_or_default()
    }

    /// Another state, or the same for another reason.
    pub(super) fn set(&mut self, state: State, reason: String, now_ms: u64) {
        self.reason = reason;
        if state == self.state {
            return;
        }
        let summary = format!("Alarm updated from {} to {}", self.state.name(), state.name());
        let data = json!({
            "version": "1.0",
            "oldState": { "stateValue": self.state.name() },
            "newState": { "stateValue": state.name(), "stateReason": self.reason },
        });
        self.note("StateUpdate", &summary, &data, now_ms);
        (self.state, self.since_ms) = (state, now_ms);
    }

    fn note(&mut self, kind: &str, summary: &str, data: &Value, now_ms: u64) {
        self.history.push_front(json!({
            "AlarmName": self.name(), "AlarmType": "MetricAlarm", "Timestamp": stamp(now_ms), "HistoryItemType": kind,
            "HistorySummary": summary, "HistoryData": data.to_string(),
        }));
        self.history.truncate(HISTORY_MAX);
    }

    fn describe(&self) -> Value {
        let mut told = self.settings.clone();
        told.insert("AlarmArn".to_owned(), json!(self.arn));
        told.insert("AlarmConfigurationUpdatedTimestamp".to_owned(), stamp(self.changed_ms));
        told.insert("StateValue".to_owned(), json!(self.state.name()));
        told.insert("StateReason".to_owned(), json!(self.reason));
        told.insert("StateUpdatedTimestamp".to_owned(), stamp(self.since_ms));
        told.insert("StateTransitionedTimestamp".to_owned(), stamp(self.since_ms));
        for name in ["OKActions", "AlarmActions", "InsufficientDataActions", "Dimensions"] {
            told.entry(name).or_insert_with(|| json!([]));
        }
        Value::Object(told)
    }
}

/// Makes an alarm or changes one; one that is changed keeps its state until it is evaluated.
pub(super) fn put(world: &Arc<World>, input: &Value) -> Answer {
    let mut alarm = Alarm::parse(world, input)?;
    let now_ms = world.clock.now_ms();
    {
        let mut inside = world.cloudwatch.lock();
        let name = alarm.name().to_owned();
        if let Some(before) = inside.alarms.get_mut(&name) {
            (alarm.state, alarm.since_ms) = (before.state, before.since_ms);
            alarm.reason = std::mem::take(&mut before.reason);
            alarm.tags = std::mem::take(&mut before.tags);
            alarm.history = std::mem::take(&mut before.history);
            alarm.note("ConfigurationUpdate", &format!("Alarm \"{name}\" updated"), &json!({}), now_ms);
        } else {
            if inside.alarms.len() >= ALARMS_MAX {
                return Err(Fault::new("LimitExceeded", "The account has the most alarms that it may have."));
            }
            alarm.note("ConfigurationUpdate", &format!("Alarm \"{name}\" created"), &json!({}), now_ms);
        }
        inside.alarms.insert(name, alarm);
    }
    super::keep_up(world);
    Ok(json!({}))
}

pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let names = tags::texts(input, "AlarmNames");
    let prefix = text(input, "AlarmNamePrefix").unwrap_or_default();
    let state = text(input, "StateValue");
    let types = tags::texts(input, "AlarmTypes");
    let after = text(input, "NextToken").unwrap_or_default();
    let limit = number(input, "MaxRecords").and_then(|n| usize::try_from(n).ok()).unwrap_or(50).clamp(1, 100);
    let inside = world.cloudwatch.lock();
    let wanted = |alarm: &&Alarm| {
        let name = alarm.name();
        (names.is_empty() || names.iter().any(|wanted| wanted == name))
            && name.starts_with(prefix)
            && name > after
            && state.is_none_or(|state| alarm.state.name() == state)
            && (types.is_empty() || types.iter().any(|kind| kind == "MetricAlarm"))
    };
    let mut found: Vec<&Alarm> = inside.alarms.values().filter(wanted).take(limit + 1).collect();
    let more = found.len() > limit;
    found.truncate(limit);
    let told: Vec<Value> = found.iter().map(|alarm| alarm.describe()).collect();
    let mut answer = json!({ "MetricAlarms": told, "CompositeAlarms": [] });
    if let Some(last) = found.last().filter(|_| more) {
        answer["NextToken"] = json!(last.name());
    }
    Ok(answer)
}

pub(super) fn describe_for_metric(world: &Arc<World>, input: &Value) -> Answer {
    let key = Key::parse(input)?;
    let inside = world.cloudwatch.lock();
    let of = |alarm: &&Alarm| alarm.queries.iter().any(|query| query.key() == Some(&key));
    let told: Vec<Value> = inside.alarms.values().filter(of).map(Alarm::describe).collect();
    Ok(json!({ "MetricAlarms": told }))
}

pub(super) fn history(world: &Arc<World>, input: &Value) -> Answer {
    let name = text(input, "AlarmName");
    let kind = text(input, "HistoryItemType");
    let limit = number(input, "MaxRecords").and_then(|n| usize::try_from(n).ok()).unwrap_or(100).clamp(1, 100);
    let inside = world.cloudwatch.lock();
    let items = inside.alarms.values().filter(|alarm| name.is_none_or(|name| alarm.name() == name));
    let items = items.flat_map(|alarm| &alarm.history);
    let items = items.filter(|item| kind.is_none_or(|kind| text(item, "HistoryItemType") == Some(kind)));
    let mut items: Vec<&Value> = items.collect();
    items.sort_by_key(|item| std::cmp::Reverse(item["Timestamp"]["$timestamp_ms"].as_u64()));
    items.truncate(limit);
    Ok(json!({ "AlarmHistoryItems": items }))
}

pub(super) fn delete(world: &Arc<World>, input: &Value) -> Answer {
    let mut inside = world.cloudwatch.lock();
    let names = tags::texts(input, "AlarmNames");
    if names.len() == 1 && !inside.alarms.contains_key(&names[0]) {
        return Err(missing());
    }
    inside.alarms.retain(|name, _| !names.contains(name));
    Ok(json!({}))
}

fn missing() -> Fault {
    Fault::new("ResourceNotFound", "The named alarm does not exist.").with_status(404)
}

/// Sets a state by hand; it holds until the next evaluation says otherwise.
pub(super) fn set_state(world: &Arc<World>, input: &Value) -> Answer {
    let state = State::parse(text(input, "StateValue").unwrap_or_default());
    let state = state.ok_or_else(|| invalid("StateValue must be one of 'OK', 'ALARM', 'INSUFFICIENT_DATA'"))?;
    let mut inside = world.cloudwatch.lock();
    let alarm = inside.alarms.get_mut(text(input, "AlarmName").unwrap_or_default()).ok_or_else(missing)?;
    alarm.set(state, text(input, "StateReason").unwrap_or_default().to_owned(), world.clock.now_ms());
    Ok(json!({}))
}

pub(super) fn actions(world: &Arc<World>, input: &Value, on: bool) -> Answer {
    let mut inside = world.cloudwatch.lock();
    for name in tags::texts(input, "AlarmNames") {
        if let Some(alarm) = inside.alarms.get_mut(&name) {
            alarm.settings.insert("ActionsEnabled".to_owned(), json!(on));
        }
    }
    Ok(json!({}))
}

pub(super) fn tags(world: &Arc<World>, operation: &str, input: &Value) -> Answer {
    let arn = text(input, "ResourceARN").unwrap_or_default();
    let mut inside = world.cloudwatch.lock();
    let Some(alarm) = inside.alarms.values_mut().find(|alarm| alarm.arn == arn) else {
        return Err(Fault::new("ResourceNotFoundException", format!("{arn} does not exist.")).with_status(404));
    };
    match operation {
        "TagResource" => alarm.tags.extend(tags::read(input, "Tags")),
        "UntagResource" => tags::texts(input, "TagKeys").iter().for_each(|key| drop(alarm.tags.remove(key))),
        _ => return Ok(json!({ "Tags": tags::write(&alarm.tags) })),
    }
    Ok(json!({}))
}

/// Evaluates every alarm by the periods that ended at this instant or before.
pub(super) fn follow(world: &Arc<World>, now_ms: u64) {
    let mut inside = world.cloudwatch.lock();
    let inside = &mut *inside;
    let end_ms = now_ms / MINUTE_MS * MINUTE_MS;
    for alarm in inside.alarms.values_mut() {
        if let Some((state, reason)) = evaluate::alarm(alarm, &inside.measured, end_ms) {
            alarm.set(state, reason, now_ms);
        }
    }
}

/// The dimensions of every alarm's metrics in a namespace.
pub(super) fn watched(world: &World, namespace: &str) -> Vec<Key> {
    let inside = world.cloudwatch.lock();
    let queries = inside.alarms.values().flat_map(|alarm| &alarm.queries);
    queries.filter_map(Query::key).filter(|key| key.namespace == namespace).cloned().collect()
}

/// The names of metrics in a list of queries as an input has them.
pub(super) fn metrics(input: &Value) -> &[Value] {
    list(input, "Metrics")
}
