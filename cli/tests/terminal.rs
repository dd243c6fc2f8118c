//! On a terminal: questions, colours, the live line; and without one, none of them.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

mod sealed;

use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    process::Stdio,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use sealed::Sealed;

/// Runs a command on a terminal of its own; answers a question when it is asked.
fn on_a_terminal(
    sealed: &Sealed,
    arguments: &[&str],
    variables: &[(&str, &str)],
    answers: &[(&str, &str)],
) -> (i32, String) {
    let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = || {
        Stdio::from(File::options().read(true).write(true).open(std::ffi::OsStr::from_bytes(name.as_bytes())).unwrap())
    };
    let mut command = sealed.command(arguments);
    command.env("TERM", "xterm-256color").env("LANG", "C.UTF-8").envs(variables.iter().copied());
    let mut child = command.stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn().unwrap();
    drop(command);
    let mut terminal = File::from(ours);
    let (mut said, mut answers) = (Vec::new(), answers.iter());
    let mut open = answers.next();
    let mut buffer = [0; 4096];
    // Reading fails once nobody has the other end open any more.
    while let Ok(n @ 1..) = terminal.read(&mut buffer) {
        said.extend_from_slice(&buffer[..n]);
        if let Some((question, answer)) = open
            && String::from_utf8_lossy(&said).contains(question)
        {
            match *answer {
                // The terminal is not the command's own, so Ctrl-C has to be sent.
                "^C" => {
                    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
                    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
                }
                text => terminal.write_all(text.as_bytes()).unwrap(),
            }
            open = answers.next();
        }
    }
    (child.wait().unwrap().code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_terminal_is_asked_and_a_pipe_is_not() {
    let project = Sealed::project();
    let (code, said) = on_a_terminal(&project, &["deploy"], &[], &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("\u{1b}[32m✓\u{1b}[0m") && said.contains('⠋'), "colours and a live line: {said:?}");

    let (code, said) = on_a_terminal(&project, &["destroy"], &[], &[("(dev):", "prod\n")]);
    assert!(code == 1 && said.contains("nothing was changed"), "{said}");
    let (code, said) = on_a_terminal(&project, &["destroy"], &[], &[("(dev):", "^C")]);
    assert!(code == 130 && said.contains("nothing was changed"), "{said}");
    assert!(project.get("/").is_ok());
    let (code, said) = on_a_terminal(&project, &["destroy"], &[("CI", "true")], &[]);
    assert!(code == 2 && said.contains("-y confirms it"), "{said}");
    let (code, said) = on_a_terminal(&project, &["destroy"], &[], &[("(dev):", "dev\n")]);
    assert_eq!(code, 0, "{said}");
    assert!(project.get("/").is_err());
}

#[test]
fn a_rollout_is_drawn_live_and_told_in_lines_at_its_end() {
    let project = Sealed::project();
    project.ok(&["deploy"]);
    let canary = [
        "deploy",
        "--set",
        "rollout.strategy=canary",
        "--set",
        "rollout.weight=20",
        "--set",
        "rollout.pause=3s",
        "--set",
        "analysis={ interval = \"1s\", count = 3, min_samples = 20, probe = \"/\" }",
    ];
    for (columns, greeting) in [("120", "env.GREETING=one"), ("44", "env.GREETING=two")] {
        let arguments = [&canary[..], &["--set", greeting]].concat();
        let (code, said) = on_a_terminal(&project, &arguments, &[("COLUMNS", columns)], &[]);
        assert_eq!(code, 0, "{said}");
        let drawn = |text: &str| said.split(['\r', '\n']).any(|line| line.contains(text));
        assert!(drawn("req  failed") && drawn("p99"), "both sides are drawn: {said:?}");
        assert_eq!(
            said.contains("failed ▁") || said.contains("▁ "),
            columns == "120",
            "bars where there is room: {said:?}"
        );
        assert!(said.contains(" left"), "the time at this weight is known: {said:?}");
        // Every look was drawn; the last one is told in a line that stays.
        assert_eq!(said.matches("  0 requests | ").count(), 1, "{said:?}");
        let (_, after) = said.rsplit_once("req  failed").unwrap();
        assert!(after.contains("\u{1b}[2K") && after.contains("serves at"), "the drawing is taken away: {after:?}");
    }
}

#[test]
fn colours_and_spinners_can_be_refused() {
    let project = Sealed::project();
    for (variables, arguments) in [
        (&[("NO_COLOR", "1")][..], &["validate"][..]),
        (&[("TERM", "dumb")], &["validate"]),
        (&[], &["--no-color", "validate"]),
    ] {
        let (code, said) = on_a_terminal(&project, arguments, variables, &[]);
        assert_eq!((code, said.contains('\u{1b}')), (0, false), "{variables:?} {said:?}");
    }
    let (_, said) = on_a_terminal(&project, &["validate"], &[], &[]);
    assert!(said.contains('\u{1b}'), "{said:?}");
    let (code, said) = on_a_terminal(&project, &["deploy"], &[("CI", "1")], &[]);
    assert!(code == 0 && !said.contains('⠋'), "{said:?}");
    let piped = project.ok(&["deploy", "--set", "env.GREETING=x"]);
    assert!(!piped.to_string().contains('\u{1b}'), "{piped}");
}

#[test]
fn a_new_project_is_asked_for() {
    let sealed = Sealed::empty();
    let answers = [
        ("Name of the service", "svc\n"),
        ("Port", "9000\n"),
        ("builds it", "make all\n"),
        ("Binary", "bin/svc\n"),
        ("healthy", "\n"),
        ("keeps", "sqlite\n"),
    ];
    let (code, said) = on_a_terminal(&sealed, &["init"], &[], &answers);
    assert_eq!(code, 0, "{said}");
    let base = std::fs::read_to_string(sealed.path().join("environments/base.toml")).unwrap();
    for wanted in
        ["name = \"svc\"", "port = 9000", "command = [\"make\", \"all\"]", "live = \"/healthz\"", "kind = \"sqlite\""]
    {
        assert!(base.contains(wanted), "no {wanted} in\n{base}");
    }
    sealed.ok(&["validate"]);
}
