//! The environment file: every key that there is, one line each, with what it may hold, its default and its meaning. What the
//! values amount to together is decided in `resolve`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use toml::{Value, de::DeValue};

use super::{
    declare::declare,
    faults::Draft,
    reader::Reader,
    rules::{among, choice, command, decimal, duration, flag, list, required, some, whole, word},
    slot::{Entry, Map, Table, Tables},
    table::{Declared, Leaf, Node, map, table, tables},
    texts::{
        VARIABLE, account, bucket, certificate, check_variable, cloud_word, domain, file_path, http_url, image, listen,
        mount, name, network, recipient, repository, role, secret_name, state_url, text, url_path, url_path_or_none,
        value, variable, versions, vpc_network,
    },
};
use crate::spec::{
    AnalysisSource, Collector, Controller, HookWhen, Journal, NoData, Runtime, ServiceKind, Snapshot, StorageKind,
    Writer,
};

/// The version of the files that this dbird reads.
pub(crate) const SCHEMA: i64 = 1;

/// What CloudWatch can keep logs for.
const LOG_DAYS: &[i64] =
    &[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];
/// AWS's own build of the OpenTelemetry collector.
const COLLECTOR_IMAGE: &str = "public.ecr.aws/aws-observability/aws-otel-collector:v0.43.3";

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The names of the strategies, without their parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StrategyName {
    /// New copies, all traffic, old copies away.
    AllAtOnce,
    /// Copies are replaced in batches.
    Rolling,
    /// All new copies beside the old ones, then all traffic at once.
    BlueGreen,
    /// A share first, after a pause everything; or a list of steps.
    Canary,
    /// The same share again and again.
    Linear,
    /// The old copies stop before the new ones start.
    Recreate,
}

/// Whether faults may be injected into an environment on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Drills {
    /// They may.
    Allowed,
    /// They may not.
    Refused,
}

/// The version of the file.
#[derive(Debug)]
struct SchemaVersion;

impl Leaf for SchemaVersion {
    type Value = i64;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<i64> {
        let DeValue::Integer(written) = node.get_ref() else {
            reader.expected("the number of the schema", node, Some(SCHEMA.to_string()));
            return None;
        };
        let version = i64::from_str_radix(written.as_str(), written.radix()).unwrap_or(i64::MAX);
        // A newer one is refused once the layers are merged, because then nothing else can be judged.
        if version >= SCHEMA {
            return Some(version);
        }
        reader
            .add(reader.place(node), Draft::error(format!("there is no schema {version}")).suggest(SCHEMA.to_string()));
        None
    }

    fn write(&self, version: &i64) -> Value {
        Value::Integer(*version)
    }

    fn schema(&self) -> Json {
        json!({ "type": "integer", "const": SCHEMA })
    }
}

declare! {
    /// One file, or all layers merged.
    Root {
        /// The version of these files; heads base.toml.
        schema: Entry<i64> = SchemaVersion;
        /// The project as a whole.
        project: Table<Project> = table();
        /// What runs.
        service: Table<Service> = table().always();
        /// How the service is found to be alive and ready.
        health: Table<Health> = table();
        /// What the service keeps; leave the table out for a stateless service.
        storage: Table<Storage> = table();
        /// How many copies run.
        scale: Table<Scale> = table();
        /// How a release replaces the previous one.
        rollout: Table<Rollout> = table();
        /// How a release is judged by its own metrics.
        analysis: Table<Analysis> = table();
        /// Plain environment variables; secrets belong in [secrets].
        env: Map<Entry<String>> = map(value(), VARIABLE, check_variable);
        /// Environment variables whose values only the cloud knows; locally from .dbird/secrets or the caller's environment.
        secrets: Map<Table<Secret>> = map(table::<Secret>().always(), VARIABLE, check_variable);
        /// Traces and metrics.
        telemetry: Table<Telemetry> = table();
        /// What is promised to users.
        slo: Table<Slo> = table();
        /// Who is told.
        alerts: Table<Alerts> = table();
        /// Faults on purpose.
        chaos: Table<Chaos> = table();
        /// Where dbird keeps its journal, lease and history.
        state: Table<State> = table();
        /// Settings of one cloud each.
        cloud: Table<Clouds> = table();
        /// What `dbird validate` may let pass.
        policies: Table<Policies> = table();
    }
}

declare! {
    /// `[project]`
    Project {
        /// Which versions of dbird may use the project, such as ">=0.1".
        dbird: Entry<String> = versions();
    }
}

declare! {
    /// `[service]`
    Service {
        /// Becomes part of resource names everywhere: lower-case letters, digits and dashes, at most 32.
        name: Entry<String> = required(name());
        /// Container or function.
        kind: Entry<ServiceKind> = choice() => ServiceKind::Container;
        /// The port that the service listens on inside its container.
        port: Entry<u16> = required(whole(1, 65_535));
        /// The variable that tells the service its port; needed where tasks are processes of this machine.
        port_env: Entry<String> = variable();
        /// Share of virtual CPUs.
        cpu: Entry<f64> = decimal(0.05, 64.0) => 0.25;
        /// Memory in MiB.
        memory_mib: Entry<u32> = whole(16, 524_288) => 512;
        /// How long the service may take to stop before it is killed.
        stop_grace: Entry<u64> = duration(0, HOUR) => 30 * SECOND;
        /// How the image is made; leave the table out to deploy given images only.
        build: Table<Build> = table();
    }
}

declare! {
    /// `[service.build]`
    Build {
        /// Program and arguments, run in the project's folder; leave it out where the artefact is there already.
        command: Entry<Vec<String>> = command();
        /// One static binary; it becomes the entry point. Either this, or `folder` and `entrypoint`.
        binary: Entry<String> = file_path();
        /// A folder; it becomes /app, which is the working folder.
        folder: Entry<String> = file_path();
        /// Program and arguments that start what is in the folder.
        entrypoint: Entry<Vec<String>> = command();
        /// The image that this one is built on: "scratch" for an empty one, or an image reference.
        base: Entry<String> = image() => "scratch".to_owned();
    }
}

declare! {
    /// `[health]`
    Health {
        /// Path of the liveness probe.
        live: Entry<String> = url_path() => "/healthz".to_owned();
        /// Path of the readiness probe; that of the liveness probe where it is left out.
        ready: Entry<String> = url_path();
        /// Between probes. Clouds may probe less often: a load balancer on AWS not more than every 5 s.
        interval: Entry<u64> = duration(100, HOUR) => 5 * SECOND;
        /// A probe that takes longer has failed.
        timeout: Entry<u64> = duration(10, 10 * MINUTE) => 2 * SECOND;
        /// Consecutive successes that make a task healthy.
        healthy_after: Entry<u32> = whole(1, 10) => 2;
        /// Consecutive failures that make a task unhealthy.
        unhealthy_after: Entry<u32> = whole(1, 10) => 3;
    }
}

declare! {
    /// `[storage]`
    Storage {
        /// What is kept.
        kind: Entry<StorageKind> = required(choice());
        /// Where it is mounted in the container; an absolute path.
        mount: Entry<String> = required(mount());
        /// Who may write.
        writer: Entry<Writer> = choice() => Writer::Exclusive;
        /// How the service opens its SQLite database.
        journal: Entry<Journal> = choice() => Journal::ExclusiveWal;
        /// The protocol version by which releases share the store; 0 for none.
        storage_protocol: Entry<u32> = whole(0, 1_000_000) => 0;
        /// When a copy of the data is taken; before each release where there is a `backup` command, if it is left out.
        snapshot: Entry<Snapshot> = choice();
        /// How many snapshots are kept.
        snapshots_kept: Entry<u32> = whole(1, 1000) => 10;
        /// Program and arguments that copy the data to {file}, run as a one-off task: `dbird backup` and snapshots.
        backup: Entry<Vec<String>> = command();
        /// Program and arguments that bring the data back from {file}: `dbird restore`.
        restore: Entry<Vec<String>> = command();
    }
}

declare! {
    /// `[scale]`
    Scale {
        /// At least so many copies.
        min: Entry<u32> = whole(1, 1000) => 1;
        /// At most so many copies; as many as `min` where it is left out.
        max: Entry<u32> = whole(1, 1000);
        /// Copies are added and removed to hold this CPU load; 70 where `max` is above `min` and nothing else is said.
        target_cpu_percent: Entry<u32> = whole(1, 100);
        /// Or copies are added and removed in steps.
        steps: Tables<ScaleStep> = tables(16);
    }
}

declare! {
    /// An item of `[scale] steps`.
    ScaleStep {
        /// CPU load above this percentage ...
        above: Entry<u32> = whole(0, 100);
        /// ... or below this one ...
        below: Entry<u32> = whole(0, 100);
        /// ... for this long ...
        r#for: Entry<u64> = required(duration(MINUTE, DAY));
        /// ... adds so many copies; a negative number removes them.
        add: Entry<i32> = required(whole(-1000, 1000));
    }
}

declare! {
    /// `[rollout]`
    Rollout {
        /// How traffic moves to a new release.
        strategy: Entry<StrategyName> = choice() => StrategyName::BlueGreen;
        /// Who moves traffic on AWS; CodeDeploy where it can, else ECS, where it is left out.
        controller: Entry<Controller> = choice();
        /// canary: the first share in percent.
        weight: Entry<u8> = whole(1, 99) => 10;
        /// canary: how long that share is kept; "0s": as long as the looks at it take.
        pause: Entry<u64> = duration(0, DAY) => 5 * MINUTE;
        /// canary: all weights, where the cloud can; instead of `weight` and `pause`.
        steps: Tables<WeightStep> = tables(32);
        /// linear: percent per step.
        percent: Entry<u8> = whole(1, 99) => 10;
        /// linear: between steps.
        every: Entry<u64> = duration(0, DAY) => MINUTE;
        /// rolling: size of a batch.
        batch_percent: Entry<u8> = whole(1, 100) => 50;
        /// rolling: ready copies never fall below this.
        min_healthy_percent: Entry<u8> = whole(0, 100) => 50;
        /// How long the previous release is kept after all traffic has moved; "0s": it is drained at once.
        bake: Entry<u64> = duration(0, 7 * DAY) => 0;
        /// A rollout that takes longer has failed.
        deadline: Entry<u64> = duration(SECOND, 14 * DAY) => 30 * MINUTE;
        /// A candidate of which nothing new is heard for this long has failed.
        progress_deadline: Entry<u64> = duration(SECOND, 14 * DAY) => 10 * MINUTE;
        /// How long an inconclusive pause may last without a person.
        pause_limit: Entry<u64> = duration(0, 14 * DAY) => 30 * MINUTE;
        /// Releases that can be rolled back to.
        keep: Entry<u32> = whole(1, 100) => 10;
        /// Commands run on the way.
        hooks: Tables<Hook> = tables(32);
    }
}

declare! {
    /// An item of `[rollout] steps`.
    WeightStep {
        /// The candidate's share in percent; the last step's is 100.
        weight: Entry<u8> = required(whole(1, 100));
        /// How long to stay there; "0s": as long as the looks take.
        pause: Entry<u64> = duration(0, DAY) => 0;
        /// Wait there for a person: `dbird promote`.
        gate: Entry<bool> = flag() => false;
    }
}

declare! {
    /// An item of `[[rollout.hooks]]`.
    Hook {
        /// When it runs.
        when: Entry<HookWhen> = required(choice());
        /// Program and arguments, run as a one-off task of the release's image. Either this, or `url`.
        run: Entry<Vec<String>> = command();
        /// An address that is told by POST, with what happens as JSON; anything but 2xx is a failure. Either this, or `run`.
        url: Entry<String> = http_url();
        /// It has failed after this long.
        timeout: Entry<u64> = duration(SECOND, DAY) => 5 * MINUTE;
    }
}

declare! {
    /// `[analysis]`
    Analysis {
        /// Between looks.
        interval: Entry<u64> = duration(SECOND, HOUR) => 30 * SECOND;
        /// How many looks.
        count: Entry<u32> = whole(0, 10_000) => 10;
        /// Bad looks that end the release.
        failure_limit: Entry<u32> = whole(1, 10_000) => 1;
        /// Fewer requests than this say nothing.
        min_samples: Entry<u64> = whole(0, 1_000_000_000) => 50;
        /// What is done when nothing is said.
        no_data: Entry<NoData> = choice() => NoData::Pause;
        /// Compare with the previous release in the same window.
        baseline: Entry<bool> = flag() => true;
        /// Share of failed requests, 0 to 1.
        error_rate_max: Entry<f64> = decimal(0.0, 1.0) => 0.01;
        /// 99th percentile of the response time in milliseconds.
        p99_ms_max: Entry<u64> = whole(1, 3_600_000) => 500;
        /// Where the numbers come from.
        source: Entry<AnalysisSource> = choice() => AnalysisSource::Auto;
        /// Good looks in a row that are needed before traffic moves on.
        success_limit: Entry<u32> = whole(1, 10_000) => 1;
        /// Looks in a row whose source can't be read, after which there is no data.
        error_limit: Entry<u32> = whole(1, 10_000) => 4;
        /// A path that dbird asks the candidate for where there are too few requests; none where empty.
        probe: Entry<String> = url_path_or_none() => String::new();
        /// The Prometheus server, with source = "prometheus".
        prometheus: Entry<String> = http_url() => String::new();
        /// Which of its series are a release's; {release} stands for its name, as r4.
        selector: Entry<String> = text() => "release=\"{release}\"".to_owned();
    }
}

declare! {
    /// A value of `[secrets]`.
    Secret {
        /// The name in the cloud's secret store, or in .dbird/secrets; never the secret itself. On AWS a name or an ARN of
        /// Secrets Manager, or a parameter: "ssm:/path" or its ARN.
        name: Entry<String> = required(secret_name());
    }
}

declare! {
    /// `[telemetry]`
    Telemetry {
        /// Where traces go, OTLP over HTTP; nowhere where empty.
        otlp: Entry<String> = http_url() => String::new();
        /// The path of the metrics page.
        metrics: Entry<String> = url_path() => "/metrics".to_owned();
        /// Where the collector runs.
        collector: Entry<Collector> = choice() => Collector::None;
    }
}

declare! {
    /// `[slo]`
    Slo {
        /// Share of good requests, 0 to 1.
        availability: Entry<f64> = decimal(0.0, 1.0) => 0.999;
        /// 99th percentile of the response time in milliseconds.
        p99_ms: Entry<u64> = whole(1, 3_600_000) => 500;
        /// Over this long.
        window: Entry<u64> = duration(HOUR, 366 * DAY) => 30 * DAY;
    }
}

declare! {
    /// `[alerts]`
    Alerts {
        /// Mail addresses, https:// addresses or ARNs.
        notify: Entry<Vec<String>> = list(recipient(), 64) => Vec::new();
    }
}

declare! {
    /// `[chaos]`
    Chaos {
        /// Whether `dbird drill` may inject faults here.
        drills: Entry<Drills> = choice() => Drills::Refused;
        /// Program and arguments that print the identity of every stored score that begins with {prefix}: a drill looks with it
        /// whether all that was acknowledged is there.
        stored: Entry<Vec<String>> = command();
    }
}

declare! {
    /// `[state]`
    State {
        /// file:PATH, s3://BUCKET/PREFIX or az://ACCOUNT/CONTAINER/PREFIX.
        url: Entry<String> = state_url() => "file:.dbird/state".to_owned();
    }
}

declare! {
    /// `[cloud]`
    Clouds {
        /// This machine.
        local: Table<Local> = table();
        /// ECS Fargate.
        aws: Table<Aws> = table();
        /// Container Apps.
        azure: Table<Azure> = table();
    }
}

declare! {
    /// `[cloud.local]`
    Local {
        /// The front door.
        listen: Entry<String> = listen() => "127.0.0.1:8080".to_owned();
        /// The test door, which reaches only a candidate.
        test_listen: Entry<String> = listen() => "127.0.0.1:8081".to_owned();
        /// How tasks run.
        runtime: Entry<Runtime> = choice() => Runtime::Process;
    }
}

declare! {
    /// `[cloud.aws]`
    Aws {
        /// The region.
        region: Entry<String> = cloud_word("us-east-1") => "us-east-1".to_owned();
        /// The account, 12 digits; credentials of another one are refused.
        account: Entry<String> = account();
        /// "own" for a network of this environment alone, or a name: environments that say the same name share one.
        network: Entry<String> = name() => "own".to_owned();
        /// The addresses of the network; four equal parts of it become subnets.
        cidr: Entry<String> = vpc_network() => "10.0.0.0/16".to_owned();
        /// How tasks reach the internet: through one NAT gateway, through one in each zone, or by addresses of their own.
        egress: Entry<String> = word(&["nat", "nat-per-zone", "public-ip"]) => "nat".to_owned();
        /// Tasks reach registry, logs, secrets and metrics inside the network, not over the internet.
        vpc_endpoints: Entry<bool> = flag() => false;
        /// The network's connections are logged.
        flow_logs: Entry<bool> = flag() => true;
        /// How long logs are kept; only numbers that CloudWatch knows.
        log_days: Entry<u32> = among(LOG_DAYS) => 30;
        /// The file system is backed up every day.
        backup: Entry<bool> = flag() => true;
        /// `dbird exec` can run commands inside of tasks.
        exec: Entry<bool> = flag() => false;
        /// The cluster measures each task; costs by the metric.
        container_insights: Entry<bool> = flag() => false;
        /// A bucket, made by you, that the load balancer logs every request to.
        access_logs: Entry<String> = bucket();
        /// The collector's image, with [telemetry] collector = "sidecar".
        collector_image: Entry<String> = image() => COLLECTOR_IMAGE.to_owned();
        /// Who may reach the test listener.
        test_cidrs: Entry<Vec<String>> = list(network(), 64) => Vec::new();
        /// The ARN of the load balancer's certificate, in the same region.
        certificate: Entry<String> = certificate();
        /// The public name.
        domain: Entry<String> = domain();
        /// Where state is kept, instead of `[state] url`.
        state: Entry<String> = state_url();
        /// What the service itself may do, beside its own storage, secrets and logs.
        task_policy: Tables<Statement> = tables(32);
        /// The ARN of a role to start tasks with, instead of one that dbird makes.
        execution_role: Entry<String> = role();
        /// What the execution role that dbird makes may do, instead of the usual.
        execution_policy: Tables<Statement> = tables(32);
        /// The image repository, instead of one that dbird makes.
        repository: Entry<String> = repository();
    }
}

declare! {
    /// An item of `task_policy` or `execution_policy`.
    Statement {
        /// Actions such as "s3:GetObject".
        actions: Entry<Vec<String>> = required(some(text(), 64));
        /// ARNs that they are allowed on.
        resources: Entry<Vec<String>> = required(some(text(), 64));
    }
}

declare! {
    /// `[cloud.azure]`
    Azure {
        /// The location.
        location: Entry<String> = cloud_word("eastus") => "eastus".to_owned();
        /// How the share is mounted.
        share: Entry<String> = word(&["smb", "nfs"]) => "smb".to_owned();
        /// The workload profile.
        profile: Entry<String> = cloud_word("consumption") => "consumption".to_owned();
        /// The public name.
        domain: Entry<String> = domain();
        /// Where state is kept, instead of `[state] url`.
        state: Entry<String> = state_url();
        /// The environment has no public address.
        internal: Entry<bool> = flag() => false;
        /// Plain HTTP is answered too, instead of being redirected to HTTPS.
        allow_insecure: Entry<bool> = flag() => false;
        /// The storage account answers from the public network.
        public_network_access: Entry<bool> = flag() => true;
        /// The storage account has a private endpoint in the environment's network.
        private_endpoint: Entry<bool> = flag() => false;
    }
}

declare! {
    /// `[policies]`
    Policies {
        /// Policies that are let pass, each for one key and with a reason.
        waive: Tables<Waiver> = tables(64);
    }
}

declare! {
    /// An item of `[policies] waive`.
    Waiver {
        /// The policy's code.
        code: Entry<String> = required(text());
        /// The key that it is let pass for, such as "env.PUBLIC_KEY".
        key: Entry<String> = required(text());
        /// Why this is right here; for whoever reads it next year.
        why: Entry<String> = required(text());
    }
}

/// The first table that declares a key of this name, for those who wrote it into another.
pub(crate) fn table_with(name: &str) -> Option<String> {
    fn search(properties: &serde_json::Map<String, Json>, path: &str, name: &str) -> Option<String> {
        properties.iter().find_map(|(key, schema)| {
            let inner = schema.get("properties")?.as_object()?;
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if inner.contains_key(name) { Some(path) } else { search(inner, &path, name) }
        })
    }
    search(&Root::properties(), "", name)
}
