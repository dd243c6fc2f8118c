//! What two runs of the same commands asked and were answered: which operations, and which members each had. Values are not in
//! the files, so none can be compared, and none can be seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use crate::setup::Outcome;

/// What one run's traffic was like, by operation.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    operations: BTreeMap<String, Seen>,
}

/// What was seen of one operation, all its requests taken together.
#[derive(Debug, Default)]
struct Seen {
    requests: usize,
    refused: usize,
    input: BTreeSet<String>,
    output: BTreeSet<String>,
}

impl Shapes {
    /// Reads what `dbird` wrote where `DBIRD_SHAPES` named a file.
    pub(crate) fn read(path: &Path) -> Outcome<Shapes> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Outcome<Shapes> {
        let mut shapes = Shapes::default();
        for line in text.lines() {
            let line: Value =
                serde_json::from_str(line).map_err(|e| format!("a line of the shapes is no JSON: {e}"))?;
            let name = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let seen = shapes.operations.entry(format!("{}:{}", name("service"), name("operation"))).or_default();
            seen.requests += 1;
            seen.refused += usize::from(line["ok"] != true);
            let members = |key: &str| {
                let all = line[key].as_array().map_or(&[][..], Vec::as_slice);
                all.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
            };
            seen.input.extend(members("input"));
            seen.output.extend(members("output"));
        }
        Ok(shapes)
    }

    pub(crate) fn requests(&self) -> usize {
        self.operations.values().map(|seen| seen.requests).sum()
    }

    pub(crate) fn refused(&self) -> usize {
        self.operations.values().map(|seen| seen.refused).sum()
    }

    pub(crate) fn operations(&self) -> usize {
        self.operations.len()
    }
}

/// In what the runs differ, each a line: operations that only one has, and members that only one's requests or answers had.
pub(crate) fn differences(simulated: &Shapes, real: &Shapes) -> Vec<String> {
    let names: BTreeSet<&String> = simulated.operations.keys().chain(real.operations.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        match (simulated.operations.get(name), real.operations.get(name)) {
            (Some(_), None) => found.push(format!("{name} was asked of the simulator only")),
            (None, _) => found.push(format!("{name} was asked of the account only")),
            (Some(simulated), Some(real)) => {
                members(name, "request", &simulated.input, &real.input, &mut found);
                // An operation that was always refused has no answer to compare.
                if simulated.refused < simulated.requests && real.refused < real.requests {
                    members(name, "answer", &simulated.output, &real.output, &mut found);
                }
            }
        }
    }
    found
}

fn members(name: &str, of: &str, simulated: &BTreeSet<String>, real: &BTreeSet<String>, found: &mut Vec<String>) {
    for (whose, only) in
        [("the simulator's", simulated.difference(real)), ("the account's", real.difference(simulated))]
    {
        let only: Vec<_> = only.map(|member| format!("`{member}`")).collect();
        if !only.is_empty() {
            found.push(format!("{name}: only {whose} {of} has {}", only.join(", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_differ_by_operations_and_members() {
        let line = |operation: &str, ok: bool, input: &[&str], output: &[&str]| {
            serde_json::json!({ "service": "ECS", "operation": operation, "ok": ok, "input": input, "output": output })
                .to_string()
        };
        let simulated = [line("A", true, &["x"], &["y", "z"]), line("B", true, &[], &[]), line("D", false, &[], &[])];
        let real = [line("A", true, &["x", "w"], &["y"]), line("C", true, &[], &[]), line("D", true, &[], &["q"])];
        let [simulated, real] = [simulated, real].map(|lines| Shapes::parse(&lines.join("\n")).unwrap_or_default());
        assert_eq!(
            differences(&simulated, &real),
            [
                "ECS:A: only the account's request has `w`",
                "ECS:A: only the simulator's answer has `z`",
                "ECS:B was asked of the simulator only",
                "ECS:C was asked of the account only",
            ]
        );
        assert_eq!((simulated.requests(), simulated.refused(), simulated.operations()), (3, 1, 3));
    }
}
