//! Runs the project's build command and passes its output on. It does not know what the command makes.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, PipeReader, Read},
    path::Path,
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Command, sync::mpsc};

use super::ImageError;
use crate::{
    interrupt::Interrupts,
    output::{Event, Output},
};

/// Lines that are shown again when the command fails.
const LAST_LINES: usize = 30;
/// A longer line is shown in pieces.
const LINE_BYTES_MAX: u64 = 4096;
/// An interrupted command is killed when it has not ended after this long.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Runs the command in the project's folder, with this terminal's environment and without its input.
pub(crate) async fn run(
    project: &Path,
    command: &[String],
    out: &Output,
    interrupts: &Interrupts,
) -> Result<(), ImageError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let text = command.join(" ");
    out.event(Event::Building { command: text.clone() });

    let missing = |source| ImageError::CommandMissing { program: program.clone(), source };
    // Both streams through one pipe, or their lines would change places.
    let (reader, writer) = io::pipe().map_err(missing)?;
    let mut child = Command::new(program);
    // A group of its own, so that it can be stopped with everything that it has started.
    child.args(arguments).current_dir(project).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    child.stdout(writer.try_clone().map_err(missing)?).stderr(writer);
    let mut running = child.spawn().map_err(missing)?;
    // The command's copy of the writing end has to go, or the pipe never ends.
    drop(child);

    let (sender, mut lines) = mpsc::channel(256);
    std::thread::spawn(move || pass_on(reader, &sender));
    let mut last = VecDeque::new();
    let ended = loop {
        tokio::select! {
            biased;
            line = lines.recv() => match line {
                Some(line) => {
                    if last.len() == LAST_LINES {
                        last.pop_front();
                    }
                    last.push_back(line.clone());
                    out.event(Event::Build { line });
                }
                // All output is there; a grandchild that keeps the pipe open is waited for like the command itself.
                None => break running.wait().await,
            },
            () = interrupts.first() => {
                stop(&mut running).await;
                return Err(ImageError::Interrupted);
            }
        }
    };
    let status = ended.map_err(missing)?;
    if status.success() {
        return Ok(());
    }
    Err(ImageError::CommandFailed { command: text, status: status.to_string(), lines: last.into() })
}

/// Asks the command and everything that it has started to end, and kills what does not.
async fn stop(running: &mut tokio::process::Child) {
    let group = running.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let tell = |signal| group.map(|group| kill_process_group(group, signal));
    let _ = tell(Signal::INT);
    if tokio::time::timeout(STOP_GRACE, running.wait()).await.is_err() {
        let _ = tell(Signal::KILL);
        let _ = running.wait().await;
    }
}

fn pass_on(reader: PipeReader, lines: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        if lines.blocking_send(text).is_err() {
            return;
        }
    }
}
