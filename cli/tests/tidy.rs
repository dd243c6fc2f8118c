//! What holds of the project as a whole: which crate may know which, the same files in every provider, environments that are
//! valid, documents that speak of what is there.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

mod sealed;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use dbird_core::{Cloud, policy};
use sealed::Ended;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn packages() -> Vec<Package> {
    let manifest = root().join("Cargo.toml");
    MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .unwrap()
        .packages
}

fn needs(package: &Package, dev: bool) -> BTreeSet<String> {
    let kind =
        |d: &DependencyKind| if dev { *d == DependencyKind::Development } else { *d != DependencyKind::Development };
    package.dependencies.iter().filter(|d| kind(&d.kind)).map(|d| d.name.clone()).collect()
}

#[test]
fn dependencies_point_one_way() {
    // Package -> our own packages that it may need, and further ones that its tests may need.
    let allowed: BTreeMap<&str, (&[&str], &[&str])> = BTreeMap::from([
        ("dbird-core", (&[][..], &[][..])),
        ("dbird-templates", (&["dbird-core"], &[])),
        ("dbird-testkit", (&["dbird-core"], &[])),
        ("dbird-driver", (&["dbird-core"], &["dbird-testkit"])),
        ("dataplane", (&[], &[])),
        ("dbird-local", (&["dbird-core", "dataplane"], &["dbird-testkit", "dbird-driver"])),
        ("dbird-registry", (&[], &[])),
        // Its tests judge it with real documents on a simulated account.
        (
            "dbird-aws",
            (
                &["dbird-core", "dbird-registry"],
                &["dbird-testkit", "dbird-driver", "dbird-templates", "dbird-simulator"],
            ),
        ),
        ("dbird-simulator", (&["dataplane"], &[])),
        ("drafty-bird", (&["spool"], &[])),
        ("spool", (&[], &[])),
        (
            "dbird",
            (
                &[
                    "dbird-core",
                    "dbird-templates",
                    "dbird-driver",
                    "dbird-local",
                    "dbird-aws",
                    "dbird-registry",
                    "dbird-simulator",
                ],
                &["dbird-testkit"],
            ),
        ),
        ("xtask", (&[], &[])),
    ]);
    let packages = packages();
    let names: BTreeSet<String> = packages.iter().map(|p| p.name.to_string()).collect();
    assert_eq!(
        names,
        allowed.keys().map(ToString::to_string).collect(),
        "a package more or less: say here what it may need"
    );
    for package in &packages {
        let (normal, dev) = allowed[package.name.as_str()];
        for (is_dev, may) in [(false, normal.to_vec()), (true, [normal, dev].concat())] {
            for needed in needs(package, is_dev).intersection(&names) {
                assert!(may.contains(&needed.as_str()), "{} must not need {needed}", package.name);
            }
        }
    }
}

#[test]
fn libraries_stay_where_they_belong() {
    let only: &[(&str, &[&str])] = &[
        ("tera", &["dbird-templates"]),
        ("aws-config", &["dbird-aws"]),
        ("aws-sdk-cloudformation", &["dbird-aws"]),
        ("aws-sdk-ecs", &["dbird-aws"]),
        ("clap", &["dbird", "xtask"]),
        ("object_store", &["dbird-driver", "drafty-bird"]),
        ("rusqlite", &["drafty-bird", "xtask"]),
        ("indicatif", &["dbird"]),
        ("miette", &["dbird"]),
    ];
    let packages = packages();
    for (library, users) in only {
        for package in packages.iter().filter(|p| needs(p, false).contains(*library)) {
            assert!(users.contains(&package.name.as_str()), "{} must not need {library}", package.name);
        }
    }
    let core = packages.iter().find(|p| p.name.as_str() == "dbird-core").unwrap();
    for runtime in ["tokio", "futures", "object_store", "hyper", "rustix", "tempfile"] {
        assert!(!needs(core, false).contains(runtime), "core decides, it does nothing: {runtime}");
    }
}

#[test]
fn every_provider_has_the_same_files() {
    for entry in fs::read_dir(root().join("providers")).unwrap().flatten() {
        if entry.file_name() == "testkit" {
            continue;
        }
        for name in ["lib", "config", "client", "observe", "apply", "rollout", "logs"] {
            let (file, folder) =
                (entry.path().join(format!("src/{name}.rs")), entry.path().join(format!("src/{name}/mod.rs")));
            assert!(file.is_file() || folder.is_file(), "{} is missing", file.display());
        }
    }
}

/// The project itself, and every example.
fn projects() -> Vec<PathBuf> {
    let examples = fs::read_dir(root().join("examples")).into_iter().flatten().flatten().map(|e| e.path());
    let all = examples.filter(|p| p.join("environments/base.toml").is_file());
    let all: Vec<_> = all.chain([root()]).collect();
    assert!(all.len() > 1, "there are no examples");
    all
}

#[test]
fn every_environment_is_valid_for_every_cloud_and_renders_for_this_machine() {
    let dbird = |project: &Path, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbird"));
        command.args(arguments).arg("--project").arg(project).env_clear();
        Ended::of(command.output().unwrap())
    };
    for project in projects() {
        let valid = dbird(&project, &["validate", "-o", "json"]);
        assert_eq!(valid.code, 0, "{}: {valid}", project.display());
        let events = valid.events();
        let seen: BTreeSet<_> = events
            .iter()
            .filter(|e| e["event"] == "validated")
            .map(|e| (e["environment"].to_string(), e["cloud"].to_string()))
            .collect();
        let mut environments = 0;
        for entry in fs::read_dir(project.join("environments")).unwrap().flatten() {
            let path = entry.path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            if name == "base" || path.extension().is_none_or(|e| e != "toml") {
                continue;
            }
            environments += 1;
            let rendered = dbird(&project, &["render", "-e", name]);
            assert_eq!(rendered.code, 0, "{} {name}: {rendered}", project.display());
        }
        assert_eq!(seen.len(), environments * Cloud::ALL.len(), "{}: {seen:?}", project.display());
    }
}

#[test]
fn every_policy_is_explained() {
    for policy in policy::all() {
        let ended =
            Ended::of(Command::new(env!("CARGO_BIN_EXE_dbird")).args(["explain", policy.code]).output().unwrap());
        assert_eq!(ended.code, 0, "{ended}");
        for part in [policy.code, policy.title, "Why:", "Fix:", "Refused:", "Accepted:"] {
            assert!(ended.stdout.contains(part), "{}: no {part:?}", policy.code);
        }
        assert!(!policy.what.is_empty() && !policy.why.is_empty() && !policy.fix.is_empty(), "{}", policy.code);
    }
    let codes: BTreeSet<_> = policy::all().iter().map(|p| p.code).collect();
    assert_eq!(codes.len(), policy::all().len(), "a code is used twice");
}

/// Every file of the project's documentation.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join("docs")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path if path.extension().is_some_and(|e| e == "md") => found.push(path),
                _ => {}
            }
        }
    }
    let top = fs::read_dir(root()).unwrap().flatten().map(|e| e.path());
    found.extend(top.filter(|p| p.extension().is_some_and(|e| e == "md")));
    found
}

#[test]
fn documents_name_paths_that_exist() {
    let root = root();
    let folders: BTreeSet<String> = fs::read_dir(&root)
        .unwrap()
        .flatten()
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().into_string().unwrap())
        .filter(|n| !n.starts_with('.') && n != "target")
        .collect();
    let mut missing = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let here = document.parent().unwrap();
        // [text](path) and ![text](path), not URLs and not places within a page.
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split([')', '#']).next().unwrap();
            if !link.is_empty() && !link.contains("://") && !here.join(link).exists() {
                missing.push(format!("{}: {link}", document.display()));
            }
        }
        // `path` where it begins with a folder of the project, and is no pattern.
        for code in text.split('`').skip(1).step_by(2) {
            let plain = code.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
            let of_ours = code.split_once('/').is_some_and(|(first, _)| folders.contains(first));
            if plain && of_ours && !root.join(code).exists() {
                missing.push(format!("{}: `{code}`", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn documents_name_commands_and_exit_codes_that_exist() {
    let help = Ended::of(Command::new(env!("CARGO_BIN_EXE_dbird")).arg("--help").env_clear().output().unwrap()).stdout;
    let commands: BTreeSet<&str> = help
        .lines()
        .skip_while(|l| !l.starts_with("Commands:"))
        .skip(1)
        .take_while(|l| l.starts_with("  "))
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    for document in documents().into_iter().filter(|d| !d.components().any(|c| c.as_os_str() == "decisions")) {
        let text = fs::read_to_string(&document).unwrap();
        for code in text.split('`').skip(1).step_by(2) {
            let Some(rest) = code.strip_prefix("dbird ") else { continue };
            let first = rest.split_whitespace().next().unwrap_or_default();
            if first.starts_with('-') || !first.chars().all(|c| c.is_ascii_lowercase()) {
                continue;
            }
            assert!(commands.contains(first), "{}: there is no `dbird {first}`", document.display());
        }
    }
}
