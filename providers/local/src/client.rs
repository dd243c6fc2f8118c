//! Calls to the agent: finds it, starts it where one is needed, asks again while it is being restarted, and has an older
//! one make room. It decides nothing about releases.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dbird_core::provider::ErrorKind;
use dbird_core::{ProviderError, Target};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use crate::agent::{self, read_line, write_line};
use crate::config::{OWN_PROGRAM, Paths};
use crate::fault::{Adding, disk, fault};
use crate::provider::LocalProvider;
use crate::wire::{Answer, Build, Call, Hello, PROTOCOL, Request};

/// Between two tries to reach an agent.
const TRY_EVERY: Duration = Duration::from_millis(5);
/// Between two attempts to start one.
const START_EVERY: Duration = Duration::from_secs(1);
/// An answer takes longer only while an image is unpacked ...
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// ... which may take this long.
const UNPACKED_WITHIN: Duration = Duration::from_secs(600);
/// Of the agent's log, in errors.
const LOG_BYTES_SHOWN: usize = 2000;

/// The path of the socket in an open folder: short, however long the folder's own path is.
pub(crate) fn socket_path(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), Paths::SOCKET))
}

enum Reached {
    /// The agent answered.
    Answer(Box<Answer>),
    /// There is none, or it went away meanwhile.
    Nobody(io::Error),
    /// It is another version.
    Other(Hello),
}

impl LocalProvider {
    /// Asks the agent. Without one it is started, if `start` says so, or the answer is none.
    pub(crate) async fn call(&self, target: &Target, call: Call, start: bool) -> Result<Option<Answer>, ProviderError> {
        let operation = name_of(&call);
        let paths = self.paths(target)?;
        let long = matches!(call, Call::Apply { .. } | Call::Run { .. });
        let renew = matches!(call, Call::Apply { .. });
        let request = Request { target: target.clone(), call };
        let deadline = Instant::now() + Duration::from_millis(self.config.start_timeout_ms);
        let mut started: Option<Instant> = None;
        let mut asked_to_go = false;
        loop {
            let patience = if long { UNPACKED_WITHIN } else { ANSWER_WITHIN };
            let reached = match timeout(patience, self.exchange(&paths.folder, &request, renew && !asked_to_go)).await {
                Ok(Ok(reached)) => reached,
                Ok(Err(error)) => Reached::Nobody(error),
                Err(_) => {
                    return Err(fault(
                        ErrorKind::Unavailable,
                        operation,
                        paths.folder.display().to_string(),
                        "the agent does not answer",
                    )
                    .retry()
                    .hint(format!("see {}", paths.log().display())));
                }
            };
            let lost = match reached {
                Reached::Answer(answer) => {
                    return match *answer {
                        Answer::Failed { error } => Err(*error),
                        answer => Ok(Some(answer)),
                    };
                }
                Reached::Other(hello) if hello.build.is_newer_than(&self.build()) && hello.protocol != PROTOCOL => {
                    return Err(fault(ErrorKind::Unsupported, operation, "", "the agent was started by a newer dbird")
                        .hint("use that dbird, or destroy with it first"));
                }
                Reached::Other(_) if Instant::now() < deadline => {
                    asked_to_go = true;
                    self.ask_to_go(&paths.folder).await;
                    continue;
                }
                Reached::Other(_) => {
                    return Err(fault(
                        ErrorKind::Unavailable,
                        operation,
                        "",
                        "the agent of another version does not make room",
                    )
                    .retry());
                }
                Reached::Nobody(error) => error,
            };
            if !start && is_absent(&lost) {
                return Ok(None);
            }
            if lost.kind() == io::ErrorKind::PermissionDenied {
                return Err(disk(
                    operation,
                    paths.folder.display().to_string(),
                    "this user may not call the agent",
                    &lost,
                ));
            }
            if Instant::now() > deadline {
                return Err(self.not_started(operation, &paths, &lost));
            }
            if start && is_absent(&lost) && started.is_none_or(|at| at.elapsed() > START_EVERY) {
                self.start_agent(&paths, target, operation)?;
                started = Some(Instant::now());
            }
            sleep(TRY_EVERY).await;
        }
    }

    /// One try.
    async fn exchange(&self, folder: &Path, request: &Request, renew: bool) -> io::Result<Reached> {
        let stream = connect(folder).await?;
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let build = self.build();
        write_line(&mut writer, &Hello { protocol: PROTOCOL, build: build.clone(), take_over: None }).await?;
        let hello: Hello = read_line(&mut reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if hello.protocol != PROTOCOL || (renew && build.is_newer_than(&hello.build)) {
            return Ok(Reached::Other(hello));
        }
        write_line(&mut writer, request).await?;
        let answer: Answer = read_line(&mut reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Reached::Answer(Box::new(answer)))
    }

    /// Has the agent make room for one from this program, and waits until it is there or surely won't be.
    async fn ask_to_go(&self, folder: &Path) {
        let asked = async {
            let stream = connect(folder).await?;
            let (reader, mut writer) = stream.into_split();
            let hello = Hello { protocol: PROTOCOL, build: self.build(), take_over: Some(self.openable_program()) };
            write_line(&mut writer, &hello).await?;
            read_line::<Hello>(&mut BufReader::new(reader)).await
        };
        if asked.await.is_err() {
            return;
        }
        let deadline = Instant::now() + Duration::from_millis(self.config.start_timeout_ms);
        while Instant::now() < deadline {
            sleep(TRY_EVERY * 2).await;
            if let Ok(Some(hello)) = self.greet(folder).await
                && hello.build == self.build()
            {
                return;
            }
        }
    }

    async fn greet(&self, folder: &Path) -> io::Result<Option<Hello>> {
        let stream = connect(folder).await?;
        let (reader, mut writer) = stream.into_split();
        write_line(&mut writer, &Hello { protocol: PROTOCOL, build: self.build(), take_over: None }).await?;
        match timeout(Duration::from_secs(1), read_line(&mut BufReader::new(reader))).await {
            Ok(hello) => hello,
            Err(_) => Ok(None),
        }
    }

    fn build(&self) -> Build {
        Build::of(&self.config.agent_program)
    }

    /// This program as another process can open it.
    fn openable_program(&self) -> PathBuf {
        if self.config.agent_program == Path::new(OWN_PROGRAM) {
            PathBuf::from(format!("/proc/{}/exe", std::process::id()))
        } else {
            self.config.agent_program.clone()
        }
    }

    fn start_agent(&self, paths: &Paths, target: &Target, operation: &str) -> Result<(), ProviderError> {
        let folder = paths.folder.display().to_string();
        agent::make_folder(paths)
            .map_err(|error| disk(operation, folder.clone(), "can't make the agent's folder", &error))?;
        let mut child = agent::watchdog::start(&self.config.agent_program, &self.config.project, &target.environment)
            .map_err(|error| disk(operation, folder, "can't start the agent", &error))?;
        // It outlives this process, or is the second one and ends at once.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    fn not_started(&self, operation: &str, paths: &Paths, lost: &io::Error) -> ProviderError {
        let log = std::fs::read(paths.log()).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_BYTES_SHOWN)..]).trim().to_owned();
        let mut error =
            fault(ErrorKind::Unavailable, operation, paths.folder.display().to_string(), "the agent can't be reached")
                .because(lost)
                .retry()
                .hint(format!("see {}", paths.log().display()));
        if !tail.is_empty() {
            error.causes.push(format!("its log ends with:\n{tail}"));
        }
        error
    }
}

async fn connect(folder: &Path) -> io::Result<UnixStream> {
    let directory = File::open(folder)?;
    UnixStream::connect(socket_path(&directory)).await
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | ConnectionRefused)
}

fn name_of(call: &Call) -> &'static str {
    match call {
        Call::Observe => "observe",
        Call::Preview { .. } => "preview",
        Call::Apply { .. } => "apply",
        Call::Poll { .. } => "poll",
        Call::Steer { .. } => "steer",
        Call::Sample { .. } => "sample",
        Call::Run { .. } => "run",
        Call::Status => "agent status",
        Call::Shutdown => "stop the agent",
    }
}
