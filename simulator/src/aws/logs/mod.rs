//! CloudWatch Logs: groups, streams and their lines. It keeps so many of the newest lines and never writes one to disk.

mod events;
mod kinds;
mod pattern;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};

pub(crate) use kinds::KINDS;

use super::{
    Answer, Call, Fault, World, number,
    tags::{self, Tags},
    text,
};

/// Groups in an account.
const GROUPS_MAX: usize = 10_000;
/// Streams of a group; the one that was silent longest goes.
const STREAMS_MAX: usize = 5_000;
/// Lines of a stream; the oldest go.
const LINES_MAX: usize = 20_000;
/// The days that a group's lines may be kept.
const RETENTION_DAYS: [i64; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

/// The groups, by name.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    groups: Mutex<BTreeMap<String, Group>>,
}

#[derive(Debug, Default)]
struct Group {
    created_ms: u64,
    retention_days: Option<i64>,
    key: Option<String>,
    class: Option<String>,
    tags: Tags,
    streams: BTreeMap<String, Stream>,
    /// Counts lines: each gets an id that is greater than those before.
    lines: u64,
}

#[derive(Debug, Default)]
struct Stream {
    created_ms: u64,
    lines: VecDeque<Line>,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct Line {
    id: u64,
    at_ms: u64,
    taken_ms: u64,
    text: String,
}

impl Logs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is such a group.
    pub(crate) fn group_exists(&self, group: &str) -> bool {
        self.lock().contains_key(group)
    }

    /// Adds a line, and its stream where there is none yet. `unix_ms` is in simulated time.
    pub(crate) fn append(world: &Arc<World>, group: &str, stream: &str, unix_ms: u64, line: &str) -> Result<(), Fault> {
        let now_ms = world.clock.now_ms();
        let mut groups = world.logs.lock();
        let group = groups.get_mut(group).ok_or_else(no_group)?;
        group.stream(stream, now_ms);
        group.add(stream, unix_ms, now_ms, line);
        Ok(())
    }
}

impl Group {
    fn stream(&mut self, name: &str, now_ms: u64) {
        if self.streams.contains_key(name) {
            return;
        }
        if self.streams.len() >= STREAMS_MAX {
            let last = |stream: &Stream| stream.lines.back().map_or(stream.created_ms, |line| line.taken_ms);
            let silent = self.streams.iter().min_by_key(|(_, stream)| last(stream)).map(|(name, _)| name.clone());
            silent.iter().for_each(|name| drop(self.streams.remove(name)));
        }
        self.streams.insert(name.to_owned(), Stream { created_ms: now_ms, ..Stream::default() });
    }

    fn add(&mut self, stream: &str, at_ms: u64, taken_ms: u64, line: &str) {
        let Some(stream) = self.streams.get_mut(stream) else { return };
        self.lines += 1;
        let line = Line { id: self.lines, at_ms, taken_ms, text: line.to_owned() };
        // 26 bytes are what the service counts for each line's own.
        stream.bytes += line.text.len() as u64 + 26;
        let place = stream.lines.iter().rposition(|before| before.at_ms <= at_ms).map_or(0, |before| before + 1);
        stream.lines.insert(place, line);
        if stream.lines.len() > LINES_MAX {
            stream.lines.pop_front();
        }
    }

    fn arn(world: &World, name: &str) -> String {
        world.arn("logs", &format!("log-group:{name}"))
    }

    fn describe(&self, world: &World, name: &str) -> Value {
        let arn = Group::arn(world, name);
        let mut told = json!({
            "logGroupName": name, "arn": format!("{arn}:*"), "logGroupArn": arn, "creationTime": self.created_ms,
            "storedBytes": self.streams.values().map(|stream| stream.bytes).sum::<u64>(), "metricFilterCount": 0,
            "logGroupClass": self.class.as_deref().unwrap_or("STANDARD"),
        });
        if let Some(days) = self.retention_days {
            told["retentionInDays"] = json!(days);
        }
        if let Some(key) = &self.key {
            told["kmsKeyId"] = json!(key);
        }
        told
    }
}

fn no_group() -> Fault {
    Fault::new("ResourceNotFoundException", "The specified log group does not exist.")
}

fn no_stream() -> Fault {
    Fault::new("ResourceNotFoundException", "The specified log stream does not exist.")
}

/// A group's name, wherever an input has it.
fn group_name(input: &Value) -> String {
    let id = ["logGroupName", "logGroupIdentifier", "resourceArn"].iter().find_map(|name| text(input, name));
    let id = id.unwrap_or_default();
    id.split_once(":log-group:").map_or(id, |(_, name)| name).trim_end_matches(":*").to_owned()
}

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let input = &call.input;
    let name = group_name(input);
    let now_ms = world.clock.now_ms();
    match call.operation.as_str() {
        "CreateLogGroup" => return create(world, input).map(|()| json!({})),
        "DescribeLogGroups" => return describe_groups(world, input),
        "PutLogEvents" => return events::put(world, input),
        "GetLogEvents" => return events::get(world, input),
        "FilterLogEvents" => return events::filter(world, input),
        _ => {}
    }
    let mut groups = world.logs.lock();
    let group = groups.get_mut(&name).ok_or_else(no_group)?;
    let stream = text(input, "logStreamName").unwrap_or_default();
    match call.operation.as_str() {
        "DeleteLogGroup" => drop(groups.remove(&name)),
        "PutRetentionPolicy" => group.retention_days = Some(retention(input, "retentionInDays")?),
        "DeleteRetentionPolicy" => group.retention_days = None,
        "CreateLogStream" => {
            if group.streams.contains_key(stream) {
                return Err(Fault::new("ResourceAlreadyExistsException", "The specified log stream already exists"));
            }
            if stream.is_empty() || stream.contains([':', '*']) {
                return Err(Fault::new("InvalidParameterException", "The name of the log stream is not valid"));
            }
            group.stream(stream, now_ms);
        }
        "DeleteLogStream" => drop(group.streams.remove(stream).ok_or_else(no_stream)?),
        "DescribeLogStreams" => return describe_streams(world, &name, group, input),
        "TagResource" | "TagLogGroup" => {
            let given = input.get("tags").and_then(Value::as_object).into_iter().flatten();
            group.tags.extend(given.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))));
        }
        "UntagResource" => tags::texts(input, "tagKeys").iter().for_each(|key| drop(group.tags.remove(key))),
        "ListTagsForResource" | "ListTagsLogGroup" => return Ok(json!({ "tags": group.tags })),
        _ => return Err(Fault::unknown(&call.service, &call.operation)),
    }
    Ok(json!({}))
}

fn retention(input: &Value, member: &str) -> Result<i64, Fault> {
    let days = number(input, member).unwrap_or_default();
    if RETENTION_DAYS.contains(&days) {
        return Ok(days);
    }
    Err(Fault::new("InvalidParameterException", format!("'{days}' is not a number of days that logs can be kept for")))
}

fn create(world: &Arc<World>, input: &Value) -> Result<(), Fault> {
    let name = text(input, "logGroupName").unwrap_or_default();
    let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-/.#".contains(&byte));
    if name.is_empty() || name.len() > 512 || !valid {
        let said = format!("Value '{name}' at 'logGroupName' failed to satisfy constraint: [\\.\\-_/#A-Za-z0-9]+");
        return Err(Fault::new("InvalidParameterException", said));
    }
    let mut groups = world.logs.lock();
    if groups.contains_key(name) {
        return Err(Fault::new("ResourceAlreadyExistsException", "The specified log group already exists"));
    }
    if groups.len() >= GROUPS_MAX {
        return Err(Fault::new("LimitExceededException", "Resource limit exceeded."));
    }
    let own = input.get("tags").and_then(Value::as_object).into_iter().flatten();
    let group = Group {
        created_ms: world.clock.now_ms(),
        key: text(input, "kmsKeyId").map(str::to_owned),
        class: text(input, "logGroupClass").map(str::to_owned),
        tags: own.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
        ..Group::default()
    };
    groups.insert(name.to_owned(), group);
    Ok(())
}

fn describe_groups(world: &Arc<World>, input: &Value) -> Answer {
    let prefix = text(input, "logGroupNamePrefix").unwrap_or_default();
    let part = text(input, "logGroupNamePattern").unwrap_or_default();
    let after = text(input, "nextToken").unwrap_or_default();
    let limit = number(input, "limit").and_then(|n| usize::try_from(n).ok()).unwrap_or(50).clamp(1, 50);
    let groups = world.logs.lock();
    let fit = |name: &&String| name.starts_with(prefix) && name.contains(part) && name.as_str() > after;
    let mut names: Vec<&String> = groups.keys().filter(fit).take(limit + 1).collect();
    let more = names.len() > limit;
    names.truncate(limit);
    let told: Vec<Value> = names.iter().map(|name| groups[*name].describe(world, name)).collect();
    let mut answer = json!({ "logGroups": told });
    if let Some(last) = names.last().filter(|_| more) {
        answer["nextToken"] = json!(last);
    }
    Ok(answer)
}

fn describe_streams(world: &World, name: &str, group: &Group, input: &Value) -> Answer {
    let prefix = text(input, "logStreamNamePrefix").unwrap_or_default();
    let descending = super::flag(input, "descending").unwrap_or_default();
    let by_time = text(input, "orderBy") == Some("LastEventTime");
    let from = text(input, "nextToken").and_then(|token| token.parse().ok()).unwrap_or(0usize);
    let limit = number(input, "limit").and_then(|n| usize::try_from(n).ok()).unwrap_or(50).clamp(1, 50);
    let mut streams: Vec<(&String, &Stream)> =
        group.streams.iter().filter(|(name, _)| name.starts_with(prefix)).collect();
    if by_time {
        streams.sort_by_key(|(_, stream)| stream.lines.back().map_or(0, |line| line.at_ms));
    }
    if descending {
        streams.reverse();
    }
    let told = streams.iter().skip(from).take(limit).map(|(stream_name, stream)| {
        let mut told = json!({
            "logStreamName": stream_name, "creationTime": stream.created_ms, "storedBytes": 0,
            "arn": format!("{}:log-stream:{stream_name}", Group::arn(world, name)),
        });
        if let (Some(first), Some(last)) = (stream.lines.front(), stream.lines.back()) {
            told["firstEventTimestamp"] = json!(first.at_ms);
            told["lastEventTimestamp"] = json!(last.at_ms);
            told["lastIngestionTime"] = json!(last.taken_ms);
            told["uploadSequenceToken"] = json!(format!("{:056}", last.id));
        }
        told
    });
    let mut answer = json!({ "logStreams": told.collect::<Vec<_>>() });
    if streams.len() > from + limit {
        answer["nextToken"] = json!((from + limit).to_string());
    }
    Ok(answer)
}
