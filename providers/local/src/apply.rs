//! Starting a step or a one-off task, from the command's side. It decides where secrets come from; the rest is the agent's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dataplane::Secret;
use dbird_core::provider::{ErrorKind, Result};
use dbird_core::{Action, Command, Handle, ProviderError, StepKind, Target, Work};

use crate::config::secrets_file;
use crate::document::{self, ServiceDocument};
use crate::fault::{Adding, disk, fault};
use crate::provider::LocalProvider;
use crate::wire::{Answer, Call};

impl LocalProvider {
    pub(crate) async fn do_apply(&self, target: &Target, work: &Work) -> Result<Handle> {
        let mut secrets = BTreeMap::new();
        if work.kind == StepKind::Service && !matches!(work.action, Action::Delete) {
            let body: ServiceDocument = document::read(&work.body).map_err(|why| {
                fault(ErrorKind::Invalid, "apply service", work.step.to_string(), why)
                    .hint("`dbird render` shows the document")
            })?;
            secrets = resolve(&self.config.project, &body, |name| std::env::var(name).ok())?;
        }
        match self.call(target, Call::Apply { work: Box::new(work.clone()), secrets }, true).await? {
            Some(Answer::Handle { handle }) => Ok(handle),
            other => Err(self.unexpected("apply", other)),
        }
    }

    pub(crate) async fn do_run(&self, target: &Target, command: &Command) -> Result<Handle> {
        match self.call(target, Call::Run { command: command.clone() }, true).await? {
            Some(Answer::Handle { handle }) => Ok(handle),
            other => Err(self.unexpected("run", other)),
        }
    }
}

/// The values of all secrets that a service names: from the project's file, by the secret's name or the variable's, else
/// from the caller's environment by the variable's name. Every one that is missing is named.
fn resolve(
    project: &Path,
    body: &ServiceDocument,
    var: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, Secret>> {
    if body.secrets.is_empty() {
        return Ok(BTreeMap::new());
    }
    let path = secrets_file(project);
    let known = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => {
            return Err(disk("read secrets", path.display().to_string(), "can't read the project's secrets", &error));
        }
        Ok(text) => {
            warn_if_open(&path);
            parse(&text).map_err(|line| malformed(&path, line))?
        }
    };
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for (variable, secret) in &body.secrets {
        match known
            .get(&secret.name)
            .or_else(|| known.get(variable))
            .cloned()
            .or_else(|| var(variable).map(Secret::new))
        {
            Some(value) if value.reveal().contains('\0') => {
                return Err(fault(
                    ErrorKind::Invalid,
                    "read secrets",
                    &secret.name,
                    format!("secret `{}` holds a NUL byte", secret.name),
                ));
            }
            Some(value) => drop(found.insert(variable.clone(), value)),
            None => missing.push(format!("`{}` ({variable})", secret.name)),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let what = format!("no value for secret {}", missing.join(", "));
    let first = body.secrets.iter().find(|(variable, _)| !found.contains_key(*variable));
    let (variable, name) =
        first.map(|(variable, secret)| (variable.as_str(), secret.name.as_str())).unwrap_or_default();
    Err(fault(ErrorKind::Invalid, "read secrets", path.display().to_string(), what).hint(format!(
        "write `{name}=<value>` into {}, or set {variable} in the environment of this command",
        path.display()
    )))
}

fn warn_if_open(path: &Path) {
    let open = fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    if open {
        tracing::warn!("other users may read {}: chmod 600 it", path.display());
    }
}

fn malformed(path: &Path, line: usize) -> ProviderError {
    fault(
        ErrorKind::Invalid,
        "read secrets",
        format!("{}:{line}", path.display()),
        format!("line {line} is not `name=value`"),
    )
    .hint("a value may stand in single or double quotes; `#` begins a comment")
}

/// `name=value` lines; the number of the first line that is neither that, nor empty, nor a comment.
fn parse(text: &str) -> std::result::Result<BTreeMap<String, Secret>, usize> {
    let mut secrets = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(at + 1)?;
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(at + 1);
        }
        secrets.insert(name.to_owned(), Secret::new(unquote(value.trim()).ok_or(at + 1)?));
    }
    Ok(secrets)
}

/// In double quotes `\n`, `\"` and `\\` are what they say; in single quotes nothing is.
fn unquote(value: &str) -> Option<String> {
    if let Some(inner) = value.strip_prefix('\'') {
        return inner.strip_suffix('\'').filter(|inner| !inner.contains('\'')).map(str::to_owned);
    }
    let Some(inner) = value.strip_prefix('"') else { return Some(value.to_owned()) };
    let mut plain = String::new();
    let mut chars = inner.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(plain),
            '\\' => match chars.next()? {
                'n' => plain.push('\n'),
                't' => plain.push('\t'),
                other => plain.push(other),
            },
            other => plain.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_file_is_read_as_people_write_it() {
        for (text, expected) in [
            ("a=b", Ok("b")),
            ("# note\n\n  a = b c  \n", Ok("b c")),
            ("export a=b", Ok("b")),
            ("a=\"x\\ny\\\"z\"", Ok("x\ny\"z")),
            ("a='x\\n#y'", Ok("x\\n#y")),
            ("a=b=c==", Ok("b=c==")),
            ("a=", Ok("")),
            ("a=1\na=2", Ok("2")),
            ("\nnonsense", Err(2)),
            ("=b", Err(1)),
            ("a b=c", Err(1)),
            ("a=\"open", Err(1)),
            ("a='open", Err(1)),
            ("a=\"x\" y", Err(1)),
        ] {
            let found = parse(text).map(|secrets| secrets["a"].reveal().to_owned());
            assert_eq!(found.as_deref().map_err(|line| *line), expected, "{text}");
        }
    }

    #[test]
    fn a_missing_secret_names_both_places() {
        let project = tempfile::tempdir().unwrap();
        let body: ServiceDocument = document::read(&serde_json::json!({
            "name": "bird", "environment": "dev", "image": null, "runtime": "process", "port": 1, "port_env": "PORT", "env": {},
            "secrets": {"KEY": {"name": "ticket-key"}, "OTHER": {"name": "other"}},
            "health": {"live": "/", "ready": "/", "interval_ms": 1, "timeout_ms": 1, "healthy_after": 1, "unhealthy_after": 1},
            "mounts": [], "writer": null, "storage_protocol": 0, "replicas": 1, "stop_grace_ms": 1, "listen": "127.0.0.1:0", "test_listen": "127.0.0.1:0"
        }))
        .unwrap();
        let from = |name: &str| (name == "OTHER").then(|| "from-environment".to_owned());
        let error = resolve(project.path(), &body, from).unwrap_err();
        assert_eq!(error.causes, ["no value for secret `ticket-key` (KEY)"]);
        let hint = error.hint.unwrap();
        assert!(hint.contains(".dbird/secrets") && hint.contains("set KEY"), "{hint}");
        std::fs::create_dir(project.path().join(".dbird")).unwrap();
        for file in ["ticket-key=from-file", "KEY=from-file"] {
            std::fs::write(secrets_file(project.path()), file).unwrap();
            let found = resolve(project.path(), &body, from).unwrap();
            assert_eq!((found["KEY"].reveal(), found["OTHER"].reveal()), ("from-file", "from-environment"));
        }
    }
}
