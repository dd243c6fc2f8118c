//! Lines in and out: putting them, reading one stream, and searching a group's streams together.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Line, group_name, no_group, no_stream, pattern::Pattern};
use crate::aws::{Answer, Fault, World, flag, list, number, tags::texts, text};

/// Lines in one answer.
const LINES_MAX: usize = 10_000;
/// Bytes of one answer, each line's 26 of its own included.
const BYTES_MAX: usize = 1 << 20;
/// Lines in one call that puts them.
const PUT_MAX: usize = 10_000;

pub(super) fn put(world: &Arc<World>, input: &Value) -> Answer {
    let events = list(input, "logEvents");
    if events.is_empty() || events.len() > PUT_MAX {
        return Err(Fault::new("InvalidParameterException", "A call must put between 1 and 10000 log events"));
    }
    let at = |event: &Value| number(event, "timestamp").and_then(|at| u64::try_from(at).ok()).unwrap_or_default();
    if !events.is_sorted_by_key(at) {
        let said = "Log events in a single PutLogEvents request must be in chronological order.";
        return Err(Fault::new("InvalidParameterException", said));
    }
    let now_ms = world.clock.now_ms();
    let mut groups = world.logs.lock();
    let group = groups.get_mut(&group_name(input)).ok_or_else(no_group)?;
    let stream = text(input, "logStreamName").unwrap_or_default();
    if !group.streams.contains_key(stream) {
        return Err(no_stream());
    }
    for event in events {
        group.add(stream, at(event), now_ms, text(event, "message").unwrap_or_default());
    }
    Ok(json!({ "nextSequenceToken": format!("{:056}", group.lines) }))
}

/// From when until when, and how many.
struct Span {
    from_ms: u64,
    until_ms: u64,
    limit: usize,
}

impl Span {
    fn of(input: &Value) -> Self {
        let at = |name: &str| number(input, name).and_then(|at| u64::try_from(at).ok());
        let limit = number(input, "limit").and_then(|n| usize::try_from(n).ok()).unwrap_or(LINES_MAX);
        Span {
            from_ms: at("startTime").unwrap_or_default(),
            until_ms: at("endTime").unwrap_or(u64::MAX),
            limit: limit.clamp(1, LINES_MAX),
        }
    }

    /// The end is inclusive when a group is searched, and exclusive when a stream is read.
    fn has(&self, line: &Line, end_too: bool) -> bool {
        self.from_ms <= line.at_ms && (line.at_ms < self.until_ms || end_too && line.at_ms == self.until_ms)
    }
}

/// One stream: forward tokens are `f/LINE`, backward ones `b/LINE`; the same one again means that there is no more.
pub(super) fn get(world: &Arc<World>, input: &Value) -> Answer {
    let groups = world.logs.lock();
    let group = groups.get(&group_name(input)).ok_or_else(no_group)?;
    let stream = group.streams.get(text(input, "logStreamName").unwrap_or_default()).ok_or_else(no_stream)?;
    let span = Span::of(input);
    let mut fitting: Vec<&Line> = stream.lines.iter().filter(|line| span.has(line, false)).collect();
    let token = text(input, "nextToken");
    let invalid = || Fault::new("InvalidParameterException", "The specified nextToken is invalid.");
    let place = |token: &str| token.parse::<u64>().map_err(|_| invalid());
    // Tokens name the line that was told last (forward) or first (backward); lines are counted as they come.
    let mut told: Vec<&Line> = match token.and_then(|token| token.split_once('/')) {
        Some(("f", after)) => {
            let after = place(after)?;
            fitting.into_iter().filter(|line| line.id > after).take(span.limit).collect()
        }
        Some(("b", before)) => {
            let before = place(before)?;
            let mut back: Vec<&Line> =
                fitting.into_iter().rev().filter(|line| line.id < before).take(span.limit).collect();
            back.reverse();
            back
        }
        _ if token.is_some() => return Err(invalid()),
        _ if flag(input, "startFromHead").unwrap_or_default() => fitting.into_iter().take(span.limit).collect(),
        _ => fitting.split_off(fitting.len().saturating_sub(span.limit)),
    };
    let mut bytes = 0;
    let fits = told.iter().take_while(|line| {
        bytes += line.text.len() + 26;
        bytes <= BYTES_MAX
    });
    let fits = fits.count().max(1);
    told.truncate(fits);
    let kept = token.and_then(|token| token.split_once('/')).map_or("0", |(_, at)| at);
    let mark = |direction: char, line: Option<u64>| match line {
        Some(id) => format!("{direction}/{id:056}"),
        None => format!("{direction}/{:0>56}", kept),
    };
    let events: Vec<Value> = told
        .iter()
        .map(|line| json!({ "timestamp": line.at_ms, "ingestionTime": line.taken_ms, "message": line.text }))
        .collect();
    Ok(json!({
        "events": events,
        "nextForwardToken": mark('f', told.iter().map(|line| line.id).max()),
        "nextBackwardToken": mark('b', told.iter().map(|line| line.id).min()),
    }))
}

/// Several streams together, by time.
pub(super) fn filter(world: &Arc<World>, input: &Value) -> Answer {
    let groups = world.logs.lock();
    let group = groups.get(&group_name(input)).ok_or_else(no_group)?;
    let span = Span::of(input);
    let pattern = Pattern::parse(text(input, "filterPattern").unwrap_or_default())?;
    let names = texts(input, "logStreamNames");
    if let Some(missing) = names.iter().find(|name| !group.streams.contains_key(*name)) {
        let said = format!("The specified log stream does not exist: {missing}");
        return Err(Fault::new("ResourceNotFoundException", said));
    }
    let prefix = text(input, "logStreamNamePrefix").unwrap_or_default();
    let streams =
        group.streams.iter().filter(|(name, _)| name.starts_with(prefix) && (names.is_empty() || names.contains(name)));
    let lines = streams.flat_map(|(name, stream)| stream.lines.iter().map(move |line| (name, line)));
    let mut found: Vec<_> = lines.filter(|(_, line)| span.has(line, true) && pattern.matches(&line.text)).collect();
    found.sort_by_key(|(_, line)| (line.at_ms, line.id));
    // A token is the time and the number of the line that was told last, so that lines which come meanwhile move nothing.
    let invalid = || Fault::new("InvalidParameterException", "The specified nextToken is invalid.");
    if let Some(token) = text(input, "nextToken") {
        let (at_ms, id) = token.split_once('-').ok_or_else(invalid)?;
        let after: (u64, u64) = (at_ms.parse().map_err(|_| invalid())?, id.parse().map_err(|_| invalid())?);
        found.retain(|(_, line)| (line.at_ms, line.id) > after);
    }
    let mut bytes = 0;
    let fits = found.iter().take(span.limit).take_while(|(_, line)| {
        bytes += line.text.len() + 26;
        bytes <= BYTES_MAX
    });
    let count = fits.count().max(1);
    let more = found.len() > count;
    found.truncate(count);
    let events: Vec<Value> = found
        .iter()
        .map(|(stream, line)| {
            json!({
                "logStreamName": stream, "timestamp": line.at_ms, "ingestionTime": line.taken_ms, "message": line.text,
                "eventId": format!("{:056}", line.id),
            })
        })
        .collect();
    let mut answer = json!({ "events": events, "searchedLogStreams": [] });
    if let Some((_, last)) = found.last().filter(|_| more) {
        answer["nextToken"] = json!(format!("{}-{}", last.at_ms, last.id));
    }
    Ok(answer)
}
