//! Deployment configurations: how traffic moves, step by step. It never moves any.

use serde_json::{Value, json};

use crate::aws::{Fault, number, stamp, text};

/// CodeDeploy's own, with their traffic.
const BUILT_IN: [(&str, Routing); 5] = [
    ("CodeDeployDefault.ECSAllAtOnce", Routing::AllAtOnce),
    ("CodeDeployDefault.ECSLinear10PercentEvery1Minutes", Routing::Linear { percent: 10, minutes: 1 }),
    ("CodeDeployDefault.ECSLinear10PercentEvery3Minutes", Routing::Linear { percent: 10, minutes: 3 }),
    ("CodeDeployDefault.ECSCanary10Percent5Minutes", Routing::Canary { percent: 10, minutes: 5 }),
    ("CodeDeployDefault.ECSCanary10Percent15Minutes", Routing::Canary { percent: 10, minutes: 15 }),
];
/// Two days.
const MINUTES_MAX: i64 = 2880;

/// How traffic moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routing {
    AllAtOnce,
    /// So much, then the rest.
    Canary {
        percent: u32,
        minutes: u64,
    },
    /// So much each time.
    Linear {
        percent: u32,
        minutes: u64,
    },
}

/// A configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created_ms: u64,
    pub(super) routing: Routing,
}

impl Routing {
    /// The replacement's weights, each with the minutes that it is held.
    pub(crate) fn steps(self) -> Vec<(u32, u64)> {
        match self {
            Routing::AllAtOnce => vec![(100, 0)],
            Routing::Canary { percent, minutes } => vec![(percent, minutes), (100, 0)],
            Routing::Linear { percent, minutes } => {
                let parts = (1..).map(|n| n * percent).take_while(|weight| *weight < 100);
                parts.map(|weight| (weight, minutes)).chain([(100, 0)]).collect()
            }
        }
    }

    fn read(input: &Value) -> Result<Self, Fault> {
        let wrong = |message: &str| Fault::new("InvalidTrafficRoutingConfigurationException", message);
        let part = |member: &str, percent: &str, interval: &str| {
            let part = input.get(member).ok_or_else(|| wrong(&format!("{member} is missing")))?;
            let percent = number(part, percent).filter(|n| (1..=99).contains(n));
            let percent = percent.ok_or_else(|| wrong("The percentage must be between 1 and 99"))?;
            let minutes = number(part, interval).filter(|n| (1..=MINUTES_MAX).contains(n));
            let minutes = minutes.ok_or_else(|| wrong("The interval must be between 1 and 2880 minutes"))?;
            Ok::<_, Fault>((percent.unsigned_abs() as u32, minutes.unsigned_abs()))
        };
        match text(input, "type") {
            Some("AllAtOnce") | None => Ok(Routing::AllAtOnce),
            Some("TimeBasedCanary") => {
                let (percent, minutes) = part("timeBasedCanary", "canaryPercentage", "canaryInterval")?;
                Ok(Routing::Canary { percent, minutes })
            }
            Some("TimeBasedLinear") => {
                let (percent, minutes) = part("timeBasedLinear", "linearPercentage", "linearInterval")?;
                Ok(Routing::Linear { percent, minutes })
            }
            Some(other) => Err(wrong(&format!("{other} is not a type of traffic routing"))),
        }
    }

    fn view(self) -> Value {
        match self {
            Routing::AllAtOnce => json!({ "type": "AllAtOnce" }),
            Routing::Canary { percent, minutes } => json!({
                "type": "TimeBasedCanary",
                "timeBasedCanary": { "canaryPercentage": percent, "canaryInterval": minutes }
            }),
            Routing::Linear { percent, minutes } => json!({
                "type": "TimeBasedLinear",
                "timeBasedLinear": { "linearPercentage": percent, "linearInterval": minutes }
            }),
        }
    }
}

impl Config {
    /// From the members of `CreateDeploymentConfig`.
    pub(super) fn read(input: &Value, now_ms: u64) -> Result<Self, Fault> {
        let name = text(input, "deploymentConfigName").unwrap_or_default();
        if name.is_empty() || name.len() > 100 || name.starts_with("CodeDeployDefault.") {
            let message = format!("The specified deployment configuration name is not valid: {name}");
            return Err(Fault::new("InvalidDeploymentConfigNameException", message));
        }
        if text(input, "computePlatform") != Some("ECS") {
            let message = "the simulator knows deployment configurations of the compute platform ECS only";
            return Err(Fault::new("InvalidComputePlatformException", message));
        }
        if input.get("minimumHealthyHosts").is_some_and(|v| !v.is_null()) {
            let message = "Minimum healthy hosts can't be set for the ECS compute platform";
            return Err(Fault::new("InvalidMinimumHealthyHostValueException", message));
        }
        let routing = Routing::read(input.get("trafficRoutingConfig").unwrap_or(&Value::Null))?;
        let id = uuid::Uuid::new_v4().to_string();
        Ok(Config { id, name: name.to_owned(), created_ms: now_ms, routing })
    }

    pub(super) fn built_in(now_ms: u64) -> impl Iterator<Item = Config> {
        BUILT_IN.into_iter().enumerate().map(move |(at, (name, routing))| {
            let id = format!("00000000-0000-0000-0000-{:012}", at + 1);
            Config { id, name: name.to_owned(), created_ms: now_ms, routing }
        })
    }

    pub(super) fn view(&self) -> Value {
        json!({
            "deploymentConfigId": self.id, "deploymentConfigName": self.name, "createTime": stamp(self.created_ms),
            "computePlatform": "ECS", "trafficRoutingConfig": self.routing.view()
        })
    }
}
