//! From merged keys to the specification: defaults for what was left out, one type for what can be written in several ways.
//! It finds no faults; a value that has one is replaced by a stand-in here and reported elsewhere.

use super::{
    Request,
    file::{self, Drills, Root, StrategyName},
    slot::{Entry, Slot, Table},
};
use crate::{
    Cloud, Spec,
    spec::{
        Alerts, Analysis, Artefact, AwsSettings, AzureSettings, Build, Controller, Health, Hook, LocalSettings,
        Rollout, Scale, ScaleStep, SecretRef, Service, Slo, Snapshot, Statement, Storage, StorageKind, Strategy,
        Telemetry, WeightStep,
    },
};

/// Held CPU load where `max` is above `min` and nothing else is said.
const TARGET_CPU_PERCENT: u32 = 70;

/// The specification that the merged file amounts to. Where something is missing or faulty it holds a stand-in; it is
/// handed out only if nothing is.
pub(crate) fn specify(root: &Root, request: &Request<'_>) -> Spec {
    let clouds = &root.cloud.keys;
    let (aws, azure) = (aws(&clouds.aws.keys), azure(&clouds.azure.keys));
    let override_of = match request.cloud {
        Cloud::Local => None,
        Cloud::Aws => aws.state.clone(),
        Cloud::Azure => azure.state.clone(),
    };
    let storage = root.storage.origin.map(|_| storage(&root.storage.keys));
    let secret = |secret: file::Secret| SecretRef { name: secret.name.get().cloned().unwrap_or_default() };
    Spec {
        environment: request.environment.to_owned(),
        cloud: request.cloud,
        service: service(&root.service.keys),
        health: health(&root.health.keys),
        storage,
        scale: scale(&root.scale.keys),
        rollout: rollout(&root.rollout.keys),
        analysis: analysis(&root.analysis.keys, root.telemetry.keys.metrics()),
        env: root.env.set().unwrap_or_default(),
        secrets: root.secrets.set().unwrap_or_default().into_iter().map(|(k, v)| (k, secret(v))).collect(),
        telemetry: telemetry(&root.telemetry.keys),
        slo: slo(&root.slo.keys),
        alerts: Alerts { notify: root.alerts.keys.notify() },
        drills_allowed: root.chaos.keys.drills() == Drills::Allowed,
        drill_stored: root.chaos.keys.stored.set().unwrap_or_default(),
        state_url: override_of.unwrap_or_else(|| root.state.keys.url()),
        local: local(&clouds.local.keys),
        aws,
        azure,
    }
}

fn service(keys: &file::Service) -> Service {
    let build = &keys.build.keys;
    let artefact = match (build.binary.get(), build.folder.get()) {
        (Some(path), _) => Artefact::Binary { path: path.clone() },
        (None, folder) => Artefact::Folder {
            path: folder.cloned().unwrap_or_default(),
            entrypoint: build.entrypoint.set().unwrap_or_default(),
        },
    };
    Service {
        name: keys.name.set().unwrap_or_default(),
        kind: keys.kind(),
        port: keys.port.set().unwrap_or(1),
        port_env: keys.port_env.set(),
        cpu: keys.cpu(),
        memory_mib: keys.memory_mib(),
        stop_grace_ms: keys.stop_grace(),
        build: keys.build.origin.map(|_| Build {
            command: build.command.set().unwrap_or_default(),
            artefact,
            base: build.base(),
        }),
    }
}

fn health(keys: &file::Health) -> Health {
    Health {
        live: keys.live(),
        ready: keys.ready.set().unwrap_or_else(|| keys.live()),
        interval_ms: keys.interval(),
        timeout_ms: keys.timeout(),
        healthy_after: keys.healthy_after(),
        unhealthy_after: keys.unhealthy_after(),
    }
}

fn storage(keys: &file::Storage) -> Storage {
    let backup: Vec<String> = keys.backup.set().unwrap_or_default();
    let usual = if backup.is_empty() { Snapshot::None } else { Snapshot::BeforeRelease };
    Storage {
        kind: keys.kind.set().unwrap_or(StorageKind::Files),
        mount: keys.mount.set().unwrap_or_default(),
        writer: keys.writer(),
        journal: keys.journal(),
        storage_protocol: keys.storage_protocol(),
        snapshot: keys.snapshot.set().unwrap_or(usual),
        snapshots_kept: keys.snapshots_kept(),
        backup,
        restore: keys.restore.set().unwrap_or_default(),
    }
}

fn scale(keys: &file::Scale) -> Scale {
    let step = |step: &file::ScaleStep| ScaleStep {
        cpu_percent: step.above.set().or_else(|| step.below.set()).unwrap_or_default(),
        above: !step.above.is_absent(),
        for_ms: step.r#for.set().unwrap_or_default(),
        add: step.add.set().unwrap_or_default(),
    };
    let min = keys.min();
    let max = keys.max.set().unwrap_or(min);
    let steps: Vec<ScaleStep> = keys.steps.items.iter().map(|item| step(&item.keys)).collect();
    let usual = (max > min && steps.is_empty()).then_some(TARGET_CPU_PERCENT);
    Scale { min, max, target_cpu_percent: keys.target_cpu_percent.set().or(usual), steps }
}

fn rollout(keys: &file::Rollout) -> Rollout {
    let step = |step: &file::WeightStep| WeightStep {
        weight: step.weight.set().unwrap_or(100),
        pause_ms: step.pause(),
        gate: step.gate(),
    };
    let strategy = match keys.strategy() {
        StrategyName::AllAtOnce => Strategy::AllAtOnce,
        StrategyName::BlueGreen => Strategy::BlueGreen,
        StrategyName::Recreate => Strategy::Recreate,
        StrategyName::Rolling => {
            Strategy::Rolling { batch_percent: keys.batch_percent(), min_healthy_percent: keys.min_healthy_percent() }
        }
        StrategyName::Linear => Strategy::Linear { percent: keys.percent(), every_ms: keys.every() },
        StrategyName::Canary if keys.steps.is_absent() => Strategy::Canary {
            steps: vec![
                WeightStep { weight: keys.weight(), pause_ms: keys.pause(), gate: false },
                WeightStep { weight: 100, pause_ms: 0, gate: false },
            ],
        },
        StrategyName::Canary => Strategy::Canary { steps: keys.steps.items.iter().map(|i| step(&i.keys)).collect() },
    };
    let usual = match &strategy {
        Strategy::Rolling { .. } | Strategy::Recreate => Controller::Ecs,
        _ => Controller::Codedeploy,
    };
    let hook = |hook: &file::Hook| {
        let url = hook.url.set().filter(|url| !url.is_empty());
        Some(Hook { when: hook.when.set()?, run: hook.run.set().unwrap_or_default(), url, timeout_ms: hook.timeout() })
    };
    Rollout {
        strategy,
        controller: keys.controller.set().unwrap_or(usual),
        bake_ms: keys.bake(),
        deadline_ms: keys.deadline(),
        progress_deadline_ms: keys.progress_deadline(),
        pause_limit_ms: keys.pause_limit(),
        keep: keys.keep(),
        hooks: keys.hooks.items.iter().filter_map(|item| hook(&item.keys)).collect(),
    }
}

fn analysis(keys: &file::Analysis, metrics: String) -> Analysis {
    Analysis {
        interval_ms: keys.interval(),
        count: keys.count(),
        failure_limit: keys.failure_limit(),
        min_samples: keys.min_samples(),
        no_data: keys.no_data(),
        baseline: keys.baseline(),
        error_rate_max: keys.error_rate_max(),
        p99_ms_max: keys.p99_ms_max(),
        source: keys.source(),
        success_limit: keys.success_limit(),
        error_limit: keys.error_limit(),
        probe: Some(keys.probe()).filter(|path| !path.is_empty()),
        prometheus: Some(keys.prometheus()).filter(|url| !url.is_empty()),
        selector: keys.selector(),
        metrics,
    }
}

fn telemetry(keys: &file::Telemetry) -> Telemetry {
    let otlp = Some(keys.otlp()).filter(|url| !url.is_empty());
    Telemetry { otlp, metrics: keys.metrics(), collector: keys.collector() }
}

fn slo(keys: &file::Slo) -> Slo {
    Slo { availability: keys.availability(), p99_ms: keys.p99_ms(), window_ms: keys.window() }
}

fn local(keys: &file::Local) -> LocalSettings {
    LocalSettings { listen: keys.listen(), test_listen: keys.test_listen(), runtime: keys.runtime() }
}

fn statements(items: &[Table<file::Statement>]) -> Vec<Statement> {
    let texts = |entry: &Entry<Vec<String>>| entry.set().unwrap_or_default();
    let statement = |item: &Table<file::Statement>| Statement {
        actions: texts(&item.keys.actions),
        resources: texts(&item.keys.resources),
    };
    items.iter().map(statement).collect()
}

fn aws(keys: &file::Aws) -> AwsSettings {
    AwsSettings {
        region: keys.region(),
        account: keys.account.set(),
        network: keys.network(),
        cidr: keys.cidr(),
        egress: keys.egress(),
        vpc_endpoints: keys.vpc_endpoints(),
        flow_logs: keys.flow_logs(),
        log_days: keys.log_days(),
        backup: keys.backup(),
        exec: keys.exec(),
        container_insights: keys.container_insights(),
        access_logs: keys.access_logs.set(),
        collector_image: keys.collector_image(),
        test_cidrs: keys.test_cidrs(),
        certificate: keys.certificate.set(),
        domain: keys.domain.set(),
        state: keys.state.set(),
        task_policy: statements(&keys.task_policy.items),
        execution_role: keys.execution_role.set(),
        execution_policy: statements(&keys.execution_policy.items),
        repository: keys.repository.set(),
    }
}

fn azure(keys: &file::Azure) -> AzureSettings {
    AzureSettings {
        location: keys.location(),
        share: keys.share(),
        profile: keys.profile(),
        domain: keys.domain.set(),
        state: keys.state.set(),
        internal: keys.internal(),
        allow_insecure: keys.allow_insecure(),
        public_network_access: keys.public_network_access(),
        private_endpoint: keys.private_endpoint(),
    }
}
