//! Tasks of a candidate that failed: why, in AWS's words, and what they last wrote. A candidate whose tasks fail again and
//! again for the same reason is given up here, long before the cloud would.

use aws_sdk_ecs::types::{Container, DesiredStatus, Task, TaskStopCode};
use dbird_core::provider::ProgressEvent;
use dbird_core::{Handle, ProviderError, Target};

use super::standing::{Told, unix_ms};
use crate::AwsProvider;
use crate::error::Answer;
use crate::service::document::log_group;
use crate::service::{Job, Way};

/// So many tasks that failed for the same reason say enough.
const SAME_MAX: usize = 3;
/// Lines of a failed task that are shown.
const LINES: usize = 50;
/// And so many while it goes on.
const LINES_TOLD: usize = 3;
/// A candidate of which no task can be placed for so long, by the cloud's clock, is given up.
const NO_PLACE_MS_MAX: u64 = 300_000;
/// Failed tasks are looked for at every so many polls: they fail slower than that.
const LOOK_EVERY: u32 = 3;

/// The APIs that tell of them.
const LIST: &str = "ECS:ListTasks";
const READ: &str = "ECS:DescribeTasks";

/// Why tasks failed.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) why: Option<String>,
    pub(super) logs: Vec<String>,
}

/// One task that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    id: String,
    why: String,
    at_unix_ms: u64,
}

/// The reason for which the candidate's tasks fail again and again; none while they don't.
pub(super) async fn repeated(
    p: &AwsProvider,
    target: &Target,
    handle: &Handle,
    job: &Job,
) -> Result<Option<(String, Vec<String>)>, ProviderError> {
    let look = p.rollouts.with(&handle.token, |rollout| {
        rollout.looks = rollout.looks.wrapping_add(1);
        rollout.looks % LOOK_EVERY == 0
    });
    let due = p.clients.is_due(LIST) && p.clients.is_due(READ);
    if !look || !due {
        return Ok(None);
    }
    let failed = stopped(p, job).await?;
    tell(p, target, handle, job, &failed).await;
    let Some(why) = same(&failed) else { return Ok(None) };
    let logs = last_lines(p, target, job, &failed).await;
    Ok(Some((format!("{SAME_MAX} tasks failed the same way: {why}{}", remedy(&why)), logs)))
}

/// What to do about tasks that never start; what a service's own program did, its lines say.
fn remedy(why: &str) -> &'static str {
    if why.starts_with("ResourceInitializationError") {
        ". `dbird doctor` checks that each secret exists, and that the execution role may read it"
    } else if why.starts_with("CannotPullContainerError") {
        ". `dbird doctor` checks the image, its repository and the execution role"
    } else {
        ""
    }
}

/// What ECS says of tasks that it can't place, since when, and whether that has lasted too long; none once one was placed.
pub(super) fn unplaced(events: &[ProgressEvent], now_unix_ms: u64) -> Option<(String, bool)> {
    let mut waits: Option<&ProgressEvent> = None;
    for event in events {
        if event.text.starts_with("ECS: was unable to place a task") {
            waits = waits.or(Some(event));
        } else if event.text.starts_with("ECS: has started ") {
            waits = None;
        }
    }
    let since = waits?;
    let why = since.text.trim_start_matches("ECS: was ").split(". For more information").next().unwrap_or_default();
    Some((why.trim_end_matches('.').to_owned(), now_unix_ms.saturating_sub(since.at_unix_ms) >= NO_PLACE_MS_MAX))
}

/// Why the last task failed, once the cloud gave up itself.
pub(super) async fn explain(
    p: &AwsProvider,
    target: &Target,
    handle: &Handle,
    job: &Job,
) -> Result<Found, ProviderError> {
    if matches!(job.way, Way::Removing { .. }) {
        return Ok(Found::default());
    }
    let failed = stopped(p, job).await?;
    tell(p, target, handle, job, &failed).await;
    let Some(last) = failed.last() else { return Ok(Found::default()) };
    Ok(Found { why: Some(last.why.clone()), logs: last_lines(p, target, job, &failed).await })
}

/// What the last task wrote at its end. Logs arrive late: where nothing came of it yet, one before it that failed alike
/// says the same.
async fn last_lines(p: &AwsProvider, target: &Target, job: &Job, failed: &[Failed]) -> Vec<String> {
    let Some(last) = failed.last() else { return Vec::new() };
    for failed in failed.iter().rev().filter(|other| kind(&other.why) == kind(&last.why)).take(SAME_MAX) {
        let lines = lines(p, target, job, &failed.id).await;
        if !lines.is_empty() {
            return lines;
        }
    }
    Vec::new()
}

/// Tells once of each task that failed, and what the last of them wrote at its end.
async fn tell(p: &AwsProvider, target: &Target, handle: &Handle, job: &Job, failed: &[Failed]) {
    let Some(last) = failed.last() else { return };
    let new = p.rollouts.with(&handle.token, |rollout| {
        let new = !rollout.knows(&key(last));
        rollout.tell(failed.iter().map(told).collect());
        new
    });
    if new {
        let lines = lines(p, target, job, &last.id).await;
        let from = lines.len().saturating_sub(LINES_TOLD);
        let wrote = |(at, line): (usize, &String)| {
            Told::new(last.at_unix_ms, format!("{} {at}", key(last)), format!("task {} wrote: {line}", short(last)))
        };
        let wrote = lines.iter().enumerate().skip(from).map(wrote).collect();
        p.rollouts.with(&handle.token, |rollout| rollout.tell(wrote));
    }
}

fn key(failed: &Failed) -> String {
    format!("task {}", failed.id)
}

fn short(failed: &Failed) -> &str {
    failed.id.get(..8).unwrap_or(&failed.id)
}

fn told(failed: &Failed) -> Told {
    Told::new(failed.at_unix_ms, key(failed), format!("task {} failed: {}", short(failed), failed.why))
}

/// The candidate's tasks that failed, the last one last.
async fn stopped(p: &AwsProvider, job: &Job) -> Result<Vec<Failed>, ProviderError> {
    p.clients.turn(LIST).await;
    let client = p.clients.ecs().await;
    let listed = client
        .list_tasks()
        .cluster(&job.cluster)
        .service_name(&job.service)
        .desired_status(DesiredStatus::Stopped)
        .max_results(100)
        .send()
        .await
        .or_fault("list the tasks that stopped", &job.service)?;
    if listed.task_arns().is_empty() {
        return Ok(Vec::new());
    }
    p.clients.turn(READ).await;
    let read = client
        .describe_tasks()
        .cluster(&job.cluster)
        .set_tasks(Some(listed.task_arns().to_vec()))
        .send()
        .await
        .or_fault("read the tasks that stopped", &job.service)?;
    let own = read.tasks().iter().filter(|task| {
        task.task_definition_arn() == Some(&job.task_definition)
            && unix_ms(task.created_at()) + 1_000 >= job.began_unix_ms
    });
    let mut failed: Vec<_> = own.filter_map(failure).collect();
    failed.sort_by_key(|failed| failed.at_unix_ms);
    Ok(failed)
}

/// Why a task failed; none where it was only asked to stop.
fn failure(task: &Task) -> Option<Failed> {
    let reason = task.stopped_reason().unwrap_or_default();
    let failed = match task.stop_code() {
        Some(TaskStopCode::TaskFailedToStart | TaskStopCode::EssentialContainerExited) => true,
        _ => reason.contains("failed"),
    };
    if !failed {
        return None;
    }
    let containers = task.containers().iter();
    // AWS often says the same of the container again.
    let new =
        |said: &String| said.split_once(": ").is_none_or(|(_, said)| !reason.contains(said.trim_end_matches('.')));
    let containers: Vec<_> = containers.filter_map(container).filter(new).collect();
    let why = match (reason.is_empty(), containers.is_empty()) {
        (_, true) => reason.to_owned(),
        (true, false) => containers.join("; "),
        (false, false) => format!("{} ({})", reason.trim_end_matches('.'), containers.join("; ")),
    };
    Some(Failed {
        id: task_id(task.task_arn().unwrap_or_default()).to_owned(),
        why: why.trim_end_matches('.').to_owned(),
        at_unix_ms: unix_ms(task.stopped_at().or(task.stopping_at()).or(task.created_at())),
    })
}

fn container(container: &Container) -> Option<String> {
    let name = container.name().unwrap_or_default();
    match (container.exit_code(), container.reason()) {
        (None, None) | (Some(0), None) => None,
        (Some(code), None) => Some(format!("{name} ended with code {code}")),
        (Some(code), Some(reason)) if code != 0 => Some(format!("{name} ended with code {code}: {reason}")),
        (_, Some(reason)) => Some(format!("{name}: {reason}")),
    }
}

/// The name of a task, by its ARN.
pub(crate) fn task_id(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// The reason that so many of the last tasks share.
fn same(failed: &[Failed]) -> Option<String> {
    let last = failed.last()?;
    let alike = failed.iter().filter(|other| kind(&other.why) == kind(&last.why)).count();
    (alike >= SAME_MAX).then(|| last.why.clone())
}

/// A reason without what differs from task to task: addresses, ids, ports.
fn kind(why: &str) -> String {
    let word = |word: &str| if word.chars().any(|c| c.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() };
    let exits = why.rsplit_once("with code ").map(|(_, code)| code.to_owned()).unwrap_or_default();
    format!("{} {exits}", why.split_whitespace().map(word).collect::<Vec<_>>().join(" "))
}

/// The last lines that a task of the service wrote; empty where it never came to write any.
async fn lines(p: &AwsProvider, target: &Target, job: &Job, task: &str) -> Vec<String> {
    let client = p.clients.logs().await;
    let read = client
        .get_log_events()
        .log_group_name(log_group(target))
        .log_stream_name(format!("task/{}/{task}", job.service))
        .limit(i32::try_from(LINES).unwrap_or(i32::MAX))
        .start_from_head(false)
        .send()
        .await;
    // No stream: it never began to write. Anything else is no reason to hide why the task failed.
    let read = read.map(|read| read.events().to_vec()).unwrap_or_default();
    read.into_iter().filter_map(|event| event.message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(code: TaskStopCode, reason: &str, exit: Option<i32>, detail: Option<&str>) -> Task {
        Task::builder()
            .task_arn("arn:aws:ecs:us-east-1:123456789012:task/bird-dev/0123456789abcdef")
            .stop_code(code)
            .stopped_reason(reason)
            .containers(
                Container::builder().name("bird").set_exit_code(exit).set_reason(detail.map(str::to_owned)).build(),
            )
            .build()
    }

    #[test]
    fn a_task_says_why_it_failed() {
        let cases = [
            (
                task(TaskStopCode::EssentialContainerExited, "Essential container in task exited", Some(3), None),
                Some("Essential container in task exited (bird ended with code 3)"),
            ),
            (
                task(
                    TaskStopCode::TaskFailedToStart,
                    "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found",
                    None,
                    None,
                ),
                Some("CannotPullContainerError: pull image manifest has been retried 1 time(s): not found"),
            ),
            (
                task(
                    TaskStopCode::ServiceSchedulerInitiated,
                    "Task failed ELB health checks in (target-group x)",
                    Some(143),
                    None,
                ),
                Some("Task failed ELB health checks in (target-group x) (bird ended with code 143)"),
            ),
            (
                task(
                    TaskStopCode::ServiceSchedulerInitiated,
                    "Scaling activity initiated by (deployment x)",
                    Some(0),
                    None,
                ),
                None,
            ),
            (task(TaskStopCode::UserInitiated, "", Some(0), None), None),
            (
                task(
                    TaskStopCode::TaskFailedToStart,
                    "CannotPullContainerError: not found",
                    None,
                    Some("CannotPullContainerError: not found"),
                ),
                Some("CannotPullContainerError: not found"),
            ),
        ];
        for (task, why) in cases {
            assert_eq!(failure(&task).map(|failed| failed.why).as_deref(), why);
        }
    }

    #[test]
    fn a_task_that_finds_no_place_is_waited_for_a_while() {
        let event = |at_unix_ms, text: &str| ProgressEvent { at_unix_ms, text: format!("ECS: {text}") };
        let no = |at| event(at, "was unable to place a task. Reason: no room. For more information, see the guide");
        let began = |at| event(at, "has started 1 tasks: (task 1)");
        let cases = [
            (vec![], None),
            (vec![no(0)], Some(false)),
            (vec![no(0), no(200_000)], Some(false)),
            (vec![no(0), began(100_000)], None),
            (vec![no(0), began(1), no(2)], Some(false)),
        ];
        for (events, late) in cases {
            assert_eq!(unplaced(&events, 250_000).map(|(_, late)| late), late, "{events:?}");
        }
        let (why, late) = unplaced(&[no(0), no(200_000)], 300_000).unwrap();
        assert_eq!((why.as_str(), late), ("unable to place a task. Reason: no room", true));
    }

    #[test]
    fn three_alike_are_enough() {
        let failed = |why: &str| Failed { id: "t".to_owned(), why: why.to_owned(), at_unix_ms: 0 };
        let cases = [
            (vec!["exited (bird ended with code 3)"; 3], true),
            (vec!["exited (bird ended with code 3)"; 2], false),
            (vec!["no port 1", "no port 2", "no port 3"], true),
            (vec!["exited with code 1)", "exited with code 2)", "exited with code 3)"], false),
            (vec!["a", "b", "a", "b"], false),
        ];
        for (reasons, enough) in cases {
            let all: Vec<_> = reasons.iter().map(|why| failed(why)).collect();
            assert_eq!(same(&all).is_some(), enough, "{reasons:?}");
        }
    }
}
