//! The service's log lines, of all its tasks in one order. A stream belongs to a task; which release that was of, its task
//! definition says.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use dbird_core::provider::ErrorKind;
use dbird_core::{Cursor, Handle, LogLine, LogPage, LogQuery, ProviderError, ReleaseId, StepId, Target};
use serde::{Deserialize, Serialize};

use crate::AwsProvider;
use crate::error::{Adding, Answer, code, fault};
use crate::rollout::task_id;
use crate::service::apply::release_of;
use crate::service::document::base;
use crate::service::log_group;
use crate::token::Token;

/// What the service's own streams begin with.
const PREFIX: &str = "task/";
/// So many lines are asked for at once.
const PAGE: i32 = 1_000;
/// Pages that are read for one answer at most.
const PAGES_MAX: usize = 20;
/// Lines may arrive this much later than others that were written after them.
const LATE_MS: u64 = 10_000;
/// Without a cursor, as far back as lines are looked for: widened until there are enough.
const BACK_MS: [u64; 3] = [15 * 60_000, 6 * 3_600_000, 30 * 24 * 3_600_000];

/// Where reading goes on: from then, without those that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    from_unix_ms: u64,
    /// The events since then that were read.
    #[serde(default)]
    read: BTreeSet<String>,
    /// Nothing more can come.
    #[serde(default)]
    ended: bool,
}

pub(crate) async fn logs(
    p: &AwsProvider,
    target: &Target,
    query: &LogQuery,
    cursor: Option<&Cursor>,
) -> Result<LogPage, ProviderError> {
    let task = query.task.as_deref().map(task_of);
    let place = match cursor {
        Some(cursor) => Some(serde_json::from_str::<Place>(&cursor.0).map_err(|error| {
            fault(ErrorKind::Invalid, "read the logs", "", "the place to go on from can't be read").because(&error)
        })?),
        None => None,
    };
    if let (Some(place), Some(cursor)) = (&place, cursor)
        && place.ended
    {
        return Ok(LogPage { lines: Vec::new(), next: cursor.clone(), more: false });
    }
    // Asked before the lines are read: what a task that has ended wrote is all there by then, but for CloudWatch's delay.
    let over = match &task {
        Some(task) => ended(p, target, task).await?,
        None => false,
    };
    // What is written while the lines are read comes with the next page.
    let now_unix_ms = p.clock.now_unix_ms();
    let events = match &place {
        Some(place) => read(p, target, task.as_deref(), place.from_unix_ms).await?,
        None => tail(p, target, task.as_deref(), query).await?,
    };
    let known = place.as_ref().map(|place| &place.read);
    let fresh: Vec<_> = events
        .iter()
        .filter(|event| event.event_id().is_none_or(|id| known.is_none_or(|known| !known.contains(id))))
        .collect();
    let releases = releases(p, target, &fresh).await?;
    let mut lines: Vec<_> = fresh.iter().filter_map(|event| line(event, &releases)).collect();
    lines.retain(|line| query.release.is_none_or(|release| line.release == release));
    lines.sort_by_key(|line| line.at_unix_ms);
    if place.is_none() {
        let tail = usize::try_from(query.tail_lines.min(10_000)).unwrap_or(10_000);
        lines.drain(..lines.len().saturating_sub(tail));
    }
    let before = place.as_ref().map_or(0, |place| place.from_unix_ms);
    let ended = over && lines.is_empty() && place.is_some();
    let next = next(before, &events, now_unix_ms, ended);
    let cursor = Cursor(serde_json::to_string(&next).unwrap_or_default());
    Ok(LogPage { lines, next: cursor, more: !ended })
}

/// Where the next page begins: a little before the newest line, so that late ones are not lost, without those that were read.
fn next(before_unix_ms: u64, events: &[FilteredLogEvent], now_unix_ms: u64, ended: bool) -> Place {
    let at = |event: &FilteredLogEvent| event.timestamp().and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
    let newest = events.iter().map(at).max().unwrap_or(if before_unix_ms == 0 { now_unix_ms } else { 0 });
    let from_unix_ms = newest.saturating_sub(LATE_MS).max(before_unix_ms);
    let read = events.iter().filter(|event| at(event) >= from_unix_ms);
    Place { from_unix_ms, read: read.filter_map(|event| event.event_id().map(str::to_owned)).collect(), ended }
}

/// The last lines that one task wrote.
pub(crate) async fn last(p: &AwsProvider, target: &Target, task: &str, release: ReleaseId) -> Vec<String> {
    let query = LogQuery { release: Some(release), task: Some(task_id(task).to_owned()), tail_lines: 50 };
    // They explain a failure; where they can't be had, the failure still is one.
    let page = logs(p, target, &query, None).await;
    page.map(|page| page.lines.into_iter().map(|line| line.text).collect()).unwrap_or_default()
}

/// A task's name, also from the handle's token of a one-off task.
fn task_of(name: &str) -> String {
    let handle = Handle { step: StepId::new("run"), release: ReleaseId(0), token: name.to_owned() };
    match Token::of(&handle) {
        Ok(Token::Task(job)) => task_id(&job.task).to_owned(),
        _ => task_id(name).to_owned(),
    }
}

/// The last lines, looked for further and further back.
async fn tail(
    p: &AwsProvider,
    target: &Target,
    task: Option<&str>,
    query: &LogQuery,
) -> Result<Vec<FilteredLogEvent>, ProviderError> {
    let now = p.clock.now_unix_ms();
    let mut events = Vec::new();
    // All that one task wrote is little enough to be asked for at once.
    let back_ms = if task.is_some() { &BACK_MS[BACK_MS.len() - 1..] } else { &BACK_MS[..] };
    for back in back_ms.iter().copied() {
        events = read(p, target, task, now.saturating_sub(back)).await?;
        if events.len() >= usize::try_from(query.tail_lines).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok(events)
}

/// The lines since then.
async fn read(
    p: &AwsProvider,
    target: &Target,
    task: Option<&str>,
    from_unix_ms: u64,
) -> Result<Vec<FilteredLogEvent>, ProviderError> {
    let group = log_group(target);
    let client = p.clients.logs().await;
    let mut events: Vec<FilteredLogEvent> = Vec::new();
    let mut token = None;
    for _ in 0..PAGES_MAX {
        p.clients.turn("CloudWatch Logs:FilterLogEvents").await;
        let request = client
            .filter_log_events()
            .log_group_name(&group)
            .start_time(i64::try_from(from_unix_ms).unwrap_or(i64::MAX))
            .limit(PAGE)
            .set_next_token(token);
        let request = match task {
            Some(task) => request.log_stream_names(format!("{PREFIX}{}/{task}", target.service)),
            None => request.log_stream_name_prefix(PREFIX),
        };
        let page = match request.send().await {
            // Nothing was written yet.
            Err(error) if code(&error) == "ResourceNotFoundException" => break,
            page => page.or_fault("read the logs", &group)?,
        };
        events.extend(page.events().iter().cloned());
        token = page.next_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    Ok(events)
}

/// True once a task has stopped, or is not known any more.
async fn ended(p: &AwsProvider, target: &Target, task: &str) -> Result<bool, ProviderError> {
    if let Some(stopped) = p.runs.stopped(task) {
        return Ok(stopped);
    }
    p.clients.turn("ECS:DescribeTasks").await;
    let client = p.clients.ecs().await;
    let read =
        client.describe_tasks().cluster(base(target)).tasks(task).send().await.or_fault("read the task", task)?;
    Ok(read.tasks().first().is_none_or(|task| matches!(task.last_status(), Some("STOPPED" | "DELETED"))))
}

/// The release of each task that wrote one of these lines. A task that AWS has forgotten is of no release.
async fn releases(
    p: &AwsProvider,
    target: &Target,
    events: &[&FilteredLogEvent],
) -> Result<BTreeMap<String, ReleaseId>, ProviderError> {
    let names: BTreeSet<_> = events.iter().filter_map(|e| e.log_stream_name()).map(|s| task_id(s).to_owned()).collect();
    let mut releases = BTreeMap::new();
    let mut unknown = Vec::new();
    for name in names {
        match p.rollouts.release(&name) {
            Some(release) => {
                releases.insert(name, release);
            }
            None => unknown.push(name),
        }
    }
    let client = p.clients.ecs().await;
    for names in unknown.chunks(100) {
        let read = client
            .describe_tasks()
            .cluster(base(target))
            .set_tasks(Some(names.to_vec()))
            .send()
            .await
            .or_fault("read the tasks", &target.service)?;
        for task in read.tasks() {
            let (Some(arn), Some(definition)) = (task.task_arn(), task.task_definition_arn()) else { continue };
            releases.insert(task_id(arn).to_owned(), release_of(p, definition).await?);
        }
        for name in names {
            p.rollouts.remember_release(name, releases.get(name).copied().unwrap_or(ReleaseId(0)));
        }
    }
    Ok(releases)
}

fn line(event: &FilteredLogEvent, releases: &BTreeMap<String, ReleaseId>) -> Option<LogLine> {
    let task = task_id(event.log_stream_name()?).to_owned();
    Some(LogLine {
        at_unix_ms: event.timestamp().and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
        release: releases.get(&task).copied().unwrap_or(ReleaseId(0)),
        task,
        // The log driver keeps both streams in one.
        stderr: false,
        text: event.message().unwrap_or_default().trim_end_matches('\n').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, at: i64) -> FilteredLogEvent {
        FilteredLogEvent::builder()
            .event_id(id)
            .timestamp(at)
            .log_stream_name("task/bird/0a1b")
            .message("hello\n")
            .build()
    }

    #[test]
    fn reading_goes_on_a_little_before_the_newest_line() {
        let place = next(0, &[event("a", 100_000), event("b", 105_000), event("c", 112_000)], 200_000, false);
        assert_eq!(place.from_unix_ms, 102_000);
        assert_eq!(place.read, ["b", "c"].map(str::to_owned).into());
        assert_eq!(next(102_000, &[], 300_000, false).from_unix_ms, 102_000, "what comes late is still read");
        assert_eq!(next(0, &[], 300_000, false).from_unix_ms, 290_000, "nothing was written before");
    }

    #[test]
    fn a_line_is_of_its_task_and_release() {
        let releases = BTreeMap::from([("0a1b".to_owned(), ReleaseId(4))]);
        let line = line(&event("a", 5), &releases).unwrap();
        assert_eq!((line.task.as_str(), line.release, line.text.as_str()), ("0a1b", ReleaseId(4), "hello"));
    }

    #[test]
    fn a_task_is_named_by_itself_or_by_its_handle() {
        let job = crate::run::Job {
            cluster: "bird-dev".to_owned(),
            task: "arn:aws:ecs:us-east-1:1:task/bird-dev/0a1b".to_owned(),
            container: "bird".to_owned(),
            until_unix_ms: None,
        };
        let handle = Token::Task(job).handle(&StepId::new("run"), ReleaseId(4));
        for name in ["0a1b", "arn:aws:ecs:us-east-1:1:task/bird-dev/0a1b", handle.token.as_str()] {
            assert_eq!(task_of(name), "0a1b");
        }
    }
}
