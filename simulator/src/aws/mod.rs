//! One simulated account in one region: what its services share, and the address that answers for them all.

pub(crate) mod acm;
pub(crate) mod bag;
pub(crate) mod cloudformation;
pub(crate) mod cloudwatch;
pub(crate) mod codedeploy;
pub(crate) mod dispatch;
pub(crate) mod ecr;
pub(crate) mod ecs;
pub(crate) mod efs;
pub(crate) mod elb;
pub(crate) mod fault;
pub(crate) mod faults;
pub(crate) mod iam;
pub(crate) mod kms;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod quotas;
pub(crate) mod record;
pub(crate) mod s3;
pub(crate) mod scaling;
pub(crate) mod secrets;
pub(crate) mod server;
pub(crate) mod sns;
pub(crate) mod spans;
pub(crate) mod ssm;
pub(crate) mod sts;
pub(crate) mod tags;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::{path::PathBuf, sync::Arc};

use serde_json::Value;

pub(crate) use fault::Fault;
pub use faults::FAULTS;
pub use server::{Running, start, start_at};

use crate::Clock;

/// How an account is simulated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many times as fast its time passes; 1 for as fast as ours.
    pub speed: f64,
    /// The account, twelve digits.
    pub account: String,
    /// The region.
    pub region: String,
    /// Where tasks, images, shared folders and objects lie. Made if it is not there.
    pub folder: PathBuf,
    /// The data plane's shim, which every task runs under.
    pub shim: PathBuf,
    /// Added to a load balancer's ports below 1024, which only root may bind.
    pub port_offset: u16,
    /// Tasks run in podman instead of as processes of this machine.
    pub podman: bool,
    /// A file to which every call and its answer is appended, one JSON object a line.
    pub record: Option<PathBuf>,
    /// What goes wrong, by name.
    pub faults: Vec<String>,
    /// Where calls go that nothing here answers: a URL.
    pub upstream: Option<String>,
}

/// A call as every service sees it, whatever protocol it came by.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The signing name: `ecs`, `cloudformation`, `elasticloadbalancing`, `monitoring`, `logs`, ...
    pub(crate) service: String,
    /// `DescribeServices`.
    pub(crate) operation: String,
    /// Its members, spelled as in the service's model. Lists are arrays; what came by the query protocol has strings for numbers
    /// and booleans (`Value::as_str`): read them with [`text`], [`number`] and [`flag`].
    pub(crate) input: Value,
}

/// What a service answers: its members, spelled as in its model. A time is [`stamp`].
pub(crate) type Answer = Result<Value, Fault>;

/// A time in an answer; each protocol writes it its own way.
pub(crate) fn stamp(unix_ms: u64) -> Value {
    serde_json::json!({ "$timestamp_ms": unix_ms })
}

/// A member that is text.
pub(crate) fn text<'a>(input: &'a Value, name: &str) -> Option<&'a str> {
    input.get(name).and_then(Value::as_str)
}

/// A member that is a whole number, however it was sent.
pub(crate) fn number(input: &Value, name: &str) -> Option<i64> {
    let value = input.get(name)?;
    value.as_i64().or_else(|| value.as_f64().map(|f| f as i64)).or_else(|| value.as_str()?.parse().ok())
}

/// A member that is true or false, however it was sent.
pub(crate) fn flag(input: &Value, name: &str) -> Option<bool> {
    let value = input.get(name)?;
    value.as_bool().or_else(|| value.as_str()?.parse().ok())
}

/// A member that is a time, in Unix milliseconds, however it was sent: as seconds since 1970 or as ISO 8601.
pub(crate) fn time_ms(input: &Value, name: &str) -> Option<u64> {
    let value = input.get(name)?;
    match value.as_f64() {
        Some(seconds) => Some((seconds * 1000.0).round() as u64),
        None => value.as_str().and_then(|text| {
            text.parse::<f64>().ok().map(|s| (s * 1000.0) as u64).or_else(|| wire::time::parse_iso(text))
        }),
    }
}

/// The members of a list; none of them where it is absent.
pub(crate) fn list<'a>(input: &'a Value, name: &str) -> &'a [Value] {
    input.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// One account: every service with its state.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) faults: faults::Faults,
    pub(crate) spans: spans::Spans,
    pub(crate) record: record::Record,
    pub(crate) network: network::Network,
    pub(crate) iam: iam::Iam,
    pub(crate) efs: efs::Efs,
    pub(crate) elb: elb::Elb,
    pub(crate) ecr: ecr::Ecr,
    pub(crate) ecs: ecs::Ecs,
    pub(crate) codedeploy: codedeploy::CodeDeploy,
    pub(crate) scaling: scaling::Scaling,
    pub(crate) cloudwatch: cloudwatch::CloudWatch,
    pub(crate) logs: logs::Logs,
    pub(crate) secrets: secrets::Secrets,
    pub(crate) ssm: ssm::Ssm,
    pub(crate) acm: acm::Acm,
    pub(crate) quotas: quotas::Quotas,
    pub(crate) s3: s3::S3,
    /// Kinds that nobody calls: topics and keys.
    pub(crate) bags: bag::Bags,
    pub(crate) cloudformation: cloudformation::CloudFormation,
}

impl World {
    /// An ARN of this account: `arn:aws:ecs:us-east-1:123456789012:cluster/bird`.
    pub(crate) fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.settings.region, self.settings.account)
    }

    /// A new account with nothing in it.
    ///
    /// # Errors
    /// If the record's file can't be opened.
    pub(crate) fn new(settings: Settings) -> std::io::Result<Arc<Self>> {
        let clock = Clock::start(settings.speed);
        Ok(Arc::new(World {
            record: record::Record::open(settings.record.as_deref())?,
            faults: faults::Faults::named(&settings.faults),
            spans: spans::Spans::default(),
            network: network::Network::default(),
            iam: iam::Iam::default(),
            efs: efs::Efs::default(),
            elb: elb::Elb::default(),
            ecr: ecr::Ecr::default(),
            ecs: ecs::Ecs::default(),
            codedeploy: codedeploy::CodeDeploy::default(),
            scaling: scaling::Scaling::default(),
            cloudwatch: cloudwatch::CloudWatch::default(),
            logs: logs::Logs::default(),
            secrets: secrets::Secrets::default(),
            ssm: ssm::Ssm::default(),
            acm: acm::Acm::default(),
            quotas: quotas::Quotas::default(),
            s3: s3::S3::default(),
            bags: bag::Bags::default(),
            cloudformation: cloudformation::CloudFormation::default(),
            clock,
            settings,
        }))
    }

    /// Ends whatever runs in the account.
    pub(crate) async fn stop(self: &Arc<Self>) {
        ecs::Ecs::end(self).await;
    }

    /// What a service tells of itself to tests, by name (`/_simulator/NAME`).
    pub(crate) fn report(self: &Arc<Self>, name: &str) -> Option<Value> {
        match name {
            "efs" => Some(self.efs.report()),
            "elb" => Some(self.elb.report()),
            "ecr" => Some(ecr::Ecr::expire(self)),
            _ => None,
        }
    }
}
