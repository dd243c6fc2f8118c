//! A share with the real program beside it, and what a test asks of both.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Output};

use serde_json::Value;

use crate::common::{Server, program, stored_runs, until};

/// A share, and what is beside it.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) aside: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), aside: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("db.sqlite")
    }

    pub(crate) fn aside(&self, name: &str) -> String {
        self.aside.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn server(&self, storage: &str) -> Server {
        Server::start_ready(&[("SCORE_DB_PATH", self.database().to_str().unwrap()), ("SCORE_STORAGE", storage)])
    }

    /// Scores, moved into the database by a server that has stopped since.
    pub(crate) fn with_scores(&self, storage: &str, runs: &[&str]) {
        let mut server = self.server(storage);
        post(&server, runs);
        if storage == "spool" {
            // One that stops before its turn leaves what it accepted to the next.
            until("ingesting", || server.get("/readyz").is_ok_and(|answer| answer.json()["role"] == "active"));
        }
        assert_eq!(server.stop().code(), Some(0));
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let database = self.database();
        let variables = [("SCORE_DB_PATH", database.to_str().unwrap()), ("SCORE_STORAGE", "spool")];
        program(&variables).args(arguments).spawn().unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.spawn(arguments).wait_with_output().unwrap()
    }

    /// What a command says that must succeed.
    pub(crate) fn did(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a command says that must not.
    pub(crate) fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        said
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("spool")).unwrap().map(|name| name.unwrap().path()).collect()
    }

    /// The database of the last epoch that has one.
    pub(crate) fn stored(&self) -> HashSet<String> {
        let epoch = |name: &str| name.strip_prefix("drafty.")?.strip_suffix(".db")?.parse::<u64>().ok();
        let last = self.names().iter().filter_map(|name| epoch(name)).max().unwrap();
        stored_runs(&self.path(&format!("drafty.{last}.db")))
    }

    pub(crate) fn nothing_is_left(&self) {
        let left: Vec<String> = self
            .names()
            .into_iter()
            .filter(|name| name.starts_with("backup.") || name.starts_with("restore.") || name.ends_with(".tmp"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let aside: Vec<_> = fs::read_dir(self.aside.path()).unwrap().map(|name| name.unwrap().file_name()).collect();
        assert!(aside.iter().all(|name| !name.to_string_lossy().contains("tmp")), "{aside:?}");
    }
}

pub(crate) fn post(server: &Server, runs: &[&str]) {
    for run in runs {
        let body = format!(r#"{{"player":"P","score":7,"runId":"{run}"}}"#);
        assert_eq!(server.post_score(&body).unwrap().status, 201);
    }
}

pub(crate) fn runs(names: &[&str]) -> HashSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
