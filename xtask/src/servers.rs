//! Servers that stand in for a cloud's in tests, and programs that judge what is given to a cloud, from Python's and Node's
//! packages, each at one version in a folder of its own below the target folder. It installs them where they are missing; it
//! starts none.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use crate::setup::{self, Outcome};

/// A server and the test that needs it.
pub(crate) struct Server {
    /// The program.
    program: &'static str,
    /// The package with its version, as its installer names it; several have a space between them.
    package: Package,
    /// The test that starts it.
    pub(crate) test: &'static str,
}

enum Package {
    Python(&'static str),
    Node(&'static str),
}

/// Stores for the tests of the state. Each of Python's in its own folder: they want other versions of the same libraries.
pub(crate) const STORES: [Server; 3] = [
    Server { program: "moto_server", package: Package::Python("moto[server]==5.2.5"), test: "s3_on_moto" },
    Server { program: "ministack", package: Package::Python("ministack==1.5.33"), test: "s3_on_ministack" },
    Server { program: "azurite-blob", package: Package::Node("azurite@3.35.0"), test: "blob_on_azurite" },
];

/// Judges of what is rendered for AWS; their tests begin with these names.
pub(crate) const JUDGES: [Server; 2] = [
    Server { program: "cfn-lint", package: Package::Python("cfn-lint==1.58.0"), test: "cfn_lint" },
    Server { program: "checkov", package: Package::Python("checkov==3.3.30"), test: "checkov" },
];

/// Judges of what is done to AWS, and of the simulator; all of them are needed for any of the tests.
pub(crate) const OUTSIDE: [Server; 3] = [
    Server { program: "moto_server", package: Package::Python("moto[server]==5.2.5"), test: "judges of the simulator" },
    Server { program: "ministack", package: Package::Python("ministack==1.5.33"), test: "judges of the simulator" },
    Server {
        program: "microburst",
        package: Package::Python("microburst==0.10.0 boto3==1.44.5 awscli==1.46.2"),
        test: "judges of the simulator",
    },
];

/// Makes sure that servers are there; returns those that are, and a sentence for each that is not and can't be installed.
pub(crate) fn ensure(servers: &[Server]) -> (Vec<&Server>, Vec<String>) {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for server in servers {
        match server.install() {
            Ok(()) => there.push(server),
            Err(why) => missing.push(format!("test {} skipped: {why}", server.test)),
        }
    }
    (there, missing)
}

/// PATH with these servers in front.
pub(crate) fn path(servers: &[&Server]) -> Outcome<OsString> {
    let others = std::env::var_os("PATH").unwrap_or_default();
    let folders = servers.iter().map(|server| server.programs()).chain(std::env::split_paths(&others));
    std::env::join_paths(folders).map_err(|e| format!("PATH can't name {}: {e}", setup::target().display()))
}

impl Server {
    fn folder(&self) -> PathBuf {
        setup::target().join("servers").join(self.program)
    }

    fn programs(&self) -> PathBuf {
        self.folder().join(match self.package {
            Package::Python(_) => "bin",
            Package::Node(_) => "node_modules/.bin",
        })
    }

    fn install(&self) -> Outcome {
        let (Package::Python(package) | Package::Node(package)) = self.package;
        // Written last: an installation that was broken off, or of another version, is made anew.
        let mark = self.folder().join("installed");
        if fs::read_to_string(&mark).is_ok_and(|installed| installed == package)
            && self.programs().join(self.program).exists()
        {
            return Ok(());
        }
        eprintln!("installing {package}");
        let folder = self.folder();
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|e| format!("{} can't be removed: {e}", folder.display()))?;
        }
        fs::create_dir_all(&folder).map_err(|e| format!("{} can't be made: {e}", folder.display()))?;
        match self.package {
            Package::Python(package) => python(&folder, package)?,
            Package::Node(package) => node(&folder, package)?,
        }
        fs::write(&mark, package).map_err(|e| format!("{} can't be written: {e}", mark.display()))
    }
}

fn python(folder: &Path, package: &str) -> Outcome {
    // Debian's python3 brings only half of what a folder of one's own needs.
    let works = || setup::output(&mut setup::command("python3", &["-c", "import ensurepip, venv"])).is_ok();
    let there = works() || (setup::install(&["python3", "python3-venv"]) && works());
    if !there {
        return Err("`python3` with venv is not installed: `sudo apt-get install python3-venv` would".to_owned());
    }
    setup::output(setup::command("python3", &["-m", "venv"]).arg(folder))?;
    let pip = ["install", "--quiet", "--disable-pip-version-check", "--no-input"];
    setup::output(setup::command(folder.join("bin/pip"), &pip).args(package.split(' '))).map(drop)
}

fn node(folder: &Path, package: &str) -> Outcome {
    let there = setup::has("npm") || (setup::install(&["npm"]) && setup::has("npm"));
    if !there {
        return Err("`npm` is not installed: `sudo apt-get install npm` would".to_owned());
    }
    let project = folder.join("package.json");
    fs::write(&project, "{\"private\":true}").map_err(|e| format!("{} can't be written: {e}", project.display()))?;
    let npm = ["install", "--no-fund", "--no-audit", "--loglevel", "error", package];
    setup::output(setup::command("npm", &npm).current_dir(folder)).map(drop)
}
