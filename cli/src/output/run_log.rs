//! The log of dbird's own runs, `.dbird/logs/<run>.jsonl`: a bounded number of files of a bounded size. A log that can't
//! be written never fails a command.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Logs that are kept, of all commands together.
const FILES_MAX: usize = 50;
/// Logs that are kept of commands that only look; else a poller would push out the log of the last deploy.
const LOOKS_MAX: usize = 10;
/// A log that has grown to this takes no more lines.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Where a run is logged to; a clone writes to the same file.
#[derive(Clone, Default)]
pub(crate) struct RunLog(Arc<Mutex<Option<Open>>>);

struct Open {
    file: File,
    left_bytes: u64,
}

impl RunLog {
    /// Opens the log of a run below the project's `.dbird`. `looks` says that the command changes nothing: it leaves nothing
    /// in a project in which nothing was deployed yet.
    pub(crate) fn open(project: &Path, run: &str, looks: bool) -> Self {
        if looks && !project.join(".dbird").is_dir() {
            return RunLog::default();
        }
        let folder = project.join(".dbird").join("logs");
        let open = || -> io::Result<Open> {
            crate::project::state_folder(project)?;
            fs::create_dir_all(&folder)?;
            let name = folder.join(format!("{run}{}", if looks { ".look.jsonl" } else { ".jsonl" }));
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(name)?;
            Ok(Open { file, left_bytes: FILE_BYTES_MAX })
        };
        let opened = open().ok();
        if opened.is_some() {
            prune(&folder);
        }
        RunLog(Arc::new(Mutex::new(opened)))
    }

    /// Appends one line.
    pub(crate) fn line(&self, line: &[u8]) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(log) = open.as_mut() else { return };
        let length = line.len() as u64 + 1;
        let written = if log.left_bytes < length {
            log.file.write_all(b"{\"event\":\"log-full\"}\n").and(Err(io::ErrorKind::FileTooLarge.into()))
        } else {
            log.left_bytes -= length;
            log.file.write_all(&[line, b"\n"].concat())
        };
        if written.is_err() {
            *open = None;
        }
    }
}

/// So that the lines of the program's own tracing go into the same file.
impl Write for RunLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line(bytes.trim_ascii_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the oldest logs away. Names begin with the time, so their order is that of time.
fn prune(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut names: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "jsonl")).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    let looks = |p: &&PathBuf| p.to_string_lossy().ends_with(".look.jsonl");
    let surplus = names.iter().filter(looks).skip(LOOKS_MAX);
    let surplus = surplus.chain(names.iter().filter(|p| !looks(p)).skip(FILES_MAX - LOOKS_MAX));
    for path in surplus {
        // Another dbird may have been quicker.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_logs_go_and_looking_never_pushes_out_a_deploy() {
        let project = tempfile::tempdir().unwrap();
        for n in 0..60 {
            RunLog::open(project.path(), &format!("20260101T0000{n:02}-deploy"), false).line(b"{}");
        }
        for n in 0..60 {
            RunLog::open(project.path(), &format!("20260102T0000{n:02}-status"), true).line(b"{}");
        }
        let names: Vec<String> = fs::read_dir(project.path().join(".dbird/logs"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), FILES_MAX);
        assert_eq!(names.iter().filter(|n| n.contains("status")).count(), LOOKS_MAX);
        assert!(
            names.iter().any(|n| n.contains("000059-deploy")) && !names.iter().any(|n| n.contains("000019-deploy"))
        );
    }

    #[test]
    fn a_log_is_bounded_and_one_that_cannot_be_written_is_silent() {
        let project = tempfile::tempdir().unwrap();
        let log = RunLog::open(project.path(), "20260101T000000-deploy", false);
        let line = vec![b'x'; 1 << 20];
        for _ in 0..8 {
            log.line(&line);
        }
        let path = project.path().join(".dbird/logs/20260101T000000-deploy.jsonl");
        assert!(fs::metadata(path).unwrap().len() < FILE_BYTES_MAX + 100);
        RunLog::open(Path::new("/proc/nowhere"), "x", false).line(b"{}");
        RunLog::default().line(b"{}");
    }
}
