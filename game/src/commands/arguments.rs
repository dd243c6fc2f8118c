//! Decides what the arguments of a command mean; it looks at nothing else.

use std::time::Duration;

use super::Failure;

/// Segments that are younger may have an owner that is alive: it ends them after `SEGMENT_IDLE_MAX` at the latest.
const OLDER_THAN_LEAST: Duration = Duration::from_secs(2 * spool::SEGMENT_IDLE_MAX.as_secs());
const OLDER_THAN: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(60);
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(super) enum Command {
    Backup(Backup),
    Restore(Restore),
    Stored(Stored),
    Downgrade(Downgrade),
    Gc(Gc),
    Help(&'static str),
}

#[derive(Debug)]
pub(super) struct Backup {
    pub(super) target: String,
    pub(super) replace: bool,
    pub(super) timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Restore {
    pub(super) source: String,
    pub(super) yes: bool,
    pub(super) unreadable: bool,
    pub(super) running: bool,
    pub(super) timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) prefix: String,
    pub(super) timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Downgrade {
    pub(super) leave_unread: bool,
    pub(super) timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Gc {
    pub(super) older_than: Duration,
    pub(super) timeout: Duration,
}

const BACKUP: &str = "\
Copies the scores, all that were acknowledged before, to TARGET; the service may go on.

Usage: drafty-bird backup [--replace] [--timeout 60s] [--json] TARGET

TARGET is a file, a folder (the name then says the time), or a URL: file:///PATH, s3://BUCKET/PATH, az://CONTAINER/PATH,
gs://BUCKET/PATH; one that ends with / gets a name that says the time. Nothing that is there is replaced without --replace.
Beside it a manifest is written, TARGET.json, which restore needs. SCORE_DB_PATH says whose scores.

Access to object stores is set by AWS_*, AZURE_* and GOOGLE_* variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION, AWS_ENDPOINT; AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY; GOOGLE_SERVICE_ACCOUNT), or is the machine's own.

  --replace        make TARGET's folder, and replace the backup that is there: it can be restored until the new one can
  --timeout TIME   how long to wait for the copy (60s)
  --json           one line of JSON instead of text

Exit codes: 0 done, 1 not done, 2 wrong arguments
";

const RESTORE: &str = "\
Replaces the scores by those of a backup. Stop the service before, or add --running.

Usage: drafty-bird restore [--yes] [--running] [--timeout 60s] [--json] SOURCE

SOURCE is what backup wrote to: a file or a URL, with its manifest SOURCE.json beside it. What it holds is checked before
anything is changed. The scores that are replaced are kept beside SCORE_DB_PATH, as before-restore-EPOCH.db; scores that
were accepted and are not in any database yet are added to those of the backup.

  --yes            replace scores that are there
  --running        the service runs: take the database over from it for a moment; it goes on accepting meanwhile
  --unreadable     the database that is there can't be used any more: keep its file as it is instead of a copy of its scores
  --timeout TIME   how long to wait for another process that still writes, and for the database (60s)
  --json           one line of JSON instead of text

Exit codes: 0 done, 1 not done, 2 wrong arguments, or --yes is missing
";

const STORED: &str = "\
Prints the identity (runId) of every score that was acknowledged before and begins with PREFIX, a hundred a line; the service
may go on.

Usage: drafty-bird stored [--timeout 60s] [--json] PREFIX

  --timeout TIME   how long to wait for a copy of the database (60s)
  --json           one line of JSON instead of text

Exit codes: 0 done, 1 not done, 2 wrong arguments
";

const DOWNGRADE: &str = "\
Moves the scores back into one SQLite database at SCORE_DB_PATH, for a release that knows no spool. Stop the service before.

Usage: drafty-bird downgrade [--timeout 60s] [--json]

The way up again needs no command: the next start with SCORE_STORAGE=spool takes over what is at SCORE_DB_PATH then.

  --leave-unread   even if there are accepted scores that can't be read: they stay on the share, for the way up again
  --timeout TIME   how long to wait for another process that still writes, and for the database (60s)
  --json           one line of JSON instead of text

Exit codes: 0 done, or it was done before; 1 not done; 2 wrong arguments
";

const GC: &str = "\
Removes by hand what no process may remove: what dead processes left beside SCORE_DB_PATH. The service may go on.

Usage: drafty-bird gc [--older-than 1h] [--timeout 60s] [--json]

Removed are segments that nobody added to for so long, once every score in them is in the database, and files of work that was
broken off. What was kept aside as damaged is never removed.

  --older-than TIME   at least 20m (1h)
  --timeout TIME      how long to wait until what they hold is in the database (60s)
  --json              one line of JSON instead of text

Exit codes: 0 done, 1 not done, 2 wrong arguments
";

/// The command that `words` name, the first of them one of [`super::NAMES`].
pub(super) fn parse(words: &[&str]) -> Result<Command, Failure> {
    let (name, rest) = words.split_first().unwrap_or((&"", &[]));
    let help = match *name {
        "backup" => BACKUP,
        "restore" => RESTORE,
        "stored" => STORED,
        "downgrade" => DOWNGRADE,
        _ => GC,
    };
    let mut read = Read { name, places: Vec::new(), flags: Vec::new(), timeout: TIMEOUT, older_than: OLDER_THAN };
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let (flag, value) = word.split_once('=').map_or((*word, None), |(flag, value)| (flag, Some(value)));
        match flag {
            "--help" | "-h" => return Ok(Command::Help(help)),
            "--timeout" => read.timeout = read.time(flag, value.or_else(|| rest.next().copied()))?,
            "--older-than" if *name == "gc" => {
                read.older_than = read.time(flag, value.or_else(|| rest.next().copied()))?;
            }
            "--json" | "--yes" | "--replace" | "--running" | "--unreadable" | "--leave-unread" if value.is_none() => {
                read.flags.push(flag)
            }
            _ if word.starts_with('-') => return Err(read.wrong(format!("unknown argument {word}"))),
            _ => read.places.push(word),
        }
    }
    read.command()
}

struct Read<'a> {
    name: &'a str,
    places: Vec<&'a str>,
    flags: Vec<&'a str>,
    timeout: Duration,
    older_than: Duration,
}

impl Read<'_> {
    fn command(mut self) -> Result<Command, Failure> {
        let (place, allowed): (Option<&str>, &[&str]) = match self.name {
            "backup" => (Some("TARGET"), &["--json", "--replace"]),
            "restore" => (Some("SOURCE"), &["--json", "--yes", "--running", "--unreadable"]),
            "stored" => (Some("PREFIX"), &["--json"]),
            "downgrade" => (None, &["--json", "--leave-unread"]),
            _ => (None, &["--json"]),
        };
        if let Some(flag) = self.flags.iter().find(|flag| !allowed.contains(flag)) {
            return Err(self.wrong(format!("unknown argument {flag}")));
        }
        let wanted = usize::from(place.is_some());
        if self.places.len() != wanted || self.places.contains(&"") {
            return Err(self.wrong(match place {
                Some(place) if self.places.is_empty() => format!("{place} is missing"),
                Some(place) => format!("one {place}, not {}", self.places.join(" ")),
                None => format!("unknown argument {}", self.places.join(" ")),
            }));
        }
        if self.older_than < OLDER_THAN_LEAST {
            let least = humantime::format_duration(OLDER_THAN_LEAST);
            return Err(self.wrong(format!("--older-than is less than {least}: an owner may be alive so long")));
        }
        let place = self.places.pop().unwrap_or_default().to_owned();
        let has = |flag| self.flags.contains(&flag);
        if has("--running") && has("--unreadable") {
            return Err(self.wrong("--running and --unreadable exclude each other: stop the service first".to_owned()));
        }
        let timeout = self.timeout;
        Ok(match self.name {
            "backup" => Command::Backup(Backup { target: place, replace: has("--replace"), timeout }),
            "restore" => {
                let (yes, running, unreadable) = (has("--yes"), has("--running"), has("--unreadable"));
                Command::Restore(Restore { source: place, yes, unreadable, running, timeout })
            }
            "stored" => Command::Stored(Stored { prefix: place, timeout }),
            "downgrade" => Command::Downgrade(Downgrade { leave_unread: has("--leave-unread"), timeout }),
            _ => Command::Gc(Gc { older_than: self.older_than, timeout }),
        })
    }

    fn time(&self, flag: &str, value: Option<&str>) -> Result<Duration, Failure> {
        let time = value.and_then(|value| humantime::parse_duration(value).ok());
        // A longer one can't be added to a clock.
        let time = time.filter(|time| flag != "--timeout" || *time <= TIMEOUT_MAX);
        time.ok_or_else(|| self.wrong(format!("{flag} needs a time like 90s, 5m or 2h")))
    }

    fn wrong(&self, what: String) -> Failure {
        Failure::usage(what).advise(format!("see drafty-bird {} --help", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, parse};

    #[test]
    fn what_is_wrong_is_said() {
        for (line, said) in [
            ("backup", "TARGET is missing"),
            ("backup a b", "one TARGET, not a b"),
            ("backup --yes a", "unknown argument --yes"),
            ("restore --leave-unread a", "unknown argument --leave-unread"),
            ("downgrade x", "unknown argument x"),
            ("stored", "PREFIX is missing"),
            ("stored --yes x", "unknown argument --yes"),
            ("gc --older-than 19m", "less than 20m"),
            ("gc --older-than", "--older-than needs a time"),
            ("gc --timeout soon", "--timeout needs a time"),
            ("gc --timeout 9999h", "--timeout needs a time"),
            ("backup --older-than 1h x", "unknown argument --older-than"),
            ("restore --yes=no a", "unknown argument --yes=no"),
            ("restore --running --unreadable a", "exclude each other"),
            ("restore --replace a", "unknown argument --replace"),
            ("backup --running a", "unknown argument --running"),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            let failure = parse(&words).unwrap_err();
            assert!(failure.what.contains(said) && failure.code == 2, "{line}: {}", failure.what);
        }
    }

    #[test]
    fn flags_may_be_anywhere() {
        for line in
            ["restore --yes --timeout 5s a", "restore a --timeout=5s --yes", "restore --timeout=5s a --yes --json"]
        {
            let words: Vec<&str> = line.split(' ').collect();
            let Command::Restore(restore) = parse(&words).unwrap() else { panic!("{line}") };
            assert_eq!((restore.source.as_str(), restore.yes, restore.timeout.as_secs()), ("a", true, 5));
        }
        assert!(matches!(parse(&["gc", "--help"]), Ok(Command::Help(_))));
    }
}
