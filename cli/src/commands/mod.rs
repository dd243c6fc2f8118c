//! The commands, a file each: its help, its options, and one function that does it.

pub(crate) mod abort;
pub(crate) mod backup;
pub(crate) mod bootstrap;
pub(crate) mod completions;
pub(crate) mod deploy;
pub(crate) mod destroy;
pub(crate) mod doctor;
pub(crate) mod drift;
pub(crate) mod drill;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod prepare;
pub(crate) mod promote;
pub(crate) mod rehearse;
pub(crate) mod render;
pub(crate) mod restart;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod status;
pub(crate) mod validate;
pub(crate) mod wait;

use dbird_core::{Cloud, Spec};

use crate::{
    args::{Command, Format, Global},
    clouds::{Simulated, undeployable},
    failure::{Failure, FailureKind, Result},
    interrupt::Interrupts,
    output::{Output, events::Live},
    project::Project,
};

/// How a command ended that did not fail.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Done {
    /// The exit code: 0, or what the command says by it.
    pub(crate) exit_code: u8,
    /// In a word, for the `finished` event.
    pub(crate) outcome: &'static str,
    /// What is live, where the command knows.
    pub(crate) live: Option<Live>,
}

impl Done {
    /// Done, exit code 0.
    pub(crate) fn success() -> Self {
        Done { exit_code: 0, outcome: "done", live: None }
    }
}

/// What every command gets.
pub(crate) struct Context {
    /// The shared options.
    pub(crate) global: Global,
    /// Where to speak.
    pub(crate) out: Output,
    /// The project, if there is one.
    project: Option<Project>,
    /// A simulated account that stands in for AWS.
    simulated: Option<Simulated>,
}

impl Context {
    /// The context of one run.
    pub(crate) fn new(global: Global, out: Output, project: Option<Project>) -> Self {
        Context { global, out, project, simulated: None }
    }

    /// The same with a simulated account in AWS's place, where nobody needs to be asked.
    pub(crate) fn rehearsing(&self, simulated: Simulated) -> Context {
        let global = Global { cloud: Some(Cloud::Aws), yes: true, ..self.global.clone() };
        Context { global, out: self.out.clone(), project: self.project.clone(), simulated: Some(simulated) }
    }

    /// The simulated account that stands in for AWS, in a rehearsal.
    pub(crate) fn simulated(&self) -> Option<&Simulated> {
        self.simulated.as_ref()
    }

    /// The project; an error where there is none.
    pub(crate) fn project(&self) -> Result<&Project> {
        self.project.as_ref().ok_or_else(|| Project::missing(&self.global))
    }

    /// The cloud that is meant.
    pub(crate) fn cloud(&self) -> Cloud {
        self.global.cloud.unwrap_or(Cloud::Local)
    }

    /// The environment that was named; a variable that is set to nothing names none.
    pub(crate) fn wanted(&self) -> Option<&str> {
        self.global.env.as_deref().filter(|name| !name.is_empty())
    }

    /// The specification of the environment that is meant, for a command that works on a cloud.
    pub(crate) fn spec(&self) -> Result<Spec> {
        let cloud = self.cloud();
        if cloud == Cloud::Azure {
            return Err(undeployable(cloud));
        }
        let project = self.project()?;
        let name = project.environment(self.wanted())?;
        project.spec(&name, cloud, &self.global.set, &self.out)
    }
}

impl Context {
    /// Runs what only looks: Ctrl-C ends it at once.
    pub(crate) fn look<T>(&self, work: impl AsyncFnOnce(&Interrupts) -> Result<T>) -> Result<T> {
        block_on(async {
            let interrupts = listen(|_| {})?;
            tokio::select! {
                done = work(&interrupts) => done,
                () = interrupts.first() => Err(Failure::new(FailureKind::Interrupted, "interrupted")),
            }
        })
    }

    /// Runs what deals with Ctrl-C itself.
    pub(crate) fn attend<T>(&self, work: impl AsyncFnOnce(&Interrupts) -> Result<T>) -> Result<T> {
        block_on(async { work(&listen(|_| {})?).await })
    }

    /// Runs what changes something: the first Ctrl-C asks it to stop safely, the second leaves.
    pub(crate) fn work<T>(&self, work: impl AsyncFnOnce(&Interrupts) -> Result<T>) -> Result<T> {
        let out = self.out.clone();
        block_on(async {
            let interrupts = listen(move |count| {
                if count == 1 {
                    out.warning("stopping safely; once more leaves at once");
                }
            })?;
            tokio::select! {
                done = work(&interrupts) => done,
                () = interrupts.second() => {
                    let failure = Failure::new(FailureKind::Interrupted, "left at once; what was begun stays as it is for now");
                    Err(failure.hint("the next `dbird deploy`, `rollback` or `destroy` finishes or undoes it"))
                }
            }
        })
    }
}

/// Asks on the terminal; Ctrl-C is an answer too.
pub(crate) async fn ask(cx: &Context, interrupts: &Interrupts, question: &str) -> Result<Option<String>> {
    let (out, question) = (cx.out.clone(), question.to_owned());
    let answer = tokio::task::spawn_blocking(move || out.ask(&question));
    tokio::select! {
        answer = answer => Ok(answer.ok().flatten()),
        () = interrupts.first() => Err(Failure::new(FailureKind::Interrupted, "interrupted; nothing was changed")),
    }
}

fn listen(told: impl Fn(u32) + Send + 'static) -> Result<Interrupts> {
    Interrupts::listen(told).map_err(|e| Failure::failed("could not listen to signals").because(&e))
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::failed("could not start").because(&e))?;
    let done = runtime.block_on(work);
    // What still runs in the background (packing, after Ctrl-C) is not waited for.
    runtime.shutdown_background();
    done
}

/// Runs a command.
pub(crate) fn run(command: &Command, cx: &Context) -> Result<Done> {
    if cx.out.format() == Format::Markdown && !matches!(command, Command::Plan(_)) {
        return Err(Failure::usage("only `dbird plan` writes Markdown").hint("use -o text or -o json"));
    }
    match command {
        Command::Init(args) => init::run(args, cx),
        Command::Bootstrap(args) => bootstrap::run(args, cx),
        Command::Validate(args) => validate::run(args, cx),
        Command::Explain(args) => explain::run(args, cx),
        Command::Render(args) => render::run(args, cx),
        Command::Plan(args) => plan::run(args, cx),
        Command::Deploy(args) => deploy::run(args, cx),
        Command::Rehearse(args) => rehearse::run(args, cx),
        Command::Status(args) => status::run(args, cx),
        Command::History(args) => history::run(args, cx),
        Command::Drift(args) => drift::run(args, cx),
        Command::Promote(args) => promote::run(args, cx),
        Command::Abort(args) => abort::run(args, cx),
        Command::Pause(args) => pause::run(args, cx),
        Command::Resume(args) => resume::run(args, cx),
        Command::Rollback(args) => rollback::run(args, cx),
        Command::Backup(args) => backup::run(args, cx),
        Command::Restore(args) => restore::run(args, cx),
        Command::Drill(args) => drill::run(args, cx),
        Command::Run(args) => run::run(args, cx),
        Command::Restart(args) => restart::run(args, cx),
        Command::Wait(args) => wait::run(args, cx),
        Command::Logs(args) => logs::run(args, cx),
        Command::Exec(args) => exec::run(args, cx),
        Command::Destroy(args) => destroy::run(args, cx),
        Command::Doctor(args) => doctor::run(args, cx),
        Command::Schema(args) => schema::run(args, cx),
        Command::Completions(args) => completions::run(args, cx),
    }
}

/// What is logged of a command's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logged {
    /// Nothing: it needs no project.
    Not,
    /// It only looks.
    Looking,
    /// It changes something.
    Changing,
}

impl Command {
    /// Its name, and how it is logged.
    pub(crate) fn traits(&self) -> (&'static str, Logged) {
        match self {
            Command::Init(_) => ("init", Logged::Not),
            Command::Explain(_) => ("explain", Logged::Not),
            Command::Schema(_) => ("schema", Logged::Not),
            Command::Completions(_) => ("completions", Logged::Not),
            Command::Validate(_) => ("validate", Logged::Looking),
            Command::Render(_) => ("render", Logged::Looking),
            Command::Plan(_) => ("plan", Logged::Looking),
            Command::Status(_) => ("status", Logged::Looking),
            Command::History(_) => ("history", Logged::Looking),
            Command::Drift(_) => ("drift", Logged::Looking),
            Command::Wait(_) => ("wait", Logged::Looking),
            Command::Logs(_) => ("logs", Logged::Looking),
            Command::Doctor(_) => ("doctor", Logged::Looking),
            Command::Bootstrap(_) => ("bootstrap", Logged::Changing),
            Command::Deploy(_) => ("deploy", Logged::Changing),
            Command::Rehearse(_) => ("rehearse", Logged::Changing),
            Command::Promote(_) => ("promote", Logged::Changing),
            Command::Abort(_) => ("abort", Logged::Changing),
            Command::Pause(_) => ("pause", Logged::Changing),
            Command::Resume(_) => ("resume", Logged::Changing),
            Command::Rollback(_) => ("rollback", Logged::Changing),
            Command::Backup(_) => ("backup", Logged::Changing),
            Command::Restore(_) => ("restore", Logged::Changing),
            Command::Drill(_) => ("drill", Logged::Changing),
            Command::Run(_) => ("run", Logged::Changing),
            Command::Restart(_) => ("restart", Logged::Changing),
            Command::Exec(_) => ("exec", Logged::Changing),
            Command::Destroy(_) => ("destroy", Logged::Changing),
        }
    }
}
