//! Tasks in containers of podman. It decides how podman is called; what a container is told is the recipe's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::image::Unpacked;
use crate::runtime::{Recipe, RuntimeError};
use crate::secret::Secret;
use crate::shim::{DEFAULT_PATH, Launch};

/// The folder of the layout that podman reads an image from.
const LAYOUT: &str = "dbird-import";

/// Where podman is, if it is installed.
pub fn program() -> Option<PathBuf> {
    on_path("podman")
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
    path.split(':').chain(DEFAULT_PATH.split(':')).map(|place| Path::new(place).join(name)).find(|file| file.is_file())
}

fn installed() -> Result<PathBuf, RuntimeError> {
    program().ok_or_else(|| {
        RuntimeError::Podman(
            "podman is not installed: install it (Debian: apt-get install podman runc), or set runtime = \"process\""
                .to_owned(),
        )
    })
}

/// Makes an image known to podman, unless it is, and returns its name there. Blocks for as long as that takes.
pub fn load(image: &Unpacked) -> Result<String, RuntimeError> {
    let program = installed()?;
    let hex = image.digest.trim_start_matches("sha256:");
    let name = format!("localhost/dbird/{hex}:latest");
    if call(&program, Path::new("/"), &["image", "exists", &name]).is_ok() {
        return Ok(name);
    }
    // A layout with this one image in it, its blobs borrowed from the store. Podman makes a name of the path that it is
    // given, and refuses many paths as names: so it is given a short one, relative to where it is called.
    let refused = |what: &str, error: std::io::Error| {
        RuntimeError::Podman(format!("can't {what} an image layout for podman: {error}"))
    };
    let layout = image.rootfs.with_file_name(LAYOUT);
    let made = fs::create_dir_all(&layout)
        .and_then(|()| fs::metadata(image.store.join("blobs/sha256").join(hex)))
        .and_then(|manifest| {
            let descriptor = serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.digest, "size": manifest.len(),
            });
            fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
            fs::write(layout.join("index.json"), serde_json::json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string())?;
            match std::os::unix::fs::symlink(fs::canonicalize(image.store.join("blobs"))?, layout.join("blobs")) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            }
        })
        .map_err(|error| refused("make", error));
    let pulled = made.and_then(|()| {
        let id = call(&program, layout.parent().unwrap_or(&layout), &["pull", "--quiet", &format!("oci:{LAYOUT}")])?;
        call(&program, Path::new("/"), &["tag", id.trim(), &name])
    });
    // It holds nothing but links.
    let _ = crate::files::remove_folder(&layout);
    pulled.map(|_| name)
}

fn call(program: &Path, folder: &Path, args: &[&str]) -> Result<String, RuntimeError> {
    let failed = |why: String| RuntimeError::Podman(format!("`podman {}` failed: {why}", args.join(" ")));
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().chars().take(2000).collect()))
}

/// The commands that take a container away, running or not.
pub fn removal(name: &str) -> Vec<Vec<String>> {
    let words = ["rm", "--force", "--time", "0", "--ignore", name];
    program()
        .map(|podman| std::iter::once(podman.display().to_string()).chain(words.map(str::to_owned)).collect())
        .into_iter()
        .collect()
}

/// The command that runs something in a container that runs.
pub fn exec(name: &str, tty: bool, argv: &[String]) -> Result<Command, RuntimeError> {
    let mut command = Command::new(installed()?);
    command.args(["exec", "--interactive"]).args(tty.then_some("--tty")).arg(name).args(argv);
    Ok(command)
}

pub(crate) fn launch(recipe: &Recipe, image: &str, name: &str, port: Option<u16>) -> Result<Launch, RuntimeError> {
    let podman = installed()?;
    let argv = recipe.argv.clone().unwrap_or_else(|| recipe.image.config.argv());
    if argv.is_empty() {
        return Err(RuntimeError::NoEntryPoint(recipe.image.digest.clone()));
    }
    let mut args: Vec<String> = Vec::new();
    let mut say = |words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
    if on_path("runc").is_some() {
        say(&["--runtime", "runc"]);
    }
    say(&["run", "--rm", "--replace", "--name", name, "--pull", "never", "--log-driver", "none"]);
    say(&["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
    let told = recipe.port.as_ref().and_then(|port| port.env.as_ref());
    match (port, told, &recipe.port) {
        (Some(outside), None, Some(inside)) => say(&["--publish", &format!("127.0.0.1:{outside}:{}", inside.inside)]),
        _ => say(&["--network", "host"]),
    }
    if !recipe.mounts.is_empty() {
        // Whoever runs dbird owns the data, as without containers: so the runtime can change and the files stay readable,
        // whichever user the image names.
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        say(&["--user", &format!("{}:{}", user.as_raw(), group.as_raw())]);
        if !user.is_root() {
            say(&["--userns", "keep-id"]);
        }
    }
    for mount in &recipe.mounts {
        say(&["--volume", &format!("{}:{}", mount.folder.display(), mount.path)]);
    }
    for (name, value) in &recipe.env {
        say(&["--env", &format!("{name}={value}")]);
    }
    if let (Some(port), Some(name)) = (port, told) {
        say(&["--env", &format!("{name}={port}")]);
    }
    // Podman's own environment; of the secrets only the names are in its arguments, where every user could read them.
    let mut env: BTreeMap<String, Secret> =
        ["HOME", "PATH", "XDG_RUNTIME_DIR", "TMPDIR", "USER", "DBUS_SESSION_BUS_ADDRESS"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), Secret::new(std::env::var(name).ok()?))))
            .collect();
    env.entry("PATH".to_owned()).or_insert_with(|| Secret::new(DEFAULT_PATH));
    for (name, value) in &recipe.secrets {
        say(&["--env", name]);
        env.insert(name.clone(), value.clone());
    }
    match recipe.argv.as_deref() {
        Some([program, rest @ ..]) => {
            say(&["--entrypoint", program, image]);
            args.extend(rest.iter().cloned());
        }
        _ => say(&[image]),
    }
    Ok(Launch {
        program: podman,
        args,
        env,
        cwd: PathBuf::from("/"),
        stop_grace_ms: recipe.stop_grace_ms,
        timeout_ms: recipe.timeout_ms,
        cleanup: removal(name),
    })
}
