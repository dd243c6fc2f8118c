//! A simulated account for one measurement: the process, what it recorded, and when it was busy.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{
    bench::{Bench, client::Client},
    setup::{self, Outcome},
};

/// The last variable that the simulator names.
const LAST_VARIABLE: &str = "DBIRD_SIMULATOR";

/// A simulated account; it ends, with every task in it, when this value goes.
pub(super) struct Account {
    simulator: Child,
    folder: tempfile::TempDir,
    /// What a client's environment needs.
    pub(super) variables: BTreeMap<String, String>,
    address: SocketAddr,
    read: usize,
}

/// A call that was recorded.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// When it came, in Unix milliseconds.
    pub(super) at_ms: f64,
    /// Its signing name.
    pub(super) service: String,
    /// Its operation.
    pub(super) operation: String,
    /// Its members.
    pub(super) input: String,
}

/// When the cloud was busy with something that was asked of it, in Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Its beginning.
    pub(super) from_ms: f64,
    /// Its end; now, where it has none.
    pub(super) to_ms: f64,
}

/// Now, in Unix milliseconds.
pub(super) fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

impl Account {
    /// An empty one, whose time passes so many times as fast as ours.
    pub(super) fn start(bench: &Bench, speed: u32) -> Outcome<Account> {
        let folder = tempfile::tempdir_in(setup::target()).map_err(|e| e.to_string())?;
        let mut command = Command::new(bench.bin.join("dbird-simulator"));
        command.arg("--shim").arg(bench.bin.join("dataplane-shim")).arg("--folder").arg(folder.path().join("account"));
        command.arg("--record").arg(folder.path().join("record")).args(["--speed", &speed.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut simulator = child.map_err(|e| format!("dbird-simulator: {e}"))?;
        let lines = simulator.stdout.take().map(|out| BufReader::new(out).lines());
        let mut variables = BTreeMap::new();
        for line in lines.into_iter().flatten() {
            let line = line.map_err(|e| e.to_string())?;
            if let Some((name, value)) = line.strip_prefix("export ").and_then(|set| set.split_once('=')) {
                variables.insert(name.to_owned(), value.trim_matches('\'').to_owned());
                if name == LAST_VARIABLE {
                    break;
                }
            }
        }
        let url = variables.get("AWS_ENDPOINT_URL").map(String::as_str).unwrap_or_default();
        let address = url.trim_start_matches("http://").parse();
        let address = address.map_err(|_| format!("the simulator did not say where it answers: {variables:?}"))?;
        Ok(Account { simulator, folder, variables, address, read: 0 })
    }

    /// The calls since this was asked before.
    pub(super) fn new_calls(&mut self) -> Outcome<Vec<Call>> {
        let path: PathBuf = self.folder.path().join("record");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut calls = Vec::new();
        for line in text.lines().skip(self.read) {
            let line: Value = serde_json::from_str(line).map_err(|e| format!("{}: {e}", path.display()))?;
            let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            calls.push(Call {
                at_ms: line["at"].as_f64().unwrap_or_default(),
                service: word("service"),
                operation: word("operation"),
                input: line["input"].to_string(),
            });
        }
        self.read += calls.len();
        Ok(calls)
    }

    /// When the cloud was busy so far.
    pub(super) fn spans(&self) -> Outcome<Vec<Span>> {
        let (spans, now_ms) = (self.report("spans")?, now_ms());
        let ago = |span: &Value, name: &str| now_ms - span[name].as_f64().unwrap_or(0.0);
        let all = spans.as_array().into_iter().flatten();
        Ok(all.map(|s| Span { from_ms: ago(s, "began_ms_ago"), to_ms: ago(s, "ended_ms_ago") }).collect())
    }

    /// How many requests its registry has had.
    pub(super) fn registry_requests(&self) -> Outcome<u64> {
        let calls = self.report("calls")?;
        let counts = calls["counts"].as_object().into_iter().flatten();
        Ok(counts.filter(|(name, _)| name.starts_with("registry:")).filter_map(|(_, n)| n.as_u64()).sum())
    }

    fn report(&self, what: &str) -> Outcome<Value> {
        let answer = Client::new(self.address).get(&format!("/_simulator/{what}")).map_err(|e| e.to_string())?;
        if answer.status != 200 {
            return Err(format!("the simulator does not tell of its {what}: {}", answer.body));
        }
        serde_json::from_str(&answer.body).map_err(|e| format!("the simulator's {what}: {e}"))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Asked, not killed: its tasks end with it.
        let _ = Command::new("kill").args(["-TERM", &self.simulator.id().to_string()]).status();
        let _ = self.simulator.wait();
    }
}
