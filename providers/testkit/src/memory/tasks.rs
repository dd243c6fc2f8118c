//! One-off tasks and logs of the in-memory provider. A task's first word says what it does: `exit CODE`, `lines COUNT`,
//! `sleep MS`.

use dbird_core::{
    Command, Cursor, Handle, LogPage, LogQuery, Phase, Progress, ProviderError, ReleaseId, StepId, provider::ErrorKind,
};

use super::cloud::{Cloud, error};
use crate::broken::Fault;

/// How long a task takes to start and end, beside what it does.
const TASK_MS: u64 = 20;
/// Lines in a page.
const PAGE: usize = 64;

/// A one-off task.
#[derive(Debug, Clone)]
pub(super) struct Task {
    release: ReleaseId,
    token: String,
    started_ms: u64,
    until_ms: u64,
    lines: u64,
    written: u64,
    end: End,
    pub(super) ended: bool,
}

#[derive(Debug, Clone)]
enum End {
    Exits(i32),
    RunsOutOfTime,
    Stopped,
}

impl Task {
    pub(super) fn next_ms(&self) -> Option<u64> {
        if self.ended {
            return None;
        }
        let next_line_ms = (self.written < self.lines).then(|| self.started_ms + self.written + 1);
        Some(next_line_ms.unwrap_or(self.until_ms).min(self.until_ms))
    }

    pub(super) fn progress(&self) -> Progress {
        if !self.ended {
            return Progress::in_phase(Phase::Working);
        }
        match &self.end {
            End::Exits(code) => Progress { exit_code: Some(*code), ..Progress::in_phase(Phase::Finished) },
            End::RunsOutOfTime => failed("it ran out of time"),
            End::Stopped => failed("it was stopped"),
        }
    }
}

fn failed(why: &str) -> Progress {
    Progress::in_phase(Phase::Failed { why: why.to_owned(), logs: Vec::new() })
}

impl Cloud {
    pub(super) fn run(&mut self, command: &Command, now_ms: u64) -> Result<Handle, ProviderError> {
        let mut token = format!("{}-{}", command.release, command.key);
        if self.fault == Some(Fault::IgnoresKeys) {
            token += &format!("-{}", self.tasks.len());
        }
        let handle = Handle { step: StepId::new("run"), release: command.release, token: token.clone() };
        if self.tasks.contains_key(&token) {
            return Ok(handle);
        }
        if !self.running.contains_key(&command.release) {
            return Err(error(ErrorKind::NotFound, "run", format!("{} has no tasks", command.release)));
        }
        let number = |at: usize| command.argv.get(at).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        let (mut end, mut lines, mut takes_ms) = (End::Exits(0), 0, TASK_MS);
        match command.argv.first().map(String::as_str) {
            Some("exit") => end = End::Exits(i32::try_from(number(1)).unwrap_or(255)),
            Some("lines") => (lines, takes_ms) = (number(1), TASK_MS + number(1)),
            Some("sleep") => takes_ms = number(1),
            _ => end = End::Exits(127),
        }
        if self.fault == Some(Fault::AlwaysExitsWell) {
            end = End::Exits(0);
        }
        if let Some(limit_ms) = command.timeout_ms.filter(|limit| *limit < takes_ms) {
            (end, takes_ms) = (End::RunsOutOfTime, limit_ms);
        }
        let task = Task {
            release: command.release,
            token: token.clone(),
            started_ms: now_ms,
            until_ms: now_ms + takes_ms,
            lines,
            written: 0,
            end,
            ended: false,
        };
        self.tasks.insert(token, task);
        Ok(handle)
    }

    pub(super) fn stop_task(&mut self, token: &str) {
        if let Some(task) = self.tasks.get_mut(token).filter(|t| !t.ended) {
            (task.end, task.ended) = (End::Stopped, true);
        }
    }

    pub(super) fn advance_tasks(&mut self, now_ms: u64) {
        let mut said = Vec::new();
        for task in self.tasks.values_mut().filter(|t| !t.ended) {
            while task.written < task.lines && task.started_ms + task.written < now_ms.min(task.until_ms) {
                task.written += 1;
                let at_ms = task.started_ms + task.written;
                said.push((at_ms, task.release, task.token.clone(), format!("line {}", task.written)));
            }
            task.ended = now_ms >= task.until_ms;
        }
        for (at_ms, release, task, text) in said {
            self.log(at_ms, release, &task, false, &text);
        }
    }

    pub(super) fn read_logs(&self, query: &LogQuery, cursor: Option<&Cursor>) -> Result<LogPage, ProviderError> {
        let task = match &query.task {
            Some(token) => Some(self.tasks.get(token)),
            None => None,
        };
        let known = self.logs.iter().any(|l| Some(&l.task) == query.task.as_ref());
        if matches!(task, Some(None)) && !known {
            return Err(error(ErrorKind::NotFound, "logs", "no such task".to_owned()));
        }
        let matching: Vec<_> = self
            .logs
            .iter()
            .filter(|l| {
                query.release.is_none_or(|r| r == l.release) && query.task.as_ref().is_none_or(|t| *t == l.task)
            })
            .collect();
        let from = match cursor {
            Some(cursor) => cursor
                .0
                .parse::<usize>()
                .map_err(|_| error(ErrorKind::Invalid, "logs", "this is not a cursor of mine".to_owned()))?,
            None => matching.len().saturating_sub(query.tail_lines as usize),
        };
        let lines: Vec<_> = matching.iter().skip(from).take(PAGE).map(|l| (*l).clone()).collect();
        let mut next = from + lines.len();
        let ended = task.flatten().is_some_and(|t| t.ended);
        let more = !ended || next < matching.len();
        if self.fault == Some(Fault::RepeatsLines) && lines.len() > 1 && more {
            next -= 1;
        }
        Ok(LogPage { lines, next: Cursor(next.to_string()), more })
    }
}
