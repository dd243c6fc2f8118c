//! From an image and what a task is told to the command that starts it. It decides where the program lies and what the
//! environment is, to the last variable; it starts nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::image::{self, Unpacked};
use crate::podman;
use crate::secret::Secret;
use crate::shim::{DEFAULT_PATH, Launch};
use crate::volume::{Mount, rewrite};

/// Why no command could be made.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// Nothing says what to start.
    #[error("image {0} has no entry point and no command, so there is nothing to start")]
    NoEntryPoint(String),
    /// The program isn't in the image.
    #[error("program `{program}` is not in image {digest}{}", looked(places))]
    NoProgram {
        /// What was to be started.
        program: String,
        /// The image.
        digest: String,
        /// The folders that were looked through; none for a path.
        places: Vec<String>,
    },
    /// A file that may not be executed.
    #[error("`{program}` in image {digest} may not be executed: its mode has no x")]
    NotExecutable {
        /// What was to be started.
        program: String,
        /// The image.
        digest: String,
    },
    /// The folder that the image wants to start in.
    #[error("working folder `{folder}` is not in image {digest}")]
    NoFolder {
        /// The folder.
        folder: String,
        /// The image.
        digest: String,
    },
    /// Podman.
    #[error("{0}")]
    Podman(String),
}

fn looked(places: &[String]) -> String {
    if places.is_empty() { String::new() } else { format!(" (looked in {})", places.join(", ")) }
}

/// How a task runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    /// As a process of this machine, from the unpacked image.
    Process,
    /// In a container of podman.
    Podman {
        /// The image's name there, from [`podman::load`].
        image: String,
    },
}

/// The port that a service listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Inside its container, or where it listens if it can't be told another one.
    pub inside: u16,
    /// The variable that tells it another one.
    pub env: Option<String>,
}

/// All that is needed to start a task, again and again.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// How it runs.
    pub runtime: Runtime,
    /// What runs.
    pub image: Unpacked,
    /// Program and arguments instead of the image's.
    pub argv: Option<Vec<String>>,
    /// Plain variables.
    pub env: BTreeMap<String, String>,
    /// Secret ones.
    pub secrets: BTreeMap<String, Secret>,
    /// Where it listens; none for a task that doesn't.
    pub port: Option<Port>,
    /// Its volumes.
    pub mounts: Vec<Mount>,
    /// From being asked to stop to being killed.
    pub stop_grace_ms: u64,
    /// It is stopped after this long.
    pub timeout_ms: Option<u64>,
}

impl Recipe {
    /// True if each task can have a port of its own.
    pub fn has_own_port(&self) -> bool {
        match &self.port {
            Some(port) => port.env.is_some() || matches!(self.runtime, Runtime::Podman { .. }),
            None => false,
        }
    }

    /// The command that starts one task with this name, listening on this port.
    pub fn launch(&self, name: &str, port: Option<u16>) -> Result<Launch, RuntimeError> {
        match &self.runtime {
            Runtime::Process => self.process(port),
            Runtime::Podman { image } => podman::launch(self, image, name, port),
        }
    }

    fn process(&self, port: Option<u16>) -> Result<Launch, RuntimeError> {
        let argv = self.argv.clone().unwrap_or_else(|| self.image.config.argv());
        let digest = || self.image.digest.clone();
        let (program, args) = argv.split_first().ok_or_else(|| RuntimeError::NoEntryPoint(digest()))?;
        let folder = if self.image.config.working_dir.is_empty() { "/" } else { &self.image.config.working_dir };
        let cwd = image::resolve(&self.image.rootfs, Path::new(folder), true)
            .ok()
            .filter(|cwd| cwd.is_dir())
            .ok_or_else(|| RuntimeError::NoFolder { folder: folder.to_owned(), digest: digest() })?;
        let env = self.variables(port);
        let path = env.get("PATH").map_or(DEFAULT_PATH, Secret::reveal).to_owned();
        let program = find(&self.image, program, Path::new(folder), &path)?;
        Ok(Launch {
            program,
            args: args.iter().map(|arg| rewrite(arg, &self.mounts).into_owned()).collect(),
            env: env.into_iter().map(|(name, value)| (name, self.moved(value))).collect(),
            cwd,
            stop_grace_ms: self.stop_grace_ms,
            timeout_ms: self.timeout_ms,
            cleanup: Vec::new(),
        })
    }

    /// The whole environment: the image's, then what is given, then the port.
    fn variables(&self, port: Option<u16>) -> BTreeMap<String, Secret> {
        let mut env: BTreeMap<String, Secret> = self
            .image
            .config
            .env
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), Secret::new(value)))
            .collect();
        env.extend(self.env.iter().map(|(name, value)| (name.clone(), Secret::new(value))));
        env.extend(self.secrets.iter().map(|(name, value)| (name.clone(), value.clone())));
        if let (Some(port), Some(name)) = (port, self.port.as_ref().and_then(|port| port.env.as_ref())) {
            env.insert(name.clone(), Secret::new(port.to_string()));
        }
        env
    }

    fn moved(&self, value: Secret) -> Secret {
        match rewrite(value.reveal(), &self.mounts) {
            std::borrow::Cow::Borrowed(_) => value,
            std::borrow::Cow::Owned(moved) => Secret::new(moved),
        }
    }
}

/// Where a program of the image lies: a path as it is, a bare name through PATH, always within the image.
pub fn find(image: &Unpacked, program: &str, folder: &Path, path: &str) -> Result<PathBuf, RuntimeError> {
    use std::os::unix::fs::PermissionsExt;
    let digest = || image.digest.clone();
    let inside = |candidate: &Path| {
        let place = image::resolve(&image.rootfs, candidate, true).ok()?;
        fs::metadata(&place).is_ok_and(|there| there.is_file()).then_some(place)
    };
    let places: Vec<String> = if program.contains('/') {
        Vec::new()
    } else {
        path.split(':').filter(|place| !place.is_empty()).map(str::to_owned).collect()
    };
    let found = if places.is_empty() {
        inside(&folder.join(program))
    } else {
        places.iter().find_map(|place| inside(&Path::new(place).join(program)))
    };
    let Some(found) = found else {
        return Err(RuntimeError::NoProgram { program: program.to_owned(), digest: digest(), places });
    };
    let executable = fs::metadata(&found).is_ok_and(|there| there.permissions().mode() & 0o111 != 0);
    if executable {
        Ok(found)
    } else {
        Err(RuntimeError::NotExecutable { program: program.to_owned(), digest: digest() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageConfig;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn image(folder: &Path) -> Unpacked {
        let rootfs = folder.join("rootfs");
        for (path, mode) in [("usr/local/bin/bird", 0o755), ("app/run", 0o755), ("app/data", 0o644), ("bin/sh", 0o755)]
        {
            let path = rootfs.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("/usr/local/bin/bird", rootfs.join("bin/fly")).unwrap();
        symlink("../../../../../bin/cat", rootfs.join("bin/out")).unwrap();
        Unpacked { digest: "sha256:1".into(), store: folder.into(), rootfs, config: ImageConfig::default() }
    }

    #[test]
    fn programs_are_found_in_the_image_only() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        for (program, path, expected) in [
            ("bird", DEFAULT_PATH, Ok("usr/local/bin/bird")),
            ("/usr/local/bin/bird", "", Ok("usr/local/bin/bird")),
            ("fly", "/nowhere:/bin", Ok("usr/local/bin/bird")),
            ("run", "/bin", Err("program `run` is not in image sha256:1 (looked in /bin)")),
            ("./run", "", Ok("app/run")),
            ("../bin/sh", "", Ok("bin/sh")),
            ("../../../bin/sh", "", Ok("bin/sh")),
            ("./data", "", Err("`./data` in image sha256:1 may not be executed: its mode has no x")),
            ("/bin/cat", "", Err("program `/bin/cat` is not in image sha256:1")),
            ("out", "/bin", Err("program `out` is not in image sha256:1 (looked in /bin)")),
            ("/app", "", Err("program `/app` is not in image sha256:1")),
        ] {
            let found = find(&image, program, Path::new("/app"), path).map_err(|error| error.to_string());
            let expected = expected.map(|path| image.rootfs.join(path)).map_err(str::to_owned);
            assert_eq!(found, expected, "{program}");
        }
    }

    #[test]
    fn a_task_gets_its_environment_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut image = image(folder.path());
        image.config = ImageConfig {
            entrypoint: vec!["bird".into()],
            cmd: vec!["/data/in".into(), "--db=/data".into()],
            env: vec!["A=image".into(), "B=image".into(), "EQ=a=b".into()],
            working_dir: "/app".into(),
            user: String::new(),
        };
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let recipe = Recipe {
            runtime: Runtime::Process,
            image,
            argv: None,
            env: pairs(&[("B", "given"), ("DB", "/data/db"), ("PORT", "1")]),
            secrets: BTreeMap::from([("KEY".to_owned(), Secret::new("/data/key"))]),
            port: Some(Port { inside: 8080, env: Some("PORT".into()) }),
            mounts: vec![Mount { path: "/data".into(), folder: "/v".into() }],
            stop_grace_ms: 7,
            timeout_ms: None,
        };
        let launch = recipe.launch("name", Some(4242)).unwrap();
        assert_eq!(launch.args, ["/v/in", "--db=/data"]);
        assert!(launch.cwd.ends_with("rootfs/app") && launch.program.ends_with("usr/local/bin/bird"));
        let env: Vec<_> = launch.env.iter().map(|(name, value)| format!("{name}={}", value.reveal())).collect();
        assert_eq!(env, ["A=image", "B=given", "DB=/v/db", "EQ=a=b", "KEY=/v/key", "PORT=4242"]);
        assert!(!format!("{launch:?}").contains("/v/key"), "no value is printed");
        let one_off = Recipe { argv: Some(vec!["/bin/sh".into(), "/data".into()]), port: None, ..recipe.clone() };
        assert_eq!(one_off.launch("name", None).unwrap().args, ["/v"]);
        let mut empty = recipe;
        empty.image.config.entrypoint.clear();
        empty.image.config.cmd.clear();
        assert!(matches!(empty.launch("name", None), Err(RuntimeError::NoEntryPoint(_))));
    }
}
