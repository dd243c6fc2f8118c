//! One-off tasks: a command in a release's image, with its environment and mounts, beside the service. Starting one twice by
//! the same key starts it once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_ecs::types::{self, ContainerOverride, LaunchType, PropagateTags, Task, TaskOverride};
use dbird_core::provider::{ErrorKind, ProgressEvent};
use dbird_core::{Command, Digest, Handle, Phase, Progress, ProviderError, ReleaseId, Steer, Target};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::AwsProvider;
use crate::error::{Adding, Answer, fault};
use crate::rollout::{task_id, unix_ms};
use crate::service::apply;
use crate::service::apply::{Definition, definition, found};
use crate::service::deployment::{network, read_network};
use crate::service::document::{TaskDefinition, base};
use crate::service::task_definition::{Marker, ecs_tags, live, registration};

/// A task is asked for no more often than this.
const EVERY: Duration = Duration::from_secs(1);

/// A one-off task, as its handle says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The task's ARN.
    pub(crate) task: String,
    /// The container that the command runs in.
    pub(crate) container: String,
    /// It is stopped then, in Unix milliseconds of the cloud's clock; none: never.
    #[serde(default)]
    pub(crate) until_unix_ms: Option<u64>,
}

/// When each task was last asked for, and whether it had stopped.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<HashMap<String, (Instant, bool)>>);

impl Seen {
    /// How long to wait before it may be asked for again.
    fn wait(&self, task: &str) -> Duration {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (at, stopped) = seen.get(task).map_or((now, false), |(last, stopped)| (now.max(*last + EVERY), *stopped));
        seen.insert(task.to_owned(), (at, stopped));
        at - now
    }

    fn stops(&self, task: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, stopped)) = seen.get_mut(task) {
            *stopped = true;
        }
    }

    /// Whether a task that is followed here, named by the end of its ARN, has stopped; none where nobody follows it.
    pub(crate) fn stopped(&self, name: &str) -> Option<bool> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().find(|(task, _)| task_id(task) == name).map(|(_, (_, stopped))| *stopped)
    }
}

/// Starts the task.
pub(crate) async fn run(p: &AwsProvider, target: &Target, command: &Command) -> Result<Job, ProviderError> {
    let cluster = base(target);
    let arn = task_definition(p, target, command).await?;
    let service = found(p, &cluster, &target.service).await?;
    let place = match &service {
        Some(service) => {
            let set = service.task_sets().first().and_then(|set| set.network_configuration());
            read_network(set.or(service.network_configuration()))
        }
        None => {
            return Err(fault(
                ErrorKind::NotFound,
                "run a task",
                command.release.to_string(),
                "there is no service to run it beside",
            )
            .hint("deploy first"));
        }
    };
    let incomplete = |error| apply::unbuilt("the network", &error);
    let platform = service.as_ref().and_then(|service| service.platform_version()).unwrap_or("1.4.0").to_owned();
    let overrides = TaskOverride::builder().container_overrides(
        ContainerOverride::builder()
            .name(&target.service)
            .set_command(Some(command.argv.iter().skip(1).cloned().collect()))
            .build(),
    );
    let mut tags = apply::own_tags(target).to_vec();
    tags.push((crate::service::task_definition::RELEASE_TAG, command.release.to_string()));
    let answer = p
        .clients
        .ecs()
        .await
        .run_task()
        .cluster(&cluster)
        .task_definition(&arn)
        .launch_type(LaunchType::Fargate)
        .platform_version(platform)
        .network_configuration(network(&place).map_err(incomplete)?)
        .overrides(overrides.build())
        .count(1)
        .started_by("dbird")
        .group(format!("dbird:{}", target.service))
        // 64 characters at most, whatever the key.
        .client_token(format!("dbird-{}", &Digest::of(format!("{cluster} {}", command.key).as_bytes()).hex()[..48]))
        .propagate_tags(PropagateTags::TaskDefinition)
        .set_tags(Some(ecs_tags(&tags)))
        .send()
        .await
        .or_fault("run a task", &arn)?;
    let task = answer.tasks().first();
    let Some((task, arn)) = task.and_then(|task| Some((task, task.task_arn()?))) else {
        let failure = answer.failures().first();
        let why = failure.and_then(|failure| failure.reason()).unwrap_or("ECS started nothing and does not say why");
        let detail =
            failure.and_then(|failure| failure.detail()).map(|detail| format!(": {detail}")).unwrap_or_default();
        let capacity = why.starts_with("RESOURCE") || why.contains("Capacity");
        let kind = if capacity { ErrorKind::Exhausted } else { ErrorKind::Invalid };
        let error = fault(kind, "run a task", &arn, format!("the task could not be started: {why}{detail}"));
        return Err(if capacity { error.retry() } else { error });
    };
    Ok(Job {
        cluster,
        task: arn.to_owned(),
        container: target.service.clone(),
        // By when AWS made it: a repeated call says the same.
        until_unix_ms: command.timeout_ms.map(|limit| unix_ms(task.created_at()) + p.clock.there_ms(limit)),
    })
}

/// The task definition that the command runs by. An image's own entry point would be put before the command, so each
/// program has one that begins with it, in a family of its own.
async fn task_definition(p: &AwsProvider, target: &Target, command: &Command) -> Result<String, ProviderError> {
    let family = format!("{}-run", base(target));
    let program = command.argv.first().cloned().unwrap_or_default();
    let fits = |found: &types::TaskDefinition, marker: Option<&Marker>| {
        marker.is_some_and(|marker| marker.release == command.release)
            && live(found).container_definitions.first().is_some_and(|c| c.entry_point == [program.clone()])
    };
    if let Some((found, marker)) = definition(p, &family).await?
        && fits(&found, marker.as_ref())
        && let Some(arn) = found.task_definition_arn()
    {
        return Ok(arn.to_owned());
    }
    let (release, marker) = of_release(p, target, command.release).await?;
    let wanted = one_off(live(&release), &family, &target.service, &program);
    let mut tags = marker.tags();
    tags.extend(apply::own_tags(target));
    let input = registration(&wanted).map_err(|error| apply::unbuilt("the task definition", &error))?;
    let made = input
        .set_tags(Some(ecs_tags(&tags)))
        .send_with(p.clients.ecs().await)
        .await
        .or_fault("register the task definition", &family)?;
    Ok(made.task_definition().and_then(|made| made.task_definition_arn()).unwrap_or_default().to_owned())
}

/// The same task with one container, which begins with the program: nothing that runs on may keep it alive.
fn one_off(mut wanted: TaskDefinition, family: &str, service: &str, program: &str) -> TaskDefinition {
    wanted.family = family.to_owned();
    wanted.container_definitions.retain(|container| container.name == service);
    for container in &mut wanted.container_definitions {
        container.entry_point = vec![program.to_owned()];
        container.command = Vec::new();
        container.port_mappings = Vec::new();
        container.depends_on = Vec::new();
        container.health_check = None;
    }
    wanted
}

/// What a release runs by: the newest task definition whose tags name it.
async fn of_release(
    p: &AwsProvider,
    target: &Target,
    release: ReleaseId,
) -> Result<(types::TaskDefinition, Marker), ProviderError> {
    let family = base(target);
    let own = |found: Option<Definition>| {
        found.and_then(|(found, marker)| Some((found, marker.filter(|marker| marker.release == release)?)))
    };
    if let Some(found) = own(definition(p, &family).await?) {
        return Ok(found);
    }
    for arn in crate::remembered::definitions(p, &family).await? {
        if let Some(found) = own(definition(p, &arn).await?) {
            return Ok(found);
        }
    }
    let what = format!("AWS remembers no task definition of {release}");
    Err(fault(ErrorKind::NotFound, "run a task", release.to_string(), what).hint("`dbird history` lists the releases"))
}

/// How a task stands.
pub(crate) async fn poll(
    p: &AwsProvider,
    target: &Target,
    handle: &Handle,
    job: &Job,
) -> Result<Progress, ProviderError> {
    sleep(p.runs.wait(&job.task)).await;
    let client = p.clients.ecs().await;
    p.clients.turn("ECS:DescribeTasks").await;
    let read = client
        .describe_tasks()
        .cluster(&job.cluster)
        .tasks(&job.task)
        .send()
        .await
        .or_fault("follow the task", task_id(&job.task))?;
    let Some(task) = read.tasks().first() else {
        let what = "ECS does not know the task any more";
        return Err(fault(ErrorKind::NotFound, "follow the task", task_id(&job.task), what));
    };
    let mut progress = progress(task, &job.container);
    if progress.phase == Phase::Finished {
        p.runs.stops(&job.task);
    }
    let over = job.until_unix_ms.is_some_and(|until| p.clock.now_unix_ms() >= until);
    if over && progress.phase == Phase::Working && task.desired_status() != Some("STOPPED") {
        stop(p, job, "it took longer than it may").await?;
    }
    if progress.phase == Phase::Finished && progress.exit_code.is_none() {
        let why = task.stopped_reason().unwrap_or("it never started").trim_end_matches('.').to_owned();
        let why = if over { format!("it took longer than it may, and was stopped: {why}") } else { why };
        progress.phase = Phase::Failed { why, logs: crate::logs::last(p, target, &job.task, handle.release).await };
    }
    Ok(progress)
}

/// What a task says of itself. Without an exit code, one that stopped is not done.
fn progress(task: &Task, container: &str) -> Progress {
    let status = task.last_status().unwrap_or_default();
    let stopped = status == "STOPPED" || status == "DELETED";
    let code = task.containers().iter().find(|c| c.name() == Some(container)).and_then(|c| c.exit_code());
    let times = [
        (task.created_at(), "the task is asked for"),
        (task.pull_started_at(), "its image is pulled"),
        (task.started_at(), "it runs"),
        (task.stopped_at(), task.stopped_reason().unwrap_or("it stopped")),
    ];
    let events = times.into_iter().filter(|(at, _)| at.is_some());
    Progress {
        waiting_for: if stopped { String::new() } else { format!("the task ({})", status.to_lowercase()) },
        exit_code: code.filter(|_| stopped),
        events: events.map(|(at, text)| ProgressEvent { at_unix_ms: unix_ms(at), text: text.to_owned() }).collect(),
        ..Progress::in_phase(if stopped { Phase::Finished } else { Phase::Working })
    }
}

/// Stops the task; nothing else can be asked of one.
pub(crate) async fn steer(
    p: &AwsProvider,
    _target: &Target,
    _handle: &Handle,
    job: &Job,
    steer: &Steer,
) -> Result<(), ProviderError> {
    match steer {
        Steer::Stop { .. } => stop(p, job, "dbird was asked to stop it").await,
        Steer::Shift { .. } | Steer::Continue { .. } | Steer::Finish => Ok(()),
    }
}

async fn stop(p: &AwsProvider, job: &Job, why: &str) -> Result<(), ProviderError> {
    let client = p.clients.ecs().await;
    let stopped = client.stop_task().cluster(&job.cluster).task(&job.task).reason(why).send().await;
    // It ended meanwhile.
    if stopped.as_ref().err().is_some_and(|error| crate::error::message(error).contains("was not found")) {
        return Ok(());
    }
    stopped.or_fault("stop the task", task_id(&job.task)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::Container;

    use super::*;

    #[test]
    fn a_task_ends_with_its_containers_code() {
        let task = |status: &str, code: Option<i32>| {
            let container = |name: &str, code| Container::builder().name(name).set_exit_code(code).build();
            Task::builder()
                .last_status(status)
                .containers(container("collector", Some(9)))
                .containers(container("bird", code))
                .build()
        };
        let cases = [
            ("PENDING", None, Phase::Working, None),
            ("RUNNING", None, Phase::Working, None),
            ("DEPROVISIONING", Some(3), Phase::Working, None),
            ("STOPPED", Some(3), Phase::Finished, Some(3)),
            ("STOPPED", Some(0), Phase::Finished, Some(0)),
            ("STOPPED", None, Phase::Finished, None),
        ];
        for (status, code, phase, exit) in cases {
            let progress = progress(&task(status, code), "bird");
            assert_eq!((progress.phase, progress.exit_code), (phase, exit), "{status} {code:?}");
        }
    }

    #[test]
    fn a_command_is_the_entry_point_of_its_task() {
        let mut release = crate::service::document::tests::example().task_definition;
        release.container_definitions[0].entry_point = vec!["bird".to_owned()];
        let collector = crate::service::document::Container { name: "collector".to_owned(), ..Default::default() };
        release.container_definitions.push(collector);
        let wanted = one_off(release, "bird-dev-run", "bird", "migrate");
        assert_eq!((wanted.family.as_str(), wanted.container_definitions.len()), ("bird-dev-run", 1));
        let container = &wanted.container_definitions[0];
        assert_eq!((container.entry_point.clone(), container.port_mappings.len()), (vec!["migrate".to_owned()], 0));
        assert!(container.log_configuration.is_some());
    }

    #[test]
    fn a_task_is_not_asked_for_too_often() {
        let seen = Seen::default();
        assert_eq!(seen.wait("a"), Duration::ZERO);
        assert!(seen.wait("a") > Duration::from_millis(900));
        assert_eq!(seen.wait("b"), Duration::ZERO);
    }

    #[test]
    fn a_task_that_is_followed_has_stopped_or_not() {
        let seen = Seen::default();
        seen.wait("arn:aws:ecs:us-east-1:1:task/bird-dev/0a1b");
        assert_eq!((seen.stopped("0a1b"), seen.stopped("0a1c")), (Some(false), None));
        seen.stops("arn:aws:ecs:us-east-1:1:task/bird-dev/0a1b");
        assert_eq!(seen.stopped("0a1b"), Some(true));
    }
}
