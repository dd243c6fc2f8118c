//! An operation on a stack from its beginning to its end. Where it stands is read from AWS each time, so whoever has the
//! handle can go on after a crash; what is remembered only saves requests.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_cloudformation::types::ChangeSetType;
use dbird_core::provider::Result;
use dbird_core::{Handle, Phase, Progress, Target};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::AwsProvider;
use crate::error::{Answer, code};
use crate::observe::endpoints;
use crate::stack::cause::{End, end};
use crate::stack::change_set::{self, Wanted};
use crate::stack::events::Events;
use crate::stack::live::{Stack, stack_of};

/// An operation is young for so long ...
const YOUNG: Duration = Duration::from_secs(120);
/// ... and asked for news so often ...
const YOUNG_EVERY: Duration = Duration::from_secs(1);
/// ... and later so often.
const LATER_EVERY: Duration = Duration::from_secs(5);
/// A change set is never made faster than this.
const CHANGE_SET_MADE: Duration = Duration::from_millis(250);
/// A poll waits no longer than this for its turn.
const WAIT_MAX: Duration = Duration::from_millis(900);

/// An operation on a stack, as a handle remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The stack's name, or its ARN where it is to go away.
    pub(crate) stack: String,
    /// The token by which AWS knows the operation.
    pub(crate) token: String,
    /// When it was asked for, by the cloud's clock.
    pub(crate) since_unix_ms: u64,
    /// What is done.
    pub(crate) stage: Stage,
    /// What has to be put right before; then also what is wanted after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<Box<Before>>,
}

/// What is done to a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// A change set is executed.
    Execute {
        /// Its name.
        change_set: String,
        /// The stack is made by it: what it then makes goes away again where that fails.
        #[serde(default)]
        fresh: bool,
    },
    /// It is deleted.
    Delete,
}

/// What is in the way of an operation, and is being put right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Before {
    /// True where a failed stack is deleted, false where an update is undone.
    pub(crate) deleting: bool,
    /// What is to be there after it.
    pub(crate) wanted: Wanted,
}

/// A stack and what was read of it, and when.
type Known<T> = Mutex<HashMap<String, (Instant, T)>>;

/// What was seen of stacks.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) known: Known<Option<Stack>>,
    pub(crate) templates: Known<Value>,
    watched: Mutex<HashMap<String, Watched>>,
}

#[derive(Debug, Clone)]
struct Watched {
    since: Instant,
    asked: Option<Instant>,
    cleared: bool,
    executed: bool,
    events: Events,
    ended: Option<Progress>,
}

impl Seen {
    /// Keeps what was just read of a stack.
    pub(crate) fn keep(&self, name: &str, stack: Option<Stack>) {
        lock(&self.known).insert(name.to_owned(), (Instant::now(), stack));
    }

    /// Forgets what was read of a stack: it is about to change.
    pub(crate) fn forget(&self, name: &str) {
        lock(&self.known).remove(name);
        lock(&self.templates).remove(name);
    }

    fn watched(&self, token: &str) -> Watched {
        let fresh = Watched {
            since: Instant::now(),
            asked: None,
            cleared: false,
            executed: false,
            events: Events::default(),
            ended: None,
        };
        lock(&self.watched).entry(token.to_owned()).or_insert(fresh).clone()
    }

    fn watch(&self, token: &str, watched: Watched) {
        lock(&self.watched).insert(token.to_owned(), watched);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How an operation stands.
pub(crate) async fn poll(aws: &AwsProvider, _: &Target, handle: &Handle, job: &Job) -> Result<Progress> {
    let mut watched = aws.stacks.watched(&handle.token);
    if let Some(ended) = &watched.ended {
        return Ok(ended.clone());
    }
    let every = if watched.since.elapsed() < YOUNG { YOUNG_EVERY } else { LATER_EVERY };
    if let Some(left) = watched.asked.and_then(|at| every.checked_sub(at.elapsed())) {
        sleep(left.min(WAIT_MAX)).await;
        if left > WAIT_MAX {
            return Ok(working(aws, job, &watched));
        }
    }
    let progress = advance(aws, job, &mut watched).await?;
    watched.asked = Some(Instant::now());
    if matches!(progress.phase, Phase::Finished | Phase::Failed { .. }) {
        watched.ended = Some(progress.clone());
    }
    aws.stacks.watch(&handle.token, watched);
    Ok(progress)
}

async fn advance(aws: &AwsProvider, job: &Job, watched: &mut Watched) -> Result<Progress> {
    if let Some(before) = job.before.as_ref().filter(|_| !watched.cleared) {
        match clear(aws, job, before).await? {
            Cleared::Yes => watched.cleared = true,
            Cleared::NotYet(what) => return Ok(Progress { waiting_for: what, ..working(aws, job, watched) }),
            Cleared::Never(why) => return Ok(failed(aws, job, watched, why)),
        }
    }
    if let Stage::Execute { change_set, fresh } = &job.stage
        && !watched.executed
    {
        if watched.asked.is_none() {
            sleep(CHANGE_SET_MADE).await;
        }
        aws.clients.turn("CloudFormation:DescribeChangeSet").await;
        match change_set::read(aws, &job.stack, change_set).await? {
            // Once it is executed, AWS removes it.
            None => {}
            Some(set) if set.young() => {
                let waiting_for = format!("the change set of {}", job.stack);
                return Ok(Progress { waiting_for, ..working(aws, job, watched) });
            }
            Some(set) if set.nothing() => {
                change_set::remove(aws, &job.stack, change_set).await?;
                return finished(aws, job, watched).await;
            }
            Some(set) if set.useless() => {
                let why = match set.execution.as_str() {
                    "OBSOLETE" => "it was changed by somebody else in between; deploy again".to_owned(),
                    _ => set.reason,
                };
                return Ok(failed(aws, job, watched, format!("the stack {} can't be changed so: {why}", job.stack)));
            }
            Some(set) if set.ready() => execute(aws, job, change_set, *fresh).await?,
            // It is being executed.
            Some(_) => {}
        }
        watched.executed = true;
    }
    aws.clients.turn("CloudFormation:DescribeStackEvents").await;
    watched.events.read_on(aws, &job.stack, &job.token, job.since_unix_ms).await?;
    match end(&watched.events, name_of(&job.stack)) {
        None => Ok(working(aws, job, watched)),
        Some(End::Well) => finished(aws, job, watched).await,
        Some(End::Failed(why)) => Ok(failed(aws, job, watched, why)),
    }
}

async fn execute(aws: &AwsProvider, job: &Job, name: &str, fresh: bool) -> Result<()> {
    aws.stacks.forget(&job.stack);
    let client = aws.clients.cloudformation().await;
    let call =
        client.execute_change_set().stack_name(&job.stack).change_set_name(name).client_request_token(&job.token);
    let call = if fresh { call.retain_except_on_create(true) } else { call };
    match call.send().await {
        // It is being executed, or was: the events tell.
        Err(error) if matches!(code(&error), "InvalidChangeSetStatus" | "ChangeSetNotFound") => Ok(()),
        answer => answer.or_fault("execute the change set", &job.stack).map(drop),
    }
}

enum Cleared {
    Yes,
    NotYet(String),
    Never(String),
}

/// Puts right what is in the way, then begins what is wanted.
async fn clear(aws: &AwsProvider, job: &Job, before: &Before) -> Result<Cleared> {
    aws.clients.turn("CloudFormation:DescribeStacks").await;
    let name = &job.stack;
    let stack = stack_of(aws, name).await?;
    let status = stack.as_ref().map(|s| s.status.as_str()).unwrap_or_default();
    let kind = match &stack {
        Some(stack) if before.deleting && (status == "DELETE_IN_PROGRESS" || status == "ROLLBACK_IN_PROGRESS") => {
            return Ok(Cleared::NotYet(format!("what is left of the stack {} to go away", stack.name)));
        }
        Some(stack) if before.deleting && status == "DELETE_FAILED" => {
            let why = stack.note().unwrap_or_default();
            return Ok(Cleared::Never(format!("{why}; remove what it names, then deploy again")));
        }
        Some(stack) if status.ends_with("ROLLBACK_IN_PROGRESS") || status.contains("ROLLBACK_COMPLETE_CLEANUP") => {
            return Ok(Cleared::NotYet(format!("the last update of the stack {} to be undone", stack.name)));
        }
        Some(stack) if stack.stuck() => {
            let mut events = Events::default();
            events.read_on(aws, name, &format!("{}-before", job.token), job.since_unix_ms).await?;
            let why = match end(&events, name) {
                Some(End::Failed(why)) => why,
                _ => stack.note().unwrap_or_default(),
            };
            return Ok(Cleared::Never(why));
        }
        // What is wanted has begun: a command before this one came so far.
        Some(stack) if stack.busy() => return Ok(Cleared::Yes),
        Some(stack) if stack.serves() && before.deleting => return Ok(Cleared::Yes),
        Some(stack) if stack.serves() => ChangeSetType::Update,
        _ => ChangeSetType::Create,
    };
    let kind = if before.wanted.import.is_empty() { kind } else { ChangeSetType::Import };
    change_set::make(aws, &before.wanted, kind).await?;
    Ok(Cleared::Yes)
}

async fn finished(aws: &AwsProvider, job: &Job, watched: &Watched) -> Result<Progress> {
    let done = Progress { phase: Phase::Finished, waiting_for: String::new(), ..working(aws, job, watched) };
    if job.stage == Stage::Delete {
        aws.stacks.forget(name_of(&job.stack));
        return Ok(done);
    }
    aws.stacks.forget(&job.stack);
    let Some(stack) = stack_of(aws, &job.stack).await? else {
        return Ok(failed(aws, job, watched, format!("the stack {} was deleted meanwhile", job.stack)));
    };
    if !stack.protected {
        protect(aws, &stack.name, true).await?;
    }
    Ok(Progress { outputs: stack.values(), endpoints: endpoints(&aws.clock, &stack.outputs), ..done })
}

/// Guards a stack against being deleted by hand, or takes that off.
pub(crate) async fn protect(aws: &AwsProvider, stack: &str, on: bool) -> Result<()> {
    let client = aws.clients.cloudformation().await;
    let answer =
        client.update_termination_protection().stack_name(stack).enable_termination_protection(on).send().await;
    answer.or_fault("guard the stack against deletion", stack).map(drop)
}

fn working(aws: &AwsProvider, job: &Job, watched: &Watched) -> Progress {
    Progress {
        waiting_for: watched.events.waiting_for(name_of(&job.stack)),
        events: watched.events.told(&aws.clock),
        ..Progress::in_phase(Phase::Working)
    }
}

fn failed(aws: &AwsProvider, job: &Job, watched: &Watched, why: String) -> Progress {
    aws.stacks.forget(name_of(&job.stack));
    Progress { phase: Phase::Failed { why, logs: Vec::new() }, ..working(aws, job, watched) }
}

/// The name of a stack that is given by name or ARN.
fn name_of(stack: &str) -> &str {
    stack.strip_prefix("arn:").and_then(|arn| arn.split('/').nth(1)).unwrap_or(stack)
}
