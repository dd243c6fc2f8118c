//! Log lines of tasks, read from their folders, so that they are there with and without an agent. It decides the order in
//! which lines of several tasks come; nothing is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dataplane::files;
use dataplane::logs::{self, Line, Position, Stream};
use dataplane::task::{self, Record};
use dbird_core::provider::{ErrorKind, Result};
use dbird_core::{Cursor, LogLine, LogPage, LogQuery, ProviderError, ReleaseId, Target};
use serde::{Deserialize, Serialize};

use crate::agent::state::State;
use crate::config::Paths;
use crate::fault::{disk, fault};
use crate::provider::LocalProvider;

/// Lines of one page.
const PAGE_LINES_MAX: usize = 1000;
/// Lines that can be asked for at the beginning.
const TAIL_LINES_MAX: usize = 10_000;

/// Where each task's log was read up to.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Positions(BTreeMap<String, Position>);

impl LocalProvider {
    pub(crate) fn do_logs(&self, target: &Target, query: &LogQuery, cursor: Option<&Cursor>) -> Result<LogPage> {
        let paths = self.paths(target)?;
        let tasks = wanted(&paths, query)?;
        let before: Option<Positions> = cursor
            .map(|cursor| serde_json::from_str(&cursor.0))
            .transpose()
            .map_err(|_| fault(ErrorKind::Invalid, "logs", "", "the cursor is not one of this provider"))?;
        // Looked at first: what a task writes before it ends is read after that.
        let more = may_grow(&paths, query, &tasks);
        let tail = before.is_none();
        let mut positions = before.unwrap_or_default();
        let lines_max = if tail { (query.tail_lines as usize).min(TAIL_LINES_MAX) } else { PAGE_LINES_MAX };
        let mut lines: Vec<(Record, Line)> = Vec::new();
        for (folder, record) in tasks {
            let read = match positions.0.get(&record.id) {
                Some(from) => logs::read(&folder, *from, lines_max),
                None if tail => logs::tail(&folder, lines_max).map(|(lines, next)| {
                    positions.0.insert(record.id.clone(), next);
                    lines
                }),
                None => logs::read(&folder, Position::default(), lines_max),
            };
            match read {
                Ok(read) => lines.extend(read.into_iter().map(|line| (record.clone(), line))),
                Err(error) => {
                    return Err(disk("logs", folder.display().to_string(), "can't read a task's log", &error));
                }
            }
        }
        // Stable, so that lines of one task keep their order.
        lines.sort_by_key(|(_, line)| line.at_unix_ms);
        let (mut more_now, surplus) = (more, lines.len().saturating_sub(lines_max));
        if tail {
            lines.drain(..surplus);
        } else if surplus > 0 {
            lines.truncate(lines_max);
            more_now = true;
        }
        if !tail {
            for (record, line) in &lines {
                positions.0.insert(record.id.clone(), line.after);
            }
            more_now |= lines.len() == lines_max;
        }
        let next = serde_json::to_string(&positions)
            .map(Cursor)
            .map_err(|error| fault(ErrorKind::Internal, "logs", "", error.to_string()))?;
        Ok(LogPage {
            lines: lines.into_iter().map(|(record, line)| shown(&record, line)).collect(),
            next,
            more: more_now,
        })
    }
}

fn shown(record: &Record, line: Line) -> LogLine {
    LogLine {
        at_unix_ms: line.at_unix_ms,
        release: release_of(record),
        task: record.id.clone(),
        stderr: line.stream == Stream::Err,
        text: line.text,
    }
}

fn release_of(record: &Record) -> ReleaseId {
    record.group.parse().unwrap_or(ReleaseId(0))
}

/// The tasks that a query is about, oldest first. One-off tasks only where they are named.
fn wanted(paths: &Paths, query: &LogQuery) -> Result<Vec<(PathBuf, Record)>> {
    let tasks = paths.tasks();
    let unreadable =
        |error| -> ProviderError { disk("logs", tasks.display().to_string(), "can't read the tasks' folder", &error) };
    let mut found: Vec<(PathBuf, Record)> = files::names(&tasks)
        .map_err(unreadable)?
        .into_iter()
        .filter(|name| query.task.as_ref().is_none_or(|task| task == name))
        .filter_map(|name| Some((tasks.join(&name), task::record(&tasks.join(&name))?)))
        .filter(|(_, record)| query.task.is_some() || record.slot.is_some())
        .filter(|(_, record)| query.release.is_none_or(|release| release_of(record) == release))
        .collect();
    found.sort_by_key(|(_, record)| (record.made_unix_ms, record.id.clone()));
    match &query.task {
        Some(task) if found.is_empty() => {
            Err(fault(ErrorKind::NotFound, "logs", task, format!("there is no task {task}")))
        }
        _ => Ok(found),
    }
}

/// Whether lines may still come.
fn may_grow(paths: &Paths, query: &LogQuery, tasks: &[(PathBuf, Record)]) -> bool {
    let runs = |folder: &Path| task::exit_of(folder).is_none();
    if tasks.iter().any(|(folder, _)| runs(folder)) {
        return true;
    }
    if query.task.is_some() {
        return false;
    }
    // A task that died is followed by another one as long as its release is kept up.
    State::load(&paths.state()).is_ok_and(|state| {
        let wanted = |release: &ReleaseId| query.release.is_none_or(|asked| asked == *release);
        state.releases.iter().any(|(release, record)| record.up && wanted(release))
    })
}
