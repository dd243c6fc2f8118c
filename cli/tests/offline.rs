//! What needs no cloud: help, configuration, rendering, schemas, and every way to get a command line wrong.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

mod sealed;

use std::{fs, os::unix::ffi::OsStringExt as _};

use sealed::{Ended, Sealed};
use serde_json::Value;

#[test]
fn every_command_has_help_with_examples() {
    let sealed = Sealed::empty();
    let help = sealed.ok(&["--help"]).stdout;
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|l| !l.starts_with("Commands:"))
        .skip(1)
        .take_while(|l| l.starts_with("  "))
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    for name in [
        "init",
        "validate",
        "explain",
        "render",
        "bootstrap",
        "plan",
        "rehearse",
        "deploy",
        "status",
        "history",
        "drift",
        "rollback",
        "run",
        "restart",
        "wait",
        "logs",
        "exec",
        "destroy",
        "doctor",
        "schema",
        "completions",
    ] {
        assert!(listed.contains(&name), "{name} is not in the help");
    }
    for name in listed.into_iter().filter(|n| *n != "help") {
        let help = sealed.ok(&[name, "--help"]).stdout;
        assert!(help.contains("Examples:") && help.contains(&format!("dbird {name}")), "{name}:\n{help}");
        assert!(help.lines().all(|l| l.chars().count() <= 120), "{name} has lines that are too long");
    }
    insta::assert_snapshot!("help", help);
}

#[test]
fn mistakes_have_exit_codes_and_say_what_to_do() {
    let nowhere = Sealed::empty();
    let project = Sealed::project();
    project.write("environments/staging.toml", "[scale]\nmax = 0\n");
    project.write("not-a-plan.json", "{}");
    let digest = format!("sha256:{}", "0".repeat(64));
    let image = format!("oci:nowhere@{digest}");
    let cases: &[(&Sealed, &[&str], i32, &str)] = &[
        (&nowhere, &["status"], 2, "dbird init"),
        (&nowhere, &["validate"], 2, "environments/base.toml"),
        (&nowhere, &["status", "--project", "missing"], 2, "missing"),
        (&project, &["status", "--project", "bin"], 2, "has no environments/base.toml"),
        (&project, &["frobnicate"], 2, "unrecognized subcommand"),
        (&project, &["delpoy"], 2, "deploy"),
        (&project, &["bootstrap"], 2, "dbird bootstrap -c aws"),
        (&project, &["rehearse", "--fault", "thunder"], 2, "--list-faults"),
        (&project, &["deploy", "-e", "nope"], 2, "this project has: dev, staging"),
        (&project, &["deploy", "-e", "../dev"], 2, "there is no environment"),
        (&project, &["deploy", "-e", "staging"], 2, "environments/staging.toml:2:7"),
        (&project, &["deploy", "-c", "mars"], 2, "local"),
        (&project, &["deploy", "-c", "azure"], 2, "to this machine and to AWS"),
        (&project, &["render", "-c", "azure"], 2, "local and aws only"),
        (&project, &["deploy", "--set", "novalue"], 2, "KEY=VALUE"),
        (&project, &["deploy", "--set", "env=1"], 2, "--set #1"),
        (&project, &["deploy", "--set", "nope.key=1"], 2, "--set #1"),
        (&project, &["deploy", "--image", "bird:latest"], 2, "sha256"),
        (&project, &["deploy", "--image", &image], 2, "no OCI image layout"),
        (&project, &["deploy", "--image", &digest], 2, "there is no image"),
        (&project, &["deploy", "--image", &digest, "--from", "dev"], 2, "cannot be used with"),
        (&project, &["deploy", "--plan", "nowhere.json"], 2, "nowhere.json"),
        (&project, &["deploy", "--plan", "not-a-plan.json"], 2, "not-a-plan.json"),
        (&project, &["deploy", "--no-wait"], 2, "--no-wait"),
        (&project, &["deploy", "--from", "staging"], 2, "staging"),
        (&project, &["deploy", "-o", "markdown"], 2, "only `dbird plan`"),
        (&project, &["deploy", "-o", "yaml"], 2, "possible values"),
        (&project, &["rollback", "minus-one"], 2, "not a release"),
        (&project, &["rollback"], 2, "dbird history"),
        (&project, &["rollback", "99"], 2, "99"),
        (&project, &["restart"], 1, "dbird deploy"),
        (&project, &["run", "--", "true"], 1, "dbird deploy"),
        (&project, &["run"], 2, "CMD"),
        (&project, &["exec", "--", "true"], 1, ""),
        (&project, &["logs", "--tail", "10001"], 2, "10001"),
        (&project, &["history", "-n", "0"], 2, "0"),
        (&project, &["explain", "DB999"], 2, "lists them all"),
        (&project, &["schema", "nothing"], 2, "possible values"),
        (&project, &["completions", "cobol"], 2, "possible values"),
        (&project, &["init"], 2, "is there already"),
        (&project, &["destroy", "--delete-data", "nope", "-y"], 2, "no data called"),
    ];
    for (sealed, arguments, code, wanted) in cases {
        let ended = sealed.run(arguments);
        assert_eq!(ended.code, *code, "dbird {}\n{ended}", arguments.join(" "));
        assert!(ended.stderr.contains(wanted), "dbird {}: no {wanted:?} in\n{ended}", arguments.join(" "));
        assert!(!ended.stderr.contains("panicked"), "{ended}");
    }
}

#[test]
fn machines_get_an_end_also_of_what_is_refused() {
    let project = Sealed::project();
    for arguments in [
        &["deploy", "-e", "nope", "-o", "json"][..],
        &["deploy", "-ojson", "--set", "x"],
        &["nonsense", "--output", "json"],
    ] {
        let events = project.run(arguments).events();
        let last = events.last().unwrap();
        assert_eq!(
            (&last["event"], &last["exit_code"], &last["v"]),
            (&"finished".into(), &2.into(), &1.into()),
            "{arguments:?}"
        );
        assert!(events.iter().any(|e| e["event"] == "error"), "{arguments:?}");
    }
}

#[test]
fn arguments_that_are_not_utf8_are_refused() {
    let project = Sealed::project();
    let bad = std::ffi::OsString::from_vec(vec![b'x', 0xff, b'/']);
    for arguments in
        [vec!["status", "-e"], vec!["run", "--"], vec!["deploy", "--image"], vec!["--set"], vec!["render", "--project"]]
    {
        let ended = Ended::of(project.command(&arguments).arg(&bad).output().unwrap());
        assert_eq!(ended.code, 2, "{arguments:?} {ended}");
        assert!(!ended.stderr.contains("panicked"), "{ended}");
    }
    // A project in a folder of such a name works.
    let odd = project.path().join(std::ffi::OsString::from_vec(vec![b'p', 0xff]));
    fs::create_dir_all(odd.join("environments")).unwrap();
    fs::copy(project.path().join("environments/base.toml"), odd.join("environments/base.toml")).unwrap();
    let ended = Ended::of(project.command(&["validate", "--project"]).arg(&odd).output().unwrap());
    assert_eq!(ended.code, 0, "{ended}");
}

#[test]
fn nobody_needs_to_read_what_is_written() {
    let project = Sealed::project();
    for arguments in [
        &["schema", "environment"][..],
        &["explain"],
        &["render"],
        &["completions", "bash"],
        &["--help"],
        &["validate", "-o", "json"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = Ended::of(project.command(arguments).stdout(writer).output().unwrap());
        assert_eq!((ended.code, ended.stderr.contains("panicked")), (0, false), "{arguments:?} {ended}");
    }
}

#[test]
fn results_that_cannot_be_kept_are_a_failure() {
    let project = Sealed::project();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = Ended::of(project.command(&["render"]).stdout(full).output().unwrap());
    assert_eq!(ended.code, 1, "{ended}");
    assert!(ended.stderr.contains("could not be written"), "{ended}");
}

#[test]
fn faults_have_a_caret_and_are_said_once() {
    let project = Sealed::project();
    let base = fs::read_to_string(project.path().join("environments/base.toml")).unwrap();
    project.write("environments/base.toml", &base.replace("port = 8080", "prot = 8080"));
    project.write("environments/prod.toml", "[scale]\nmin = 2\nmax = 1\n");
    let ended = project.run(&["validate"]);
    assert_eq!(ended.code, 2);
    insta::assert_snapshot!("validate-faults", project.redacted(&ended.stderr));
    insta::assert_snapshot!("validate-summary", ended.stdout);
    let events = project.run(&["validate", "-o", "json"]).events();
    let faults: Vec<&Value> = events.iter().filter(|e| e["event"] == "fault").collect();
    assert!(faults.iter().any(|f| f["line"] == 4 && f["suggestion"] == "port"), "{faults:#?}");
}

#[test]
fn documents_are_rendered_offline_and_can_be_overridden() {
    let project = Sealed::project();
    // The service's digest depends on the ports.
    insta::with_settings!({ filters => vec![("sha256:[0-9a-f]{64}", "[DIGEST]")] }, {
        insta::assert_snapshot!("render", project.redacted(&project.ok(&["render"]).stdout));
    });
    project.ok(&["render", "--out", "out"]);
    let body: Value =
        serde_json::from_slice(&fs::read(project.path().join("out/local/dev/service.json")).unwrap()).unwrap();
    assert_eq!(body["env"]["GREETING"], "hi");
    project.ok(&["render", "-c", "aws", "--out", "out"]);
    let template = fs::read(project.path().join("out/aws/dev/infrastructure.template.json")).unwrap();
    let template: Value = serde_json::from_slice(&template).unwrap();
    assert_eq!(template["Resources"]["Cluster"]["Type"], "AWS::ECS::Cluster");

    project.write("templates/local/service.json.tera", "{\n  \"name\": {{ spec.nothing | json }}\n}\n");
    let ended = project.run(&["render"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("templates/local/service.json.tera:2:"), "{ended}");
    let ended = project.run(&["validate"]);
    assert_eq!(ended.code, 2, "a broken template is found before a deploy: {ended}");
}

#[test]
fn the_environment_is_chosen_as_documented() {
    let project = Sealed::project();
    let chosen = |arguments: &[&str], variable: Option<&str>| {
        let mut command = project.command(&[arguments, &["render", "-o", "json"]].concat());
        if let Some(name) = variable {
            command.env("DBIRD_ENV", name);
        }
        let events = Ended::of(command.output().unwrap()).events();
        events.iter().find_map(|e| e["environment"].as_str().map(str::to_owned))
    };
    assert_eq!(chosen(&[], None).as_deref(), Some("dev"), "dev where it is there");
    project.write("environments/other.toml", "");
    assert_eq!(chosen(&[], None).as_deref(), Some("dev"), "dev where there are several");
    assert_eq!(chosen(&[], Some("other")).as_deref(), Some("other"), "what DBIRD_ENV says");
    assert_eq!(chosen(&["-e", "dev"], Some("other")).as_deref(), Some("dev"), "what -e says");
    fs::remove_file(project.path().join("environments/dev.toml")).unwrap();
    assert_eq!(chosen(&[], None).as_deref(), Some("other"), "the only one");
    project.write("environments/third.toml", "");
    assert_eq!(chosen(&[], None), None, "not one of several");
    fs::remove_file(project.path().join("environments/other.toml")).unwrap();
    fs::remove_file(project.path().join("environments/third.toml")).unwrap();
    assert_eq!(chosen(&[], None).as_deref(), Some("dev"), "base.toml alone is dev");
}

#[test]
fn a_project_is_found_from_below_and_logs_its_runs_quietly() {
    let project = Sealed::project();
    fs::create_dir_all(project.path().join("a/b")).unwrap();
    let ended = Ended::of(project.command(&["validate"]).current_dir(project.path().join("a/b")).output().unwrap());
    assert_eq!(ended.code, 0, "{ended}");
    assert!(!project.path().join(".dbird").exists(), "who only looks leaves nothing in a new project");
    assert_eq!(project.run(&["deploy", "--image", &format!("sha256:{}", "0".repeat(64))]).code, 2);
    let logs = || fs::read_dir(project.path().join(".dbird/logs")).unwrap().count();
    assert_eq!(logs(), 1);
    project.ok(&["validate"]);
    project.ok(&["explain"]);
    assert_eq!(logs(), 2, "what needs no project leaves nothing in it");
    assert_eq!(fs::read_to_string(project.path().join(".dbird/.gitignore")).unwrap().lines().last(), Some("*"));
    // A log that can't be written is no reason to fail.
    fs::remove_dir_all(project.path().join(".dbird")).unwrap();
    project.write(".dbird", "in the way");
    project.ok(&["validate"]);
}

#[test]
fn init_writes_a_project_that_is_valid_and_never_overwrites() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("Cargo.toml", "[package]\nname = \"my_api\"\n", &[]),
        ("package.json", r#"{"name": "@scope/web", "scripts": {"start": "node server.js"}}"#, &[]),
        (
            "x",
            "",
            &["--name", "api", "--binary", "bin/api", "--port", "9000", "--storage", "sqlite", "--health", "/up"],
        ),
        (
            "x",
            "",
            &[
                "--name",
                "api",
                "--folder",
                "app",
                "--entrypoint",
                "./start",
                "--entrypoint",
                "--flag",
                "--storage",
                "files",
            ],
        ),
        (
            "x",
            "",
            &[
                "--name",
                "api",
                "--binary",
                "we\"ird\\path",
                "--build",
                "make all",
                "--certificate",
                "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000",
            ],
        ),
    ];
    for (file, text, arguments) in cases {
        let sealed = Sealed::empty();
        sealed.write(file, text);
        sealed.ok(&[&["init"], *arguments].concat());
        sealed.ok(&["validate"]);
        sealed.ok(&["render"]);
        let again = sealed.run(&["init", "--name", "other", "--binary", "x"]);
        assert_eq!(again.code, 2);
        assert!(!fs::read_to_string(sealed.path().join("environments/base.toml")).unwrap().contains("other"));
    }
    let sealed = Sealed::empty();
    for (arguments, wanted) in [
        (&["init", "--name", "api"][..], "--binary"),
        (&["init", "--name", "Not A Name", "--binary", "x"], "valid configuration"),
        (&["init", "--name", "api", "--binary", "x", "--port", "0"], "port"),
        (&["init", "--folder", "x"], "--entrypoint"),
    ] {
        let ended = sealed.run(arguments);
        assert_eq!(ended.code, 2, "{arguments:?} {ended}");
        assert!(ended.stderr.contains(wanted), "{arguments:?} {ended}");
        assert!(!sealed.path().join("environments").exists(), "{arguments:?} wrote something");
    }
    insta::assert_snapshot!("init-base", {
        let sealed = Sealed::empty();
        sealed.ok(&["init", "--name", "api", "--binary", "bin/api", "--storage", "sqlite"]);
        fs::read_to_string(sealed.path().join("environments/base.toml")).unwrap()
    });
}

#[test]
fn schemas_describe_what_is_written() {
    let project = Sealed::project();
    let schema = |of: &str| -> Value { serde_json::from_str(&project.ok(&["schema", of]).stdout).unwrap() };
    for of in ["environment", "events", "plan", "release"] {
        jsonschema::validator_for(&schema(of)).unwrap();
    }
    let validator = jsonschema::validator_for(&schema("events")).unwrap();
    for arguments in [
        &["validate"][..],
        &["render"],
        &["explain"],
        &["explain", "DB001"],
        &["deploy", "-e", "nope"],
        &["schema", "plan"],
    ] {
        for event in project.run(&[arguments, &["-o", "json"]].concat()).events() {
            assert!(validator.is_valid(&event), "{arguments:?}: {event}");
        }
    }
}

#[test]
fn completions_hold_nothing_of_this_machine() {
    let sealed = Sealed::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = sealed.ok(&["completions", shell]).stdout;
        assert!(script.contains("rollback") && !script.contains("/home") && !script.contains("/root"), "{shell}");
    }
}
