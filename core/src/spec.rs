//! The complete, typed specification of one environment in one cloud. It is only made by resolving environment files, which
//! reports every fault; whoever holds one need not validate again.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Cloud;

/// One service, in one environment, in one cloud. All times are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spec {
    /// The environment's name: `dev`, `prod`.
    pub environment: String,
    /// The cloud that it was resolved for.
    pub cloud: Cloud,
    /// What runs.
    pub service: Service,
    /// How it is found to be alive and ready.
    pub health: Health,
    /// What it keeps; none for a stateless service.
    pub storage: Option<Storage>,
    /// How many copies.
    pub scale: Scale,
    /// How a release replaces the previous one.
    pub rollout: Rollout,
    /// How a release is judged.
    pub analysis: Analysis,
    /// Plain environment variables.
    pub env: BTreeMap<String, String>,
    /// Environment variables whose values only the cloud knows.
    pub secrets: BTreeMap<String, SecretRef>,
    /// Traces and metrics.
    pub telemetry: Telemetry,
    /// What is promised to users.
    pub slo: Slo,
    /// Who is told.
    pub alerts: Alerts,
    /// Game days.
    pub drills_allowed: bool,
    /// Program and arguments that print the identity of every stored score that begins with `{prefix}`; empty where there is
    /// no such command.
    pub drill_stored: Vec<String>,
    /// Where journal, lease and history are kept: `file:.dbird/state`, `s3://bucket/prefix`, `az://account/container/prefix`.
    pub state_url: String,
    /// Settings for this machine.
    pub local: LocalSettings,
    /// Settings for AWS.
    pub aws: AwsSettings,
    /// Settings for Azure.
    pub azure: AzureSettings,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// Lower-case letters, digits and dashes, at most 32: it becomes part of resource names everywhere.
    pub name: String,
    /// Container or function.
    pub kind: ServiceKind,
    /// The port that it listens on inside its container.
    pub port: u16,
    /// The variable that tells it the port, where it can be told.
    pub port_env: Option<String>,
    /// Share of virtual CPUs.
    pub cpu: f64,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// How long it may take to stop before it is killed.
    pub stop_grace_ms: u64,
    /// How its image is made; none where only given images are deployed.
    pub build: Option<Build>,
}

/// Container or function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// A long-running container.
    Container,
    /// A Lambda function behind a load balancer.
    Lambda,
}

/// How the image is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Build {
    /// Program and arguments, run in the project's folder; none where the artefact is there already.
    pub command: Vec<String>,
    /// What goes into the image.
    pub artefact: Artefact,
    /// `scratch`, or an image reference.
    pub base: String,
}

/// What goes into the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Artefact {
    /// One static binary; it becomes `/usr/local/bin/<file name>` and the entry point.
    Binary {
        /// Relative to the project's folder.
        path: String,
    },
    /// A folder; it becomes `/app`, which is the working folder.
    Folder {
        /// Relative to the project's folder.
        path: String,
        /// Program and arguments.
        entrypoint: Vec<String>,
    },
}

/// Probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Path of the liveness probe.
    pub live: String,
    /// Path of the readiness probe.
    pub ready: String,
    /// Between probes.
    pub interval_ms: u64,
    /// A probe that takes longer has failed.
    pub timeout_ms: u64,
    /// Consecutive successes that make it healthy.
    pub healthy_after: u32,
    /// Consecutive failures that make it unhealthy.
    pub unhealthy_after: u32,
}

/// What the service keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// What is kept.
    pub kind: StorageKind,
    /// Where it is mounted in the container; an absolute path.
    pub mount: String,
    /// Who may write.
    pub writer: Writer,
    /// How the service opens its SQLite database; says nothing of other kinds.
    pub journal: Journal,
    /// The protocol version by which releases share the store; 0 for none.
    pub storage_protocol: u32,
    /// When a snapshot is taken.
    pub snapshot: Snapshot,
    /// How many are kept.
    pub snapshots_kept: u32,
    /// Program and arguments that copy the data to `{file}`; empty where there is no such command.
    pub backup: Vec<String>,
    /// Program and arguments that bring the data back from `{file}`; empty where there is no such command.
    pub restore: Vec<String>,
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// A SQLite database on a share.
    Sqlite,
    /// Plain files on a share.
    Files,
    /// A Postgres server.
    Postgres,
}

/// Who may write to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Writer {
    /// One process at a time; releases are swapped or recreated.
    Exclusive,
    /// Releases may overlap, because the service hands its writer over.
    Protocol,
    /// Any number.
    Many,
}

/// How the service opens its SQLite database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Journal {
    /// Write-ahead log in exclusive locking mode: no shared memory, so it works on a network share.
    ExclusiveWal,
    /// Write-ahead log with shared memory, which a network share cannot give.
    Wal,
    /// Rollback journal.
    Rollback,
}

/// When a snapshot of the data is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Snapshot {
    /// Before each release.
    BeforeRelease,
    /// Never.
    None,
}

/// How many copies run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scale {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
    /// Copies are added and removed to hold this.
    pub target_cpu_percent: Option<u32>,
    /// Or in steps.
    pub steps: Vec<ScaleStep>,
}

/// One rule of step scaling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScaleStep {
    /// CPU above (or, with `above = false`, below) this percentage ...
    pub cpu_percent: u32,
    /// True for above, false for below.
    pub above: bool,
    /// ... for this long ...
    pub for_ms: u64,
    /// ... adds so many copies (negative: removes).
    pub add: i32,
}

/// How a release replaces the previous one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rollout {
    /// The strategy with its parameters.
    pub strategy: Strategy,
    /// Who moves traffic on AWS.
    pub controller: Controller,
    /// How long the previous release is kept after all traffic has moved.
    pub bake_ms: u64,
    /// A rollout that takes longer has failed.
    pub deadline_ms: u64,
    /// Nothing new about a candidate for this long is a failure.
    pub progress_deadline_ms: u64,
    /// How long an inconclusive pause may last without a person.
    pub pause_limit_ms: u64,
    /// Releases that can be rolled back to.
    pub keep: u32,
    /// Commands run on the way.
    pub hooks: Vec<Hook>,
}

/// The strategies.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Strategy {
    /// New copies, all traffic, old copies away.
    AllAtOnce,
    /// Copies are replaced in batches.
    Rolling {
        /// Size of a batch.
        batch_percent: u8,
        /// Ready copies never fall below this.
        min_healthy_percent: u8,
    },
    /// All new copies beside the old ones, then all traffic at once.
    BlueGreen,
    /// A share first, after a pause everything; or a list of steps.
    Canary {
        /// The weights in order; the last is 100.
        steps: Vec<WeightStep>,
    },
    /// The same share again and again.
    Linear {
        /// Percent per step.
        percent: u8,
        /// Between steps.
        every_ms: u64,
    },
    /// The old copies stop before the new ones start.
    Recreate,
}

impl Strategy {
    /// The name as it is spelled in environment files.
    pub fn name(&self) -> &'static str {
        match self {
            Strategy::AllAtOnce => "all-at-once",
            Strategy::Rolling { .. } => "rolling",
            Strategy::BlueGreen => "blue-green",
            Strategy::Canary { .. } => "canary",
            Strategy::Linear { .. } => "linear",
            Strategy::Recreate => "recreate",
        }
    }
}

/// A weight on the way to all traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightStep {
    /// The candidate's share in percent, 1 to 100.
    pub weight: u8,
    /// How long to stay there.
    pub pause_ms: u64,
    /// Wait for a person.
    pub gate: bool,
}

/// Who moves traffic on AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// CodeDeploy.
    Codedeploy,
    /// ECS itself.
    Ecs,
}

/// A command on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hook {
    /// When.
    pub when: HookWhen,
    /// Program and arguments, run as a one-off task of the release's image; empty where an address is told.
    pub run: Vec<String>,
    /// An address that is told by POST; none where a program runs.
    #[serde(default)]
    pub url: Option<String>,
    /// It has failed after this long.
    pub timeout_ms: u64,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HookWhen {
    /// Before anything changes.
    Before,
    /// The candidate is ready and has no traffic.
    BeforeTraffic,
    /// After each weight.
    Step,
    /// After success.
    After,
    /// After the previous release serves again.
    Rollback,
}

/// How a release is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Analysis {
    /// Between looks.
    pub interval_ms: u64,
    /// Looks.
    pub count: u32,
    /// Bad looks that end the release.
    pub failure_limit: u32,
    /// Fewer requests than this say nothing.
    pub min_samples: u64,
    /// What is done when nothing is said.
    pub no_data: NoData,
    /// Compare with the previous release in the same window.
    pub baseline: bool,
    /// Share of failed requests, 0 to 1.
    pub error_rate_max: f64,
    /// 99th percentile.
    pub p99_ms_max: u64,
    /// Where the numbers come from.
    pub source: AnalysisSource,
    /// Good looks in a row that are needed to leave a weight.
    pub success_limit: u32,
    /// Looks in a row whose source could not be read, after which there is nothing to judge by.
    pub error_limit: u32,
    /// The path of requests that dbird makes itself where there are too few; none: it makes none.
    pub probe: Option<String>,
    /// The Prometheus server that is asked, where that is the source.
    pub prometheus: Option<String>,
    /// Which series of it belong to a release: a PromQL selector, with `{release}` for `r4`.
    pub selector: String,
    /// The path of the service's own metrics page, where that is the source.
    pub metrics: String,
}

impl Default for Analysis {
    /// What an environment has that says nothing of it.
    fn default() -> Self {
        Analysis {
            interval_ms: 30_000,
            count: 10,
            failure_limit: 1,
            min_samples: 50,
            no_data: NoData::Pause,
            baseline: true,
            error_rate_max: 0.01,
            p99_ms_max: 500,
            source: AnalysisSource::Auto,
            success_limit: 1,
            error_limit: 4,
            probe: None,
            prometheus: None,
            selector: "release=\"{release}\"".to_owned(),
            metrics: "/metrics".to_owned(),
        }
    }
}

/// What is done without enough requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NoData {
    /// Wait for a person.
    Pause,
    /// Go on.
    Pass,
    /// Undo.
    Fail,
}

/// Where the numbers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AnalysisSource {
    /// The cloud's best.
    Auto,
    /// The service's own metrics page.
    Metrics,
    /// A Prometheus server.
    Prometheus,
    /// CloudWatch.
    Cloudwatch,
    /// Azure Monitor.
    AzureMonitor,
}

/// A secret by name; its value is never in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretRef {
    /// The name in the cloud's secret store, or in `.dbird/secrets`. On AWS also an ARN of Secrets Manager or of a parameter,
    /// or `ssm:` and a parameter's name.
    pub name: String,
}

/// Traces and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Telemetry {
    /// OTLP over HTTP; none where empty.
    pub otlp: Option<String>,
    /// The path of the metrics page.
    pub metrics: String,
    /// Beside each task, or not.
    pub collector: Collector,
}

/// Where the collector runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Collector {
    /// Nowhere.
    None,
    /// Beside each task.
    Sidecar,
}

/// What is promised to users.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slo {
    /// Share of good requests, 0 to 1.
    pub availability: f64,
    /// 99th percentile.
    pub p99_ms: u64,
    /// Over this long.
    pub window_ms: u64,
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alerts {
    /// Addresses.
    pub notify: Vec<String>,
}

/// Settings for this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalSettings {
    /// The front door, `address:port`.
    pub listen: String,
    /// The test door, which reaches only a candidate.
    pub test_listen: String,
    /// How tasks run.
    pub runtime: Runtime,
}

/// How tasks run on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// As a process from the unpacked image.
    Process,
    /// In a container.
    Podman,
}

/// Settings for AWS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AwsSettings {
    /// The region.
    pub region: String,
    /// The only account, 12 digits, that credentials may belong to; none where any will do.
    pub account: Option<String>,
    /// `own`, or the name of a network that several environments share.
    pub network: String,
    /// The addresses of the network.
    pub cidr: String,
    /// How tasks reach the internet: `nat`, `nat-per-zone` or `public-ip`.
    pub egress: String,
    /// The services of AWS that tasks need are reached inside the network.
    pub vpc_endpoints: bool,
    /// The network's connections are logged.
    pub flow_logs: bool,
    /// How long logs are kept.
    pub log_days: u32,
    /// The file system is backed up every day.
    pub backup: bool,
    /// Commands can be run inside of tasks.
    pub exec: bool,
    /// The cluster measures each task.
    pub container_insights: bool,
    /// The bucket that the load balancer logs its requests to.
    pub access_logs: Option<String>,
    /// The image of the collector beside each task.
    pub collector_image: String,
    /// Who may reach the test listener.
    pub test_cidrs: Vec<String>,
    /// The ARN of the load balancer's certificate.
    pub certificate: Option<String>,
    /// The public name.
    pub domain: Option<String>,
    /// Where state is kept when it isn't `[state] url`.
    pub state: Option<String>,
    /// What the service itself may do, beside its own storage, secrets and logs.
    pub task_policy: Vec<Statement>,
    /// The ARN of a role to start tasks with; none for one that dbird makes.
    pub execution_role: Option<String>,
    /// What the execution role that dbird makes may do, instead of the usual; empty for the usual.
    pub execution_policy: Vec<Statement>,
    /// The image repository, `registry/name`; none for one that dbird makes.
    pub repository: Option<String>,
}

/// One statement that allows something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Actions such as `s3:GetObject`.
    pub actions: Vec<String>,
    /// ARNs that they are allowed on.
    pub resources: Vec<String>,
}

/// Settings for Azure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AzureSettings {
    /// The location.
    pub location: String,
    /// How the share is mounted: `smb` or `nfs`.
    pub share: String,
    /// The workload profile.
    pub profile: String,
    /// The public name.
    pub domain: Option<String>,
    /// Where state is kept when it isn't `[state] url`.
    pub state: Option<String>,
    /// The Container Apps environment has no public address.
    pub internal: bool,
    /// Plain HTTP is answered too, instead of being redirected.
    pub allow_insecure: bool,
    /// The storage account answers from the public network.
    pub public_network_access: bool,
    /// The storage account has a private endpoint in the environment's network.
    pub private_endpoint: bool,
}
