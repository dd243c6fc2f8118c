//! A command in a running task, for people, by ECS Exec. It asks AWS for the session; carrying it is the job of AWS's own
//! Session Manager plugin, which is only looked for here.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_sdk_ecs::types::Task;
use dbird_core::provider::ErrorKind;
use dbird_core::{ProviderError, Target};
use serde_json::json;

use crate::AwsProvider;
use crate::error::{Adding, Answer, fault};
use crate::rollout::task_id;
use crate::service::document::base;
use crate::service::tasks::running;

/// AWS's program that carries a session.
const PLUGIN: &str = "session-manager-plugin";
const OPERATION: &str = "exec";

/// A session in a task: the program that carries it, with its arguments. They hold a token, so they are not printed.
pub struct Session {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The task that it is in.
    pub task: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("program", &self.program).field("task", &self.task).finish_non_exhaustive()
    }
}

impl AwsProvider {
    /// Begins a session that runs a command in a running task; without a task, in the newest one.
    pub async fn exec(&self, target: &Target, task: Option<&str>, argv: &[String]) -> Result<Session, ProviderError> {
        if argv.is_empty() {
            return Err(fault(ErrorKind::Invalid, OPERATION, "", "no command is given"));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path).map(|folder| folder.join(PLUGIN)).find(|file| file.is_file());
        let program = program.ok_or_else(|| missing_plugin(Path::new(PLUGIN)))?;
        let tasks = running(self, target).await?;
        let chosen = choose(&tasks, task)?;
        let name = task_id(chosen.task_arn().unwrap_or_default()).to_owned();
        if !chosen.enable_execute_command() {
            let what = "this task was started without ECS Exec";
            return Err(fault(ErrorKind::Unsupported, OPERATION, name, what)
                .hint("set `exec = true` in [cloud.aws], and deploy; until then `dbird run` starts a task beside it"));
        }
        let cluster = base(target);
        let answer = self
            .clients
            .ecs()
            .await
            .execute_command()
            .cluster(&cluster)
            .task(&name)
            .container(&target.service)
            .interactive(true)
            .command(line(argv))
            .send()
            .await
            .or_fault(OPERATION, &name)?;
        let Some(session) = answer.session() else {
            return Err(fault(ErrorKind::Internal, OPERATION, name, "ECS answered without a session").retry());
        };
        let region = self.clients.region().await?;
        let runtime = chosen.containers().iter().find(|container| container.name() == Some(&target.service));
        let runtime = runtime.and_then(|container| container.runtime_id()).unwrap_or_default();
        let begun = json!({
            "SessionId": session.session_id(), "StreamUrl": session.stream_url(), "TokenValue": session.token_value(),
        });
        let place = json!({ "Target": format!("ecs:{cluster}_{name}_{runtime}") });
        let endpoint = format!("https://ssm.{region}.amazonaws.com");
        let args =
            vec![begun.to_string(), region, "StartSession".to_owned(), String::new(), place.to_string(), endpoint];
        Ok(Session { program, args, task: name })
    }
}

/// The task that was named, or the newest.
fn choose<'a>(tasks: &'a [Task], wanted: Option<&str>) -> Result<&'a Task, ProviderError> {
    let runs = tasks.iter().filter(|task| task.last_status() == Some("RUNNING"));
    let found = match wanted {
        Some(name) => {
            let named = |task: &&Task| task_id(task.task_arn().unwrap_or_default()).starts_with(task_id(name));
            runs.rev().find(named)
        }
        None => runs.max_by_key(|task| crate::rollout::unix_ms(task.started_at())),
    };
    found.ok_or_else(|| {
        let what = wanted.map_or_else(|| "no task runs".to_owned(), |name| format!("no task {name} runs"));
        fault(ErrorKind::NotFound, OPERATION, wanted.unwrap_or_default(), what).hint("`dbird status` lists the tasks")
    })
}

fn missing_plugin(program: &Path) -> ProviderError {
    let what = format!("{} is not on the PATH; ECS Exec needs it", program.display());
    fault(ErrorKind::NotFound, OPERATION, program.display().to_string(), what)
        .hint("install AWS's Session Manager plugin, or use `dbird run`, which needs nothing")
}

/// The command as a shell in the task reads it back.
fn line(argv: &[String]) -> String {
    argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_as_it_was_written() {
        let cases: [(&[&str], &str); 4] = [
            (&["ls", "-l", "/data"], "ls -l /data"),
            (&["sh", "-c", "echo $HOME"], "sh -c 'echo $HOME'"),
            (&["echo", "it's"], r"echo 'it'\''s'"),
            (&["echo", ""], "echo ''"),
        ];
        for (argv, wanted) in cases {
            let argv: Vec<_> = argv.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(line(&argv), wanted);
        }
    }

    #[test]
    fn a_session_keeps_its_token_to_itself() {
        let session = Session { program: "p".into(), args: vec!["very secret".to_owned()], task: "t".to_owned() };
        assert!(!format!("{session:?}").contains("secret"));
    }

    #[test]
    fn only_a_running_task_is_entered() {
        let task =
            |name: &str, status: &str| Task::builder().task_arn(format!("arn/{name}")).last_status(status).build();
        let tasks = [task("aa11", "RUNNING"), task("bb22", "PENDING")];
        assert!(
            choose(&tasks, Some("bb22")).is_err() && choose(&tasks, Some("cc")).is_err() && choose(&[], None).is_err()
        );
        assert_eq!(choose(&tasks, Some("aa")).unwrap().task_arn(), Some("arn/aa11"));
        assert_eq!(choose(&tasks, None).unwrap().task_arn(), Some("arn/aa11"));
    }
}
