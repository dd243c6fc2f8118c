//! Killed at any moment: the command, then the agent. Whatever was left, the next command finishes or undoes it, and no
//! request is lost on the way.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

mod sealed;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use sealed::{Sealed, get, until};

/// Asks for `/` all the time and counts what was not answered with 200.
struct Load<'a> {
    stop: &'a AtomicBool,
    asked: AtomicU32,
    lost: Mutex<Vec<String>>,
}

impl Load<'_> {
    fn run(&self, port: u16) {
        while !self.stop.load(Ordering::SeqCst) {
            self.asked.fetch_add(1, Ordering::SeqCst);
            match get(port, "/") {
                Ok((200, _)) => {}
                other => self.lost.lock().unwrap().push(format!("{other:?}")),
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A number from 0 to below, the same sequence for the same seed.
fn next(seed: &mut u64, below: u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % below
}

#[test]
fn a_command_killed_at_any_moment_is_finished_or_undone() {
    let project = Sealed::project();
    project.ok(&["deploy"]);
    // What a whole deploy takes here, so that kills fall into all of it.
    let started = std::time::Instant::now();
    project.ok(&["deploy", "--set", "env.GREETING=begin"]);
    let whole_us = u64::try_from(started.elapsed().as_micros()).unwrap();

    let stop = AtomicBool::new(false);
    let load = Load { stop: &stop, asked: AtomicU32::new(0), lost: Mutex::default() };
    let mut recovered = 0;
    thread::scope(|scope| {
        scope.spawn(|| load.run(project.port));
        let mut seed = 0x5eed_u64;
        // At least so often, and until enough was tried: commands killed in the middle, and requests meanwhile.
        for round in 0..200 {
            if round >= 14 && recovered > 0 && load.asked.load(Ordering::SeqCst) > 100 {
                break;
            }
            let (wanted, after_us) = (format!("env.GREETING=round {round}"), next(&mut seed, whole_us));
            let mut killed = match round % 5 {
                4 => project.start(&["rollback"]),
                _ => project.start(&["deploy", "--set", &wanted]),
            };
            thread::sleep(Duration::from_micros(after_us));
            killed.kill().unwrap();
            killed.wait().unwrap();

            let plan = project.run(&["status"]);
            assert_eq!(plan.code, 0, "round {round}, killed after {after_us} us: {plan}");
            let next = project.run(&["deploy", "--set", &wanted]);
            assert_eq!(next.code, 0, "round {round}, killed after {after_us} us: {next}");
            recovered += u32::from(next.stderr.contains("Recovered:"));
            assert_eq!(project.get("/").unwrap(), (200, format!("round {round}")));
            let status = project.ok(&["status"]).stdout;
            assert_eq!(status.matches(" %  ready").count(), 1, "round {round}: {status}");
            assert!(!status.contains("Note:") && !status.contains("busy"), "round {round}: {status}");
        }
        stop.store(true, Ordering::SeqCst);
    });
    let (asked, lost) = (load.asked.load(Ordering::SeqCst), load.lost.into_inner().unwrap());
    assert!(asked > 100 && recovered > 0, "{asked} requests, {recovered} recoveries: nothing was tried");
    assert!(lost.is_empty(), "{} of {asked} requests: {:?}", lost.len(), &lost[..lost.len().min(5)]);
}

#[test]
fn a_killed_destroy_is_finished() {
    let project = Sealed::project();
    for after_ms in [0, 20, 40, 60, 90] {
        project.ok(&["deploy"]);
        let mut killed = project.start(&["destroy", "-y"]);
        thread::sleep(Duration::from_millis(after_ms));
        killed.kill().unwrap();
        killed.wait().unwrap();
        project.ok(&["destroy", "-y"]);
        assert!(project.get("/").is_err(), "killed after {after_ms} ms");
    }
}

#[test]
fn a_killed_agent_comes_back_and_the_deploy_with_it() {
    let project = Sealed::project();
    project.ok(&["deploy"]);
    for round in 0..3 {
        let doctor = project.ok(&["doctor"]).stdout;
        let agent = doctor.lines().find(|l| l.contains("agent ")).unwrap();
        let pid = agent.split("process ").nth(1).unwrap().split(',').next().unwrap();
        let wanted = format!("env.GREETING=after {round}");
        let deploy = project.start(&["deploy", "--set", &wanted]);
        thread::sleep(Duration::from_millis(40 * round));
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let ended = sealed::Ended::of(deploy.wait_with_output().unwrap());
        assert!([0, 1, 3].contains(&ended.code), "{ended}");
        until("the front door is back", || project.get("/").is_ok_and(|(status, _)| status == 200));
        project.ok(&["deploy", "--set", &wanted]);
        assert_eq!(project.get("/").unwrap(), (200, format!("after {round}")));
    }
}
