//! Targets and policies over a service that only remembers how many tasks it is to have.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Scaling, answer, fleet::Fleet, policy::Policy};
use crate::{
    Clock,
    aws::{Answer, Call},
};

const BIRD: &str = "service/c/bird";

struct Fake {
    clock: Clock,
    own: Scaling,
    state: Mutex<(u32, Option<f64>, BTreeMap<String, f64>)>,
}

impl Fleet for Fake {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn own(&self) -> &Scaling {
        &self.own
    }

    fn account(&self) -> String {
        "123456789012".to_owned()
    }

    fn arn(&self, resource: &str) -> String {
        format!("arn:aws:x:r:1:{resource}")
    }

    fn desired(self: &Arc<Self>, resource: &str) -> Option<u32> {
        (resource == BIRD).then(|| self.state.lock().unwrap().0)
    }

    fn set_desired(self: &Arc<Self>, _: &str, desired: u32) {
        self.state.lock().unwrap().0 = desired;
    }

    fn cpu_percent(self: &Arc<Self>, _: &str) -> Option<f64> {
        self.state.lock().unwrap().1
    }

    async fn ringing(self: &Arc<Self>, policy: &str) -> Option<(String, f64)> {
        self.state.lock().unwrap().2.get(policy).map(|threshold| ("busy".to_owned(), *threshold))
    }
}

fn fake(desired: u32, cpu_percent: Option<f64>) -> Arc<Fake> {
    let state = Mutex::new((desired, cpu_percent, BTreeMap::new()));
    Arc::new(Fake { clock: Clock::start(5000.0), own: Scaling::default(), state })
}

fn ask(fake: &Arc<Fake>, operation: &str, change: Value) -> Answer {
    let mut input =
        json!({ "ServiceNamespace": "ecs", "ResourceId": BIRD, "ScalableDimension": "ecs:service:DesiredCount" });
    for (name, value) in change.as_object().unwrap() {
        input[name] = value.clone();
    }
    answer(fake, &Call { service: "application-autoscaling".to_owned(), operation: operation.to_owned(), input })
}

fn tracking(percent: u32) -> Value {
    json!({ "PolicyName": "cpu", "PolicyType": "TargetTrackingScaling", "TargetTrackingScalingPolicyConfiguration": {
        "TargetValue": percent, "PredefinedMetricSpecification": { "PredefinedMetricType": "ECSServiceAverageCPUUtilization" } } })
}

fn steps(kind: &str, list: Value) -> Value {
    json!({ "PolicyName": "steps", "PolicyType": "StepScaling", "StepScalingPolicyConfiguration": {
        "AdjustmentType": kind, "Cooldown": 60, "StepAdjustments": list } })
}

async fn until(fake: &Arc<Fake>, wanted: u32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while fake.state.lock().unwrap().0 != wanted {
        assert!(Instant::now() < deadline, "{:?} and not {wanted}", fake.state.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until the service was looked at for so many simulated minutes more.
async fn minutes(fake: &Arc<Fake>, count: u64) {
    let wanted = fake.clock.now_ms() + count * 60_000;
    fake.clock.sleep_until_ms(wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_follow_how_busy_they_are() {
    let fake = fake(2, Some(90.0));
    ask(&fake, "RegisterScalableTarget", json!({ "MinCapacity": 1, "MaxCapacity": 5 })).unwrap();
    ask(&fake, "PutScalingPolicy", tracking(50)).unwrap();
    until(&fake, 4).await;
    until(&fake, 5).await;
    minutes(&fake, 10).await;
    assert_eq!(fake.state.lock().unwrap().0, 5, "never more than its maximum");
    fake.state.lock().unwrap().1 = Some(1.0);
    until(&fake, 1).await;
    let activities = ask(&fake, "DescribeScalingActivities", json!({})).unwrap();
    let told: Vec<_> =
        activities["ScalingActivities"].as_array().unwrap().iter().map(|a| a["Description"].clone()).collect();
    assert_eq!(told, ["Setting desired count to 1.", "Setting desired count to 5.", "Setting desired count to 4."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suspended_rests() {
    let fake = fake(2, Some(90.0));
    let suspended =
        json!({ "MinCapacity": 1, "MaxCapacity": 5, "SuspendedState": { "DynamicScalingOutSuspended": true } });
    ask(&fake, "RegisterScalableTarget", suspended).unwrap();
    ask(&fake, "PutScalingPolicy", tracking(50)).unwrap();
    minutes(&fake, 20).await;
    assert_eq!(fake.state.lock().unwrap().0, 2);
    // Only what is named changes.
    ask(&fake, "RegisterScalableTarget", json!({ "SuspendedState": { "DynamicScalingOutSuspended": false } })).unwrap();
    until(&fake, 4).await;
    let targets = ask(&fake, "DescribeScalableTargets", json!({ "ResourceIds": [BIRD] })).unwrap();
    let target = &targets["ScalableTargets"][0];
    assert_eq!((&target["MinCapacity"], &target["MaxCapacity"]), (&json!(1), &json!(5)));
    ask(&fake, "DeregisterScalableTarget", json!({})).unwrap();
    let again = ask(&fake, "DeregisterScalableTarget", json!({})).unwrap_err();
    assert_eq!(again.code, "ObjectNotFoundException");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_fires_its_policy() {
    let fake = fake(2, Some(95.0));
    ask(&fake, "RegisterScalableTarget", json!({ "MinCapacity": 1, "MaxCapacity": 9 })).unwrap();
    let list = json!([{ "MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 10, "ScalingAdjustment": 1 },
        { "MetricIntervalLowerBound": 10, "ScalingAdjustment": 3 }]);
    let put = ask(&fake, "PutScalingPolicy", steps("ChangeInCapacity", list)).unwrap();
    minutes(&fake, 3).await;
    assert_eq!(fake.state.lock().unwrap().0, 2, "no alarm, no change");
    fake.state.lock().unwrap().2.insert(put["PolicyARN"].as_str().unwrap().to_owned(), 70.0);
    until(&fake, 5).await;
}

#[test]
fn policies_want_what_they_say() {
    let one = json!([{ "MetricIntervalLowerBound": 0, "ScalingAdjustment": 50 }]);
    let less = json!([{ "MetricIntervalUpperBound": 0, "ScalingAdjustment": -1 }]);
    let cases = [
        (steps("PercentChangeInCapacity", one.clone()), 4, Some(5.0), Some(6)),
        (steps("PercentChangeInCapacity", one.clone()), 1, Some(5.0), Some(2)),
        (steps("ExactCapacity", one.clone()), 4, Some(5.0), Some(50)),
        (steps("ChangeInCapacity", less.clone()), 4, Some(-5.0), Some(3)),
        (steps("ChangeInCapacity", less), 4, Some(5.0), None),
        (steps("ChangeInCapacity", one), 4, None, None),
    ];
    for (input, desired, beyond, wanted) in cases {
        let mut policy = Policy::read(&input, String::new(), 0).unwrap();
        assert_eq!(policy.wants(desired, None, beyond, 0), wanted, "{input}");
        policy.acted(0);
        assert_eq!(policy.wants(desired, None, beyond, 59_000), None, "it rests");
        assert_eq!(policy.wants(desired, None, beyond, 60_000), wanted);
    }
}

#[tokio::test]
async fn what_can_not_be_is_refused() {
    let fake = fake(1, None);
    let limits = json!({ "MinCapacity": 1, "MaxCapacity": 2 });
    let with = |more: Value| {
        let mut all = limits.clone();
        more.as_object().unwrap().iter().for_each(|(n, v)| all[n] = v.clone());
        all
    };
    let cases = [
        (with(json!({ "ResourceId": "service/c/nobody" })), "doesn't exist"),
        (with(json!({ "ResourceId": "bird" })), "service/CLUSTER/NAME"),
        (with(json!({ "ServiceNamespace": "dynamodb" })), "ecs only"),
        (with(json!({ "MinCapacity": 3 })), "less than minimum"),
        (json!({ "MinCapacity": 3 }), "MaxCapacity is required"),
    ];
    for (input, wanted) in cases {
        let fault = ask(&fake, "RegisterScalableTarget", input).unwrap_err();
        assert!(fault.code == "ValidationException" && fault.message.contains(wanted), "{wanted}: {fault:?}");
    }
    assert_eq!(ask(&fake, "PutScalingPolicy", tracking(50)).unwrap_err().code, "ObjectNotFoundException");
    ask(&fake, "RegisterScalableTarget", limits).unwrap();
    for input in [
        tracking(0),
        steps("ChangeInCapacity", json!([])),
        steps("Never", json!([{ "ScalingAdjustment": 1 }])),
        json!({ "PolicyName": "x", "PolicyType": "Predictive" }),
    ] {
        assert_eq!(ask(&fake, "PutScalingPolicy", input).unwrap_err().code, "ValidationException");
    }
}
