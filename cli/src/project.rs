//! The project: where it is, which environments it has, and what they come to. It reads environment files and templates,
//! and writes nothing but the folder for dbird's own state.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use dbird_core::{
    Cloud, Documents, ImageRef, Spec,
    environment::{self, Fault, Layer, Request, Severity},
};

use crate::{
    args::Global,
    failure::{Failure, Result},
    output::{Event, Output, drawing, events::FaultView},
};

/// What makes a folder a project.
const BASE: &str = "environments/base.toml";
/// What the one environment of a project without overlays is called.
const ONLY: &str = "dev";

/// A project on disk.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    /// Its folder, absolute.
    pub(crate) folder: PathBuf,
}

/// An environment in a cloud, as its files say it.
pub(crate) struct Resolved {
    /// What it comes to, unless something stops that.
    pub(crate) spec: Option<Spec>,
    /// Everything that is wrong, warnings too.
    pub(crate) faults: Vec<FaultView>,
}

impl Project {
    /// The project that the command line means; none where there is none.
    pub(crate) fn find(global: &Global) -> Result<Option<Project>> {
        if let Some(folder) = &global.project {
            let there = fs::canonicalize(folder).map_err(|e| Failure {
                kind: crate::failure::FailureKind::Usage,
                ..Failure::io("open the project", folder, &e)
            })?;
            return Ok(there.join(BASE).is_file().then_some(Project { folder: there }));
        }
        let here = env::current_dir().map_err(|e| Failure::io("find the current folder", Path::new("."), &e))?;
        let found = here.ancestors().find(|f| f.join(BASE).is_file());
        Ok(found.map(|f| Project { folder: f.to_owned() }))
    }

    /// What to say where there is none.
    pub(crate) fn missing(global: &Global) -> Failure {
        let place = match &global.project {
            Some(folder) => format!("{} has no {BASE}", folder.display()),
            None => format!("neither this folder nor one above it has {BASE}"),
        };
        Failure::usage(format!("this is not a dbird project: {place}"))
            .hint("`dbird init` sets one up; --project DIR names one elsewhere")
    }

    /// The environments that have a file of their own, sorted.
    pub(crate) fn overlays(&self) -> Result<Vec<String>> {
        let folder = self.folder.join("environments");
        let entries = fs::read_dir(&folder).map_err(|e| Failure::io("read", &folder, &e))?;
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| Failure::io("read", &folder, &e))?.path();
            let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
            if path.extension().is_some_and(|e| e == "toml") && path.is_file() && name != "base" {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Every environment: those with a file, or the one that base.toml alone makes.
    pub(crate) fn environments(&self) -> Result<Vec<String>> {
        let overlays = self.overlays()?;
        Ok(if overlays.is_empty() { vec![ONLY.to_owned()] } else { overlays })
    }

    /// The environment that is meant: the named one, `dev`, or the only one.
    pub(crate) fn environment(&self, wanted: Option<&str>) -> Result<String> {
        let known = self.environments()?;
        let listed = known.join(", ");
        match wanted {
            Some(name) if known.iter().any(|k| k == name) => Ok(name.to_owned()),
            Some(name) => {
                let failure = Failure::usage(format!("there is no environment `{name}`"));
                Err(failure.hint(format!("this project has: {listed}; environments/{name}.toml would make a new one")))
            }
            None if known.iter().any(|k| k == ONLY) => Ok(ONLY.to_owned()),
            None => match known.as_slice() {
                [one] => Ok(one.clone()),
                _ => Err(Failure::usage("which environment?").hint(format!("name one with -e: {listed}"))),
            },
        }
    }

    /// Resolves one environment for one cloud.
    pub(crate) fn resolve(&self, name: &str, cloud: Cloud, sets: &[String], out: &Output) -> Result<Resolved> {
        let sets = sets
            .iter()
            .map(|s| {
                environment::split_set(s).ok_or_else(|| {
                    Failure::usage(format!("--set {s}: there is no `=` in it"))
                        .hint("write --set KEY=VALUE, such as --set env.GREETING=hi")
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let base = self.layer(BASE)?;
        let overlay = format!("environments/{name}.toml");
        let overlay = if self.folder.join(&overlay).exists() { Some(self.layer(&overlay)?) } else { None };
        let version = env!("CARGO_PKG_VERSION");
        let request = Request { environment: name, cloud, base, overlay, sets: &sets, dbird_version: version };
        let (spec, faults) = match environment::resolve(&request) {
            Ok((spec, warnings)) => (Some(spec), warnings),
            Err(faults) => (None, faults.0),
        };
        let sources = if faults.is_empty() { Vec::new() } else { request.sources() };
        let faults = faults.iter().map(|f| view(f, &sources, out)).collect();
        Ok(Resolved { spec, faults })
    }

    /// The specification of one environment; its faults are said, and those that are errors end the command.
    pub(crate) fn spec(&self, name: &str, cloud: Cloud, sets: &[String], out: &Output) -> Result<Spec> {
        let Resolved { spec, faults } = self.resolve(name, cloud, sets, out)?;
        let errors = faults.iter().filter(|f| f.severity == "error").count();
        faults.into_iter().for_each(|f| out.event(Event::Fault(f)));
        spec.ok_or_else(|| {
            let noun = if errors == 1 { "fault" } else { "faults" };
            Failure::usage(format!("the configuration of {name} for {cloud} has {errors} {noun}"))
                .hint("nothing was changed; `dbird validate` checks every environment")
        })
    }

    /// The documents of a specification, from the project's own templates where it has any.
    pub(crate) fn render(&self, spec: &Spec, image: Option<&ImageRef>) -> Result<Documents> {
        let own = self.templates()?;
        let find = |name: &str| own.iter().find(|(n, _)| *n == name).map(|(_, text)| text.clone());
        Ok(dbird_templates::render(spec, image, Some(&find))?)
    }

    /// The template of the bucket that keeps the state on AWS.
    pub(crate) fn bootstrap(&self, bucket: &str, service: &str) -> Result<serde_json::Value> {
        let own = self.templates()?;
        let find = |name: &str| own.iter().find(|(n, _)| *n == name).map(|(_, text)| text.clone());
        Ok(dbird_templates::bootstrap(bucket, service, Some(&find))?)
    }

    /// The project's own templates by name.
    fn templates(&self) -> Result<Vec<(&'static str, String)>> {
        let mut own = Vec::new();
        for (name, _) in dbird_templates::BUILT_IN {
            let path = self.folder.join("templates").join(name);
            match fs::read_to_string(&path) {
                Ok(text) => own.push((name, text)),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(e) => return Err(Failure::io("read the template", &path, &e)),
            }
        }
        Ok(own)
    }

    fn layer(&self, file: &str) -> Result<Layer> {
        let path = self.folder.join(file);
        let bytes = fs::read(&path).map_err(|e| Failure::io("read", &path, &e))?;
        // A file that is not UTF-8 is shown with what could not be read; TOML would refuse it anyway.
        Ok(Layer::new(file, String::from_utf8_lossy(&bytes)))
    }
}

fn view(fault: &Fault, sources: &[Layer], out: &Output) -> FaultView {
    let source = sources.iter().find(|l| l.file == fault.file).map_or("", |l| l.text.as_str());
    FaultView {
        severity: match fault.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
        .to_owned(),
        code: fault.code.map(str::to_owned),
        message: fault.message.clone(),
        file: fault.file.clone(),
        line: fault.line,
        column: fault.column,
        suggestion: fault.suggestion.clone(),
        help: fault.help.clone(),
        seen_in: Vec::new(),
        drawing: drawing(fault, source, out.look()),
    }
}

/// The project's folder for dbird's own state, made where it isn't there, and kept out of git: it holds secrets.
pub(crate) fn state_folder(project: &Path) -> io::Result<PathBuf> {
    let folder = project.join(".dbird");
    fs::create_dir_all(&folder)?;
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        fs::write(&ignore, "# Images, logs, state and secrets of this machine.\n*\n")?;
    }
    Ok(folder)
}
