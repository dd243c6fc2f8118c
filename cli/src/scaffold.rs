//! What a new project's environment files say: found out from the folder, or as answered. It reads the folder and writes
//! nothing.

use std::{fs, path::Path};

use toml::Value;

/// What has to be known to write the files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Answers {
    pub(crate) name: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) command: Vec<String>,
    pub(crate) binary: Option<String>,
    pub(crate) folder: Option<String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) health: Option<String>,
    /// `none`, `sqlite` or `files`.
    pub(crate) storage: Option<String>,
    /// The load balancer's certificate in production; without one, production can't be described yet.
    pub(crate) certificate: Option<String>,
}

/// What the folder tells by itself.
pub(crate) fn detect(folder: &Path) -> Answers {
    let name = folder.file_name().map(|n| service_name(&n.to_string_lossy())).filter(|n| !n.is_empty());
    let found = cargo(folder).or_else(|| node(folder)).unwrap_or_default();
    Answers { name: found.name.or(name), ..found }
}

/// A name for people as a name for services: lower-case letters, digits and dashes, at most 32.
pub(crate) fn service_name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let mut name = String::new();
    for c in text.chars().map(plain) {
        let dash_too_many = c == '-' && (name.is_empty() || name.ends_with('-'));
        if !dash_too_many && name.len() < 32 {
            name.push(c);
        }
    }
    let name = name.trim_start_matches(|c: char| !c.is_ascii_lowercase()).trim_end_matches('-');
    name.to_owned()
}

fn cargo(folder: &Path) -> Option<Answers> {
    let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml")).ok()?.parse().ok()?;
    let package = manifest.get("package").and_then(Value::as_table);
    let mut command: Vec<String> = ["cargo", "build", "--release"].map(str::to_owned).to_vec();
    if folder.join("Cargo.lock").is_file() {
        command.push("--locked".to_owned());
    }
    let Some(package) = package else { return Some(Answers { command, ..Answers::default() }) };
    let name = package.get("name").and_then(Value::as_str)?;
    let own = manifest.get("bin").and_then(Value::as_array).and_then(|bins| bins.first());
    let binary = own.and_then(|bin| bin.get("name")).and_then(Value::as_str).unwrap_or(name);
    if manifest.contains_key("workspace") {
        command.extend(["-p".to_owned(), name.to_owned()]);
    }
    let binary = Some(format!("target/release/{binary}"));
    Some(Answers { name: Some(service_name(name)), command, binary, ..Answers::default() })
}

fn node(folder: &Path) -> Option<Answers> {
    let package: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("package.json")).ok()?).ok()?;
    let name = package["name"].as_str().map(service_name).filter(|n| !n.is_empty());
    let start = package["scripts"]["start"].as_str().unwrap_or_default();
    // Only a plain `node FILE` can be taken over; anything else needs a shell, which an image on an empty base lacks.
    let from_start: Vec<String> = start.split_whitespace().map(str::to_owned).collect();
    let plain = from_start.first().is_some_and(|p| p == "node") && !start.contains(['&', '|', ';', '$', '"', '\'']);
    let main = package["main"].as_str().unwrap_or("index.js");
    let entrypoint = if plain { from_start } else { vec!["node".to_owned(), main.to_owned()] };
    let command = if folder.join("package-lock.json").is_file() {
        ["npm", "ci", "--omit=dev"].map(str::to_owned).to_vec()
    } else {
        Vec::new()
    };
    Some(Answers { name, command, folder: Some(".".to_owned()), entrypoint, port: Some(3000), ..Answers::default() })
}

/// The files by environment and path below the project, base.toml first.
pub(crate) fn files(a: &Answers) -> Vec<(&'static str, String)> {
    let mut files = vec![("environments/base.toml", base(a)), ("environments/dev.toml", DEV.to_owned())];
    files.extend(a.certificate.as_deref().map(|c| ("environments/prod.toml", prod(c))));
    files
}

fn base(a: &Answers) -> String {
    let name = quoted(a.name.as_deref().unwrap_or_default());
    let port = a.port.unwrap_or(8080);
    let health = quoted(a.health.as_deref().unwrap_or("/healthz"));
    let command = list(&a.command);
    let command = if a.command.is_empty() { format!("# command = {command}") } else { format!("command = {command}") };
    let artefact = match (&a.binary, &a.folder) {
        (Some(binary), _) => format!("binary = {}", quoted(binary)),
        (None, folder) => {
            let folder = quoted(folder.as_deref().unwrap_or("."));
            format!("folder = {folder}\nentrypoint = {}", list(&a.entrypoint))
        }
    };
    let storage = match a.storage.as_deref() {
        None | Some("none") => {
            "# [storage]                          # what outlives a release: kind, mount, writer\n".to_owned()
        }
        Some(kind) => format!(
            "\
[storage]
kind = {}
mount = \"/data\"
writer = \"exclusive\"                 # one process at a time: releases are swapped
",
            quoted(kind)
        ),
    };
    let env = match a.storage.as_deref() {
        None | Some("none") => "# [env]\n# LOG_LEVEL = \"info\"\n",
        // A plain process has no mounts: values that begin with the mount's path are made to point at the real folder.
        Some("sqlite") => "[env]\nDATABASE_PATH = \"/data/db.sqlite\"   # rename it to what the service reads\n",
        Some(_) => "[env]\nDATA_DIR = \"/data\"                   # rename it to what the service reads\n",
    };
    format!(
        "\
# What every environment shares. `dbird schema environment` describes every key, `dbird validate` checks them.
schema = 1

[project]
dbird = \">=0.1\"

[service]
name = {name}
port = {port}
port_env = \"PORT\"                    # the variable that tells the service its port

[service.build]
{command}
{artefact}

[health]
live = {health}
ready = {health}

{storage}
[rollout]
strategy = \"blue-green\"

{env}"
    )
}

const DEV: &str = "\
# What is different in dev. `dbird deploy` deploys it to this machine.

[cloud.local]
listen = \"127.0.0.1:8080\"              # the front door
test_listen = \"127.0.0.1:8081\"         # reaches only a release that has no traffic yet
";

fn prod(certificate: &str) -> String {
    format!(
        "\
# What is different in prod.

[chaos]
drills = \"refused\"

[cloud.local]
listen = \"127.0.0.1:8090\"
test_listen = \"127.0.0.1:8091\"

[cloud.aws]
certificate = {}
",
        quoted(certificate)
    )
}

/// As TOML quotes it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn list(items: &[String]) -> String {
    Value::from(items.to_vec()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_becomes_a_service_name_or_nothing() {
        let cases = [
            ("Drafty Bird", "drafty-bird"),
            ("my_service", "my-service"),
            ("--x--y--", "x-y"),
            ("123", ""),
            ("1st-service", "st-service"),
            ("ünï", "n"),
            ("", ""),
            ("@scope/name", "scope-name"),
        ];
        for (text, wanted) in cases {
            assert_eq!(service_name(text), wanted, "{text}");
        }
        assert_eq!(service_name(&"a".repeat(50)).len(), 32);
    }

    #[test]
    fn a_folder_tells_how_it_is_built() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("package.json", r#"{"name": "@a/web", "scripts": {"start": "node src/main.js"}}"#);
        let node = detect(folder.path());
        assert_eq!(
            (node.name.as_deref(), node.entrypoint.as_slice()),
            (Some("a-web"), &["node".to_owned(), "src/main.js".into()][..])
        );
        write("Cargo.toml", "[package]\nname = \"api\"\n[[bin]]\nname = \"api-server\"\n[workspace]\n");
        write("Cargo.lock", "");
        let cargo = detect(folder.path());
        assert_eq!(cargo.binary.as_deref(), Some("target/release/api-server"));
        assert_eq!(cargo.command.join(" "), "cargo build --release --locked -p api");
        write("Cargo.toml", "this is not TOML");
        write("package.json", "nor this JSON");
        assert_eq!(detect(folder.path()).binary, None);
    }
}
