//! Requests to AWS: one client for each service, made when it is first needed, all with the same time-outs. Each request is
//! counted, is one that `permissions` lists, and is sent a second time only where that can't make a thing twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use dbird_core::provider::{ErrorKind, Result};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep_until};

use crate::config::{Credentials, Endpoint};
use crate::error::{Adding, fault, no_credentials};
use crate::permissions::{self, Again};
use crate::shapes::Shapes;

/// A connection that is not there by then won't come.
const CONNECT: Duration = Duration::from_secs(4);
/// One answer may take this long ...
const ATTEMPT: Duration = Duration::from_secs(20);
/// ... and all attempts together this long.
const ALL_ATTEMPTS: Duration = Duration::from_secs(60);
/// How often a request is sent at most, where that is safe.
const ATTEMPTS: u32 = 4;
/// The same API is not asked for news more often than this.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// How often one API was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The service, as its SDK calls it: `CloudFormation`.
    pub service: String,
    /// The operation: `DescribeStacks`.
    pub operation: String,
    /// Requests, repeated ones included.
    pub requests: u64,
    /// Of these, those that asked once more what was asked before, to see whether something moved.
    pub polls: u64,
}

/// One client for each service.
pub(crate) struct Clients {
    region: String,
    endpoint: Option<Endpoint>,
    sdk: OnceCell<SdkConfig>,
    watch: Watch,
    shapes: Shapes,
    turns: Mutex<HashMap<&'static str, Instant>>,
    acm: OnceLock<aws_sdk_acm::Client>,
    autoscaling: OnceLock<aws_sdk_applicationautoscaling::Client>,
    cloudformation: OnceLock<aws_sdk_cloudformation::Client>,
    cloudwatch: OnceLock<aws_sdk_cloudwatch::Client>,
    codedeploy: OnceLock<aws_sdk_codedeploy::Client>,
    ecr: OnceLock<aws_sdk_ecr::Client>,
    ecs: OnceLock<aws_sdk_ecs::Client>,
    efs: OnceLock<aws_sdk_efs::Client>,
    elb: OnceLock<aws_sdk_elasticloadbalancingv2::Client>,
    iam: OnceLock<aws_sdk_iam::Client>,
    logs: OnceLock<aws_sdk_cloudwatchlogs::Client>,
    quotas: OnceLock<aws_sdk_servicequotas::Client>,
    secrets: OnceLock<aws_sdk_secretsmanager::Client>,
    ssm: OnceLock<aws_sdk_ssm::Client>,
    sts: OnceLock<aws_sdk_sts::Client>,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").field("region", &self.region).finish_non_exhaustive()
    }
}

/// The client of a service, made when it is first asked for.
macro_rules! clients {
    ($($name:ident: $sdk:ident;)+) => {
        impl Clients {
            $(
                pub(crate) async fn $name(&self) -> &$sdk::Client {
                    let sdk = self.sdk().await;
                    self.$name.get_or_init(|| {
                        let config = $sdk::config::Builder::from(sdk).interceptor(self.watch.clone());
                        let config = config.interceptor(self.shapes.clone()).build();
                        $sdk::Client::from_conf(config)
                    })
                }
            )+
        }
    };
}

clients! {
    acm: aws_sdk_acm;
    autoscaling: aws_sdk_applicationautoscaling;
    cloudformation: aws_sdk_cloudformation;
    cloudwatch: aws_sdk_cloudwatch;
    codedeploy: aws_sdk_codedeploy;
    ecr: aws_sdk_ecr;
    ecs: aws_sdk_ecs;
    efs: aws_sdk_efs;
    elb: aws_sdk_elasticloadbalancingv2;
    iam: aws_sdk_iam;
    logs: aws_sdk_cloudwatchlogs;
    quotas: aws_sdk_servicequotas;
    secrets: aws_sdk_secretsmanager;
    ssm: aws_sdk_ssm;
    sts: aws_sdk_sts;
}

impl Clients {
    /// Clients for a region; empty: where the process environment or the profile says. Nothing is read or called yet.
    pub(crate) fn new(region: &str, endpoint: Option<Endpoint>, shapes: Shapes) -> Self {
        Clients {
            region: region.to_owned(),
            endpoint,
            sdk: OnceCell::new(),
            watch: Watch::default(),
            shapes,
            turns: Mutex::default(),
            acm: OnceLock::new(),
            autoscaling: OnceLock::new(),
            cloudformation: OnceLock::new(),
            cloudwatch: OnceLock::new(),
            codedeploy: OnceLock::new(),
            ecr: OnceLock::new(),
            ecs: OnceLock::new(),
            efs: OnceLock::new(),
            elb: OnceLock::new(),
            iam: OnceLock::new(),
            logs: OnceLock::new(),
            quotas: OnceLock::new(),
            secrets: OnceLock::new(),
            ssm: OnceLock::new(),
            sts: OnceLock::new(),
        }
    }

    async fn sdk(&self) -> &SdkConfig {
        self.sdk
            .get_or_init(|| async {
                let timeouts = TimeoutConfig::builder()
                    .connect_timeout(CONNECT)
                    .operation_attempt_timeout(ATTEMPT)
                    .operation_timeout(ALL_ATTEMPTS)
                    .build();
                let loader = aws_config::defaults(BehaviorVersion::latest())
                    .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
                    .timeout_config(timeouts);
                let loader = match self.region.is_empty() {
                    true => loader,
                    false => loader.region(Region::new(self.region.clone())),
                };
                let loader = match &self.endpoint {
                    None => loader,
                    Some(Endpoint { url, key, secret }) => loader
                        .endpoint_url(url)
                        .credentials_provider(aws_credential_types::Credentials::new(key, secret, None, None, "dbird")),
                };
                loader.load().await
            })
            .await
    }

    /// The region that requests go to.
    pub(crate) async fn region(&self) -> Result<String> {
        match self.sdk().await.region() {
            Some(region) => Ok(region.to_string()),
            None => Err(fault(ErrorKind::Invalid, "find the region", "", "no region is given")
                .hint("set `region` in [cloud.aws], or AWS_REGION")),
        }
    }

    /// What requests are signed with.
    pub(crate) async fn credentials(&self) -> Result<Credentials> {
        let sdk = self.sdk().await;
        let missing = || {
            fault(ErrorKind::Denied, "find credentials", "", "there are no credentials for AWS").hint(
                "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `dbird doctor` shows what is found",
            )
        };
        let provider = sdk.credentials_provider().ok_or_else(missing)?;
        let found = provider
            .provide_credentials()
            .await
            .map_err(|error| no_credentials(&error, "find credentials", String::new()))?;
        let ends = found.expiry().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Credentials {
            key: found.access_key_id().to_owned(),
            secret: found.secret_access_key().to_owned(),
            session: found.session_token().map(str::to_owned),
            ends_unix_ms: ends.and_then(|since| u64::try_from(since.as_millis()).ok()),
            region: self.region().await?,
        })
    }

    /// Waits for the turn of an API that is asked for news, as `ECS:DescribeServices`: never within a second of another call
    /// of it, whatever that was for.
    pub(crate) async fn turn(&self, api: &'static str) {
        loop {
            sleep_until(self.turn_at(api)).await;
            // Taken only now: who gives up waiting takes nobody's turn.
            let now = Instant::now();
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.get(api).is_none_or(|taken| *taken + POLL_EVERY <= now) {
                turns.insert(api, now);
                break;
            }
        }
        self.watch.polled(api);
    }

    /// Waits for the turn of one of two APIs that tell the same, whichever comes first: true for the second.
    pub(crate) async fn either_turn(&self, first: &'static str, second: &'static str) -> bool {
        let takes_second = self.turn_at(second) < self.turn_at(first);
        self.turn(if takes_second { second } else { first }).await;
        takes_second
    }

    /// True where an API can be asked for news without waiting.
    pub(crate) fn is_due(&self, api: &'static str) -> bool {
        self.turn_at(api) <= Instant::now()
    }

    /// When an API may be asked for news.
    fn turn_at(&self, api: &'static str) -> Instant {
        let taken = self.turns.lock().unwrap_or_else(PoisonError::into_inner).get(api).copied();
        let called = self.watch.called.lock().unwrap_or_else(PoisonError::into_inner).get(api).copied();
        // A turn that was never taken is older than one that was.
        let free = taken.max(called).map(|last| last + POLL_EVERY);
        free.map_or_else(Instant::now, |free| free.max(Instant::now()))
    }

    /// How often each API was called so far.
    pub(crate) fn counted(&self) -> Vec<Counted> {
        let counts = self.watch.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|((service, operation), (requests, polls))| Counted {
                service: service.clone(),
                operation: operation.clone(),
                requests: *requests,
                polls: *polls,
            })
            .collect()
    }
}

type Counts = BTreeMap<(String, String), (u64, u64)>;

/// Sees every request.
#[derive(Debug, Clone, Default)]
struct Watch {
    counts: Arc<Mutex<Counts>>,
    /// When each API was last called.
    called: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Watch {
    fn polled(&self, api: &str) {
        if let Some((service, operation)) = api.split_once(':') {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.entry((service.to_owned(), operation.to_owned())).or_default().1 += 1;
        }
    }
}

impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "dbird"
    }

    fn read_before_serialization(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let Some(metadata) = cfg.load::<Metadata>() else { return Ok(()) };
        match permissions::operation(metadata.service(), metadata.name()) {
            None => Err(format!(
                "{} {} is not among the operations that dbird asks permission for",
                metadata.service(),
                metadata.name()
            )
            .into()),
            Some(operation) => {
                if operation.again == Again::Never {
                    cfg.interceptor_state().store_put(RetryConfig::disabled());
                }
                Ok(())
            }
        }
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        if let Some(metadata) = cfg.load::<Metadata>() {
            let api = format!("{}:{}", metadata.service(), metadata.name());
            self.called.lock().unwrap_or_else(PoisonError::into_inner).insert(api, Instant::now());
            let key = (metadata.service().to_owned(), metadata.name().to_owned());
            self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().0 += 1;
        }
        Ok(())
    }
}
