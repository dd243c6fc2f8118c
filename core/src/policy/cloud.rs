//! Policies about what a cloud, or this version of dbird, can run at all.

use super::{AWS_AND_AZURE, EVERYWHERE, LOCAL, Policy};
use crate::{
    Cloud, Spec,
    environment::{Finding, Severity, duration_text},
    spec::{Artefact, Runtime, ServiceKind, StorageKind},
};

pub(super) const KIND_NOT_RUN: Policy = Policy {
    code: "DB010",
    title: "a kind that this version of dbird does not run",
    severity: Severity::Error,
    waivable: false,
    clouds: EVERYWHERE,
    what: "`[service] kind` is \"lambda\", or `[storage] kind` is \"postgres\".",
    why: "The words have their place in environment files, and this version does neither.",
    fix: "Say `kind = \"container\"`; keep the data in \"sqlite\" or \"files\", or outside of dbird, with its address in \
          `[env]` and its password in `[secrets]`.",
    wrong: "[service]\nkind = \"lambda\"",
    right: "[service]\nkind = \"container\"",
    check: |spec, found| {
        if spec.service.kind == ServiceKind::Lambda {
            let message = "this version of dbird runs containers, not Lambda functions";
            found.push(Finding::at("service.kind", message).suggest("\"container\""));
        }
        if spec.storage.as_ref().is_some_and(|storage| storage.kind == StorageKind::Postgres) {
            let message = "this version of dbird provides files and SQLite, not Postgres";
            found.push(Finding::at("storage.kind", message));
        }
    },
};

pub(super) const NEEDS_PODMAN: Policy = Policy {
    code: "DB012",
    title: "a service that can't run as a plain process of this machine",
    severity: Severity::Error,
    waivable: false,
    clouds: LOCAL,
    what: "With `[cloud.local] runtime = \"process\"`, the service has a base image, has no `port_env`, or has storage \
           whose `mount` no value of `[env]` begins with.",
    why: "Tasks are then processes that share this machine. Each needs a port of its own, and a folder of its own in \
          place of the mount; both can only be told through the environment. And a base image's files are at their place \
          only inside a container.",
    fix: "Say `[cloud.local] runtime = \"podman\"` where podman is installed. Or let the service be told: \
          `[service] port_env = \"PORT\"`, and a variable such as `DB_PATH = \"/data/db.sqlite\"`.",
    wrong: "[service.build]\nfolder = \"app\"\nentrypoint = [\"node\", \"server.js\"]\n\
            base = \"docker.io/library/node:22-slim\"",
    right: "[service.build]\nfolder = \"app\"\nentrypoint = [\"node\", \"server.js\"]\n\
            base = \"docker.io/library/node:22-slim\"\n\n[cloud.local]\nruntime = \"podman\"",
    check: |spec, found| {
        if spec.local.runtime != Runtime::Process {
            return;
        }
        const READS: &[&str] = &["cloud.local.runtime", "env", "service.port_env"];
        let podman = "`[cloud.local] runtime = \"podman\"` runs it in a container";
        if let Some(base) = spec.service.build.as_ref().map(|build| &build.base).filter(|base| *base != "scratch") {
            let message = format!("what needs the base image {base} can't run as a plain process");
            found.push(Finding::at("service.build.base", message).reads(READS).help(podman));
        }
        if spec.service.port_env.is_none() {
            let message = "as a plain process the service must be told its port, and there is no `port_env`";
            let help = format!("set `port_env = \"PORT\"` if it reads that variable; {podman}");
            found.push(Finding::at("service.port", message).reads(READS).help(help));
        }
        let mounted = spec.storage.as_ref().filter(|storage| storage.kind != StorageKind::Postgres);
        if let Some(mount) = mounted.map(|storage| &storage.mount) {
            let within = |value: &String| {
                value.strip_prefix(mount.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if !spec.env.values().any(within) {
                let message = format!(
                    "as a plain process the service must be told where {mount} is, and no value of [env] begins with it"
                );
                let help = format!("set a variable such as DATA_DIR = \"{mount}\" if it reads one; {podman}");
                found.push(Finding::at("storage.mount", message).reads(READS).help(help));
            }
        }
    },
};

pub(super) const SIZE_NOT_OFFERED: Policy = Policy {
    code: "DB014",
    title: "a size or a time that the cloud does not offer",
    severity: Severity::Error,
    waivable: false,
    clouds: AWS_AND_AZURE,
    what: "Fargate and Container Apps' consumption profile offer certain pairs of CPU and memory only: on Fargate 0.25 \
           vCPU with 512, 1024 or 2048 MiB, 0.5 with 1 to 4 GiB, 1 with 2 to 8 GiB, 2 with 4 to 16 GiB, and so on; in \
           Container Apps any quarter up to 4 vCPU with 2 GiB for each vCPU. A task has at most 120 s to stop on \
           Fargate, 600 s in Container Apps.",
    why: "The cloud would refuse the task, after everything else was made.",
    fix: "Choose a pair that is offered; 0.25 vCPU with 512 MiB, 0.5 with 1024, 1 with 2048 and so on are offered by \
          both.",
    wrong: "[service]\ncpu = 0.5\nmemory_mib = 512",
    right: "[service]\ncpu = 0.5\nmemory_mib = 1024",
    check: |spec, found| {
        size(spec, found);
        let (limit_ms, whose) = match spec.cloud {
            Cloud::Azure => (600_000, "Container Apps give"),
            _ => (120_000, "Fargate gives"),
        };
        if spec.service.stop_grace_ms > limit_ms {
            let limit = duration_text(limit_ms);
            let message = format!("{whose} a task at most {limit} to stop");
            found.push(Finding::at("service.stop_grace", message).suggest(format!("\"{limit}\"")));
        }
    },
};

fn size(spec: &Spec, found: &mut Vec<Finding>) {
    let (cpu, memory_mib) = (spec.service.cpu, spec.service.memory_mib);
    let offered = match spec.cloud {
        Cloud::Local => return,
        Cloud::Aws => fargate(cpu),
        Cloud::Azure if spec.azure.profile.eq_ignore_ascii_case("consumption") => consumption(cpu),
        Cloud::Azure => return,
    };
    let whose = if spec.cloud == Cloud::Aws { "Fargate offers" } else { "Container Apps' consumption profile offers" };
    const READS: &[&str] = &["service.cpu", "service.memory_mib", "cloud.azure.profile"];
    match offered {
        None => {
            let units =
                if spec.cloud == Cloud::Aws { "0.25, 0.5, 1, 2, 4, 8 or 16" } else { "quarters from 0.25 to 4" };
            let message = format!("{whose} {units} vCPU, not {cpu}");
            found.push(Finding::at("service.cpu", message).reads(READS));
        }
        Some(sizes) if !sizes.contains(&memory_mib) => {
            let near = sizes.iter().find(|size| **size >= memory_mib).or(sizes.last()).copied().unwrap_or(memory_mib);
            let shown: Vec<String> = sizes.iter().map(u32::to_string).collect();
            let shown =
                if shown.len() > 4 { format!("{} to {}", shown[0], shown[shown.len() - 1]) } else { shown.join(", ") };
            let message = format!("{whose} {shown} MiB with {cpu} vCPU, not {memory_mib}");
            found.push(Finding::at("service.memory_mib", message).reads(READS).suggest(near.to_string()));
        }
        Some(_) => {}
    }
}

/// The memory sizes that Fargate offers with so many vCPU, in MiB.
fn fargate(cpu: f64) -> Option<Vec<u32>> {
    let gib = |from: u32, to: u32, by: usize| Some((from..=to).step_by(by).map(|gib| gib * 1024).collect());
    match (cpu * 4.0).to_string().as_str() {
        "1" => Some(vec![512, 1024, 2048]),
        "2" => gib(1, 4, 1),
        "4" => gib(2, 8, 1),
        "8" => gib(4, 16, 1),
        "16" => gib(8, 30, 1),
        "32" => gib(16, 60, 4),
        "64" => gib(32, 120, 8),
        _ => None,
    }
}

/// The one memory size that the consumption profile offers with so many vCPU, in MiB.
fn consumption(cpu: f64) -> Option<Vec<u32>> {
    (1..=16u32).find(|quarters| f64::from(*quarters) / 4.0 == cpu).map(|quarters| vec![quarters * 512])
}

pub(super) const SCRATCH_WITHOUT_PROGRAM: Policy = Policy {
    code: "DB015",
    title: "an empty base image without the program that is to be started",
    severity: Severity::Warning,
    waivable: false,
    clouds: AWS_AND_AZURE,
    what: "The service is a `folder` on the base \"scratch\", and its `entrypoint` names a program without a path.",
    why: "An empty image holds nothing but the folder, so `node` or `python3` is not there. Locally it is found only \
          because tasks run as processes of a machine that has it.",
    fix: "Name an image that has the program as `base`, or start a program from the folder by its path.",
    wrong: "[service.build]\nfolder = \"app\"\nentrypoint = [\"node\", \"server.js\"]",
    right: "[service.build]\nfolder = \"app\"\nentrypoint = [\"node\", \"server.js\"]\n\
            base = \"docker.io/library/node:22-slim\"",
    check: |spec, found| {
        let Some(build) = spec.service.build.as_ref().filter(|build| build.base == "scratch") else { return };
        if let Artefact::Folder { entrypoint, .. } = &build.artefact
            && let Some(program) = entrypoint.first().filter(|program| !program.contains('/'))
        {
            let message = format!("an empty image has no `{program}`");
            let finding = Finding::at("service.build.entrypoint", message).reads(&["service.build.base"]);
            found.push(finding.help("name an image that has it as `base`"));
        }
    },
};
