//! Scaling policies: how many tasks there should be, from how busy they are. Pure; when it is asked is decided elsewhere.

use serde_json::{Value, json};

use super::{DIMENSION, invalid};
use crate::aws::{Fault, flag, list, number, stamp, text};

/// AWS's own, for a policy that gives none, in seconds.
const COOLDOWN_S: u64 = 300;
/// Minutes in a row above the target before tasks are added, as the alarms that AWS makes have it.
const HIGH_MINUTES: u32 = 3;
/// And below nine tenths of it before tasks go.
const LOW_MINUTES: u32 = 15;

/// A policy.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) arn: String,
    created_ms: u64,
    /// The configuration's member, and the configuration as it was given.
    given: (&'static str, Value),
    pub(super) rule: Rule,
    /// When it last changed something.
    pub(super) acted_ms: Option<u64>,
    /// Minutes in a row above the target, and below.
    high: u32,
    low: u32,
}

/// How a policy decides.
#[derive(Debug, Clone)]
pub(super) enum Rule {
    Tracking { percent: f64, out_ms: u64, in_ms: u64, only_out: bool },
    Steps { kind: Adjustment, steps: Vec<Step>, cooldown_ms: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adjustment {
    Change,
    Exact,
    Percent,
}

/// What is done where the measure is so far beyond the alarm's threshold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    from: f64,
    to: f64,
    by: i64,
}

fn fraction(input: &Value, name: &str) -> Option<f64> {
    let value = input.get(name)?;
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn seconds(input: &Value, name: &str) -> u64 {
    number(input, name).and_then(|n| u64::try_from(n).ok()).unwrap_or(COOLDOWN_S) * 1000
}

impl Policy {
    pub(super) fn read(input: &Value, arn: String, now_ms: u64) -> Result<Self, Fault> {
        let (member, rule) = match text(input, "PolicyType").unwrap_or("StepScaling") {
            "TargetTrackingScaling" => ("TargetTrackingScalingPolicyConfiguration", Rule::tracking as fn(&Value) -> _),
            "StepScaling" => ("StepScalingPolicyConfiguration", Rule::steps as fn(&Value) -> _),
            other => return Err(invalid(format!("the simulator knows no scaling policies of the type {other}"))),
        };
        let given =
            input.get(member).filter(|v| !v.is_null()).ok_or_else(|| invalid(format!("{member} is required")))?;
        let rule = rule(given)?;
        Ok(Policy { arn, created_ms: now_ms, given: (member, given.clone()), rule, acted_ms: None, high: 0, low: 0 })
    }

    pub(super) fn view(&self, resource: &str, name: &str) -> Value {
        let kind = if matches!(self.rule, Rule::Steps { .. }) { "StepScaling" } else { "TargetTrackingScaling" };
        let mut view = json!({
            "PolicyARN": self.arn, "PolicyName": name, "ServiceNamespace": "ecs", "ResourceId": resource,
            "ScalableDimension": DIMENSION, "PolicyType": kind, "CreationTime": stamp(self.created_ms), "Alarms": []
        });
        view[self.given.0] = self.given.1.clone();
        view
    }

    /// How many tasks this policy wants, from how busy they were in this minute and from the alarm that fires it, told as how
    /// far beyond its threshold the measure is. None where it wants no change.
    pub(super) fn wants(
        &mut self,
        desired: u32,
        cpu_percent: Option<f64>,
        beyond: Option<f64>,
        now_ms: u64,
    ) -> Option<u32> {
        let rests = |cooldown_ms: u64, acted_ms: Option<u64>| acted_ms.is_some_and(|at| now_ms < at + cooldown_ms);
        match &self.rule {
            Rule::Tracking { percent, out_ms, in_ms, only_out } => {
                let busy = cpu_percent?;
                self.high = if busy > *percent { self.high + 1 } else { 0 };
                self.low = if busy < percent * 0.9 { self.low + 1 } else { 0 };
                let wanted = (f64::from(desired) * busy / percent).ceil().max(1.0) as u32;
                let more = self.high >= HIGH_MINUTES && wanted > desired && !rests(*out_ms, self.acted_ms);
                let fewer = self.low >= LOW_MINUTES && wanted < desired && !only_out && !rests(*in_ms, self.acted_ms);
                (more || fewer).then_some(wanted)
            }
            Rule::Steps { kind, steps, cooldown_ms } => {
                let beyond = beyond.filter(|_| !rests(*cooldown_ms, self.acted_ms))?;
                let step = steps.iter().find(|step| (step.from..step.to).contains(&beyond))?;
                let now = i64::from(desired);
                let wanted = match kind {
                    Adjustment::Change => now + step.by,
                    Adjustment::Exact => step.by,
                    // At least one task more or less, as AWS rounds away from zero below one.
                    Adjustment::Percent => match now * step.by / 100 {
                        0 => now + step.by.signum(),
                        change => now + change,
                    },
                };
                Some(u32::try_from(wanted.max(0)).unwrap_or(u32::MAX)).filter(|wanted| *wanted != desired)
            }
        }
    }

    /// It changed something.
    pub(super) fn acted(&mut self, now_ms: u64) {
        (self.acted_ms, self.high, self.low) = (Some(now_ms), 0, 0);
    }
}

impl Rule {
    fn tracking(given: &Value) -> Result<Self, Fault> {
        let percent = fraction(given, "TargetValue").filter(|v| *v > 0.0);
        let percent = percent.ok_or_else(|| invalid("TargetValue must be greater than 0"))?;
        let metric = given.get("PredefinedMetricSpecification").and_then(|m| text(m, "PredefinedMetricType"));
        if metric != Some("ECSServiceAverageCPUUtilization") {
            return Err(invalid("the simulator tracks ECSServiceAverageCPUUtilization only"));
        }
        let (out_ms, in_ms) = (seconds(given, "ScaleOutCooldown"), seconds(given, "ScaleInCooldown"));
        Ok(Rule::Tracking { percent, out_ms, in_ms, only_out: flag(given, "DisableScaleIn") == Some(true) })
    }

    fn steps(given: &Value) -> Result<Self, Fault> {
        let kind = match text(given, "AdjustmentType") {
            Some("ChangeInCapacity") => Adjustment::Change,
            Some("ExactCapacity") => Adjustment::Exact,
            Some("PercentChangeInCapacity") => Adjustment::Percent,
            _ => return Err(invalid("AdjustmentType is required")),
        };
        let step = |step: &Value| {
            let by = number(step, "ScalingAdjustment")
                .ok_or_else(|| invalid("A step adjustment has no ScalingAdjustment"))?;
            let from = fraction(step, "MetricIntervalLowerBound").unwrap_or(f64::NEG_INFINITY);
            let to = fraction(step, "MetricIntervalUpperBound").unwrap_or(f64::INFINITY);
            if from == f64::NEG_INFINITY && to == f64::INFINITY {
                return Err(invalid("A step adjustment needs a lower bound or an upper bound"));
            }
            Ok(Step { from, to, by })
        };
        let steps: Vec<Step> = list(given, "StepAdjustments").iter().map(step).collect::<Result<_, _>>()?;
        if steps.is_empty() {
            return Err(invalid("StepAdjustments is required"));
        }
        Ok(Rule::Steps { kind, steps, cooldown_ms: seconds(given, "Cooldown") })
    }
}
