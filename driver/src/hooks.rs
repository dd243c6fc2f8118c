//! One-off tasks: those that people start, and those that a release runs on its way. Their output becomes events, and their
//! exit code is the real one.

use dbird_core::{
    Command, Cursor, Handle, LogQuery, Phase, ProviderError, ReleaseId, Steer, Target,
    provider::ErrorKind,
    spec::{Hook, HookWhen},
};

use crate::{
    Error, Event, Interrupt, Operator,
    call::{Caller, within},
    error::sentence,
    lease::Lease,
    run::Run,
    webhook,
};

/// Time for a task that was stopped to end, and for a provider to notice a time-out itself.
const END_MS: u64 = 30_000;
/// Whoever waits for an address to answer shows a sign of life this often.
const SIGN_OF_LIFE_MS: u64 = 1_000;
/// A page of lines that takes longer comes with the next one.
const PAGE_MS: u64 = 2_000;
/// Lines asked for at once.
const LINES_MAX: u32 = 10_000;
/// Pages read after a task's end.
const PAGES_MAX: u32 = 100;

/// How a task ended.
#[derive(Debug, Clone)]
pub(crate) enum TaskOutcome {
    Exited(i32),
    Failed(String, Option<ProviderError>),
    Interrupted,
}

/// Starts a task and follows it to its end, or until somebody wants it to stop.
pub(crate) async fn run_task(
    operator: &Operator,
    mut lease: Option<&mut Lease>,
    command: &Command,
    stop: &Interrupt,
) -> Result<TaskOutcome, Error> {
    let clock = &*operator.clock;
    let (provider, target) = (&*operator.provider, &operator.target);
    let cloud = provider.capabilities().cloud;
    let handle = {
        let mut caller = Caller { clock, cloud, lease: lease.as_deref_mut() };
        match caller.change("run", || provider.run(target, command)).await? {
            Ok(handle) => handle,
            Err(e) => return Ok(TaskOutcome::Failed(sentence(&e), Some(e))),
        }
    };
    let started_ms = clock.boot_ms();
    let mut cursor = None;
    let mut stopping: Option<(u64, TaskOutcome)> = None;
    let mut idle_ms = 10;
    loop {
        let mut caller = Caller { clock, cloud, lease: lease.as_deref_mut() };
        let asked_ms = clock.boot_ms();
        let progress = match caller.ask("poll", || provider.poll(target, &handle)).await? {
            Ok(progress) => progress,
            Err(e) => return Ok(TaskOutcome::Failed(sentence(&e), Some(e))),
        };
        read_output(operator, &handle, &mut cursor).await;
        let ended = match (&progress.phase, progress.exit_code) {
            (Phase::Finished, Some(code)) => Some(TaskOutcome::Exited(code)),
            (Phase::Finished, None) => Some(TaskOutcome::Failed("it ended without an exit code".to_owned(), None)),
            (Phase::Failed { why, .. }, _) => Some(TaskOutcome::Failed(why.clone(), None)),
            _ => None,
        };
        let now_ms = clock.boot_ms();
        if let Some(ended) = ended {
            read_rest(operator, &handle, &mut cursor).await;
            return Ok(stopping.map_or(ended, |(_, outcome)| outcome));
        }
        if let Some((since_ms, outcome)) = &stopping {
            if now_ms.saturating_sub(*since_ms) > END_MS {
                return Ok(outcome.clone());
            }
        } else {
            let limit_ms = command.timeout_ms.map(|t| t.saturating_add(END_MS));
            let outcome = if operator.interrupt.raised() || stop.raised() {
                Some(TaskOutcome::Interrupted)
            } else if limit_ms.is_some_and(|limit| now_ms.saturating_sub(started_ms) > limit) {
                Some(TaskOutcome::Failed("it ran out of time".to_owned(), None))
            } else {
                None
            };
            if let Some(outcome) = outcome {
                stopping = Some((now_ms, outcome));
                let stop = Steer::Stop { roll_back: false };
                let mut caller = Caller { clock, cloud, lease: lease.as_deref_mut() };
                if let Err(e) = caller.change("stop a task", || provider.steer(target, &handle, &stop)).await? {
                    operator.report(&Event::Warning { text: format!("the task may go on: {}", sentence(&e)) });
                }
                continue;
            }
        }
        // A provider that has no news at once is not asked without pause.
        if now_ms.saturating_sub(asked_ms) < 20 {
            let until_ms = now_ms + idle_ms;
            if stopping.is_none() {
                let _ = within(clock, until_ms, operator.interrupt.wait()).await;
            } else {
                clock.sleep(idle_ms).await;
            }
            idle_ms = (idle_ms * 2).min(250);
        }
    }
}

async fn read_output(operator: &Operator, handle: &Handle, cursor: &mut Option<Cursor>) -> bool {
    let query = LogQuery { release: None, task: Some(handle.token.clone()), tail_lines: LINES_MAX };
    let clock = &*operator.clock;
    let asked = operator.provider.logs(&operator.target, &query, cursor.as_ref());
    let Some(answer) = within(clock, clock.boot_ms() + PAGE_MS, asked).await else { return false };
    let page = match answer {
        Ok(page) => page,
        // A task that has not written yet may not be known to the logs.
        Err(e) if e.retry || e.kind == ErrorKind::NotFound => return false,
        Err(e) => {
            tracing::warn!(error = %e, "a task's output can't be read");
            return false;
        }
    };
    let some = !page.lines.is_empty();
    for line in page.lines {
        operator.report(&Event::TaskOutput {
            task: handle.token.clone(),
            stderr: line.stderr,
            at_unix_ms: line.at_unix_ms,
            text: line.text,
        });
    }
    *cursor = Some(page.next);
    some && page.more
}

async fn read_rest(operator: &Operator, handle: &Handle, cursor: &mut Option<Cursor>) {
    for _ in 0..PAGES_MAX {
        if !read_output(operator, handle, cursor).await {
            return;
        }
    }
}

impl Run<'_> {
    /// Runs one hook, or tells its address; why it failed. `weight` is the candidate's share of the traffic.
    pub(crate) async fn hook(
        &mut self,
        index: usize,
        release: ReleaseId,
        weight: u8,
        stop: &Interrupt,
    ) -> Result<Option<String>, Error> {
        let hook = self.begun.plan.course.as_ref().and_then(|c| c.hooks.get(index));
        let Some(Hook { when, run: argv, url, timeout_ms }) = hook.cloned() else { return Ok(None) };
        let shown = url.as_ref().map_or_else(|| argv.clone(), |url| vec!["POST".to_owned(), webhook::shown(url)]);
        self.operator.report(&Event::HookStarted { when, index, argv: shown.clone() });
        let start_ms = self.operator.clock.boot_ms();
        let outcome = match url {
            Some(url) => self.tell_address(&url, when, weight, timeout_ms, stop).await?,
            None => {
                // Unlike any that this plan has run before, also by somebody who died.
                let key = format!("{}-hook-{index}-{}", self.begun.release, self.journal.number());
                let command = Command { release, argv, timeout_ms: Some(timeout_ms), key };
                run_task(self.operator, Some(&mut self.lease), &command, stop).await?
            }
        };
        let took_ms = self.operator.clock.boot_ms() - start_ms;
        let name = shown.join(" ");
        let (why, exit_code) = match outcome {
            TaskOutcome::Exited(0) => {
                self.operator.report(&Event::HookFinished { when, index, took_ms });
                return Ok(None);
            }
            TaskOutcome::Exited(code) => (format!("the hook `{name}` ended with exit code {code}"), Some(code)),
            TaskOutcome::Failed(why, _) => (format!("the hook `{name}` failed: {why}"), None),
            TaskOutcome::Interrupted => ("interrupted".to_owned(), None),
        };
        self.operator.report(&Event::HookFailed { when, index, why: why.clone(), exit_code, took_ms });
        Ok(Some(why))
    }

    /// Tells an address, while the lease shows signs of life.
    async fn tell_address(
        &mut self,
        url: &str,
        when: HookWhen,
        weight: u8,
        timeout_ms: u64,
        stop: &Interrupt,
    ) -> Result<TaskOutcome, Error> {
        let Target { service, environment } = &self.operator.target;
        let told = webhook::Told {
            format: 1,
            when,
            service: service.clone(),
            environment: environment.clone(),
            release: self.begun.release.to_string(),
            parent: self.begun.plan.parent.map(|p| p.to_string()),
            weight,
            actor: self.begun.actor.clone(),
        };
        let clock = self.operator.clock.clone();
        let interrupt = self.operator.interrupt.clone();
        let telling = webhook::tell(url, &told, timeout_ms);
        tokio::pin!(telling);
        loop {
            let pause = async {
                tokio::select! { () = clock.sleep(SIGN_OF_LIFE_MS) => {} () = interrupt.wait() => {} () = stop.wait() => {} }
            };
            tokio::select! {
                answer = &mut telling => {
                    return Ok(match answer {
                        Ok(()) => TaskOutcome::Exited(0),
                        Err(why) => TaskOutcome::Failed(why, None),
                    });
                }
                () = pause => {
                    if stop.raised() || (interrupt.raised() && when != HookWhen::Rollback) {
                        return Ok(TaskOutcome::Interrupted);
                    }
                    self.lease.renew().await?;
                }
            }
        }
    }
}
