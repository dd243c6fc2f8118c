//! Metrics of real requests, and alarms that follow them in simulated time.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{MINUTE_MS, call, collect};
use crate::aws::{
    Answer, Call, World,
    elb::tests::{Backend, Setup, made, world},
};

async fn api(world: &Arc<World>, operation: &str, input: Value) -> Answer {
    call(world, &Call { service: "monitoring".into(), operation: operation.into(), input }).await
}

/// A minute long past by the account's clock, so that what is measured by itself is not in the way.
const BEGIN_MS: u64 = 1_000_000 * MINUTE_MS;

async fn put(world: &Arc<World>, name: &str, minute: u64, value: f64) {
    let seconds = (BEGIN_MS + minute * MINUTE_MS) / 1000;
    let datum = json!({ "MetricName": name, "Timestamp": seconds, "Value": value });
    api(world, "PutMetricData", json!({ "Namespace": "Bird", "MetricData": [datum] })).await.unwrap();
}

fn metric(id: &str, name: &str, stat: &str) -> Value {
    let metric = json!({ "Namespace": "Bird", "MetricName": name, "Dimensions": [] });
    json!({ "Id": id, "MetricStat": { "Metric": metric, "Period": 60, "Stat": stat }, "ReturnData": false })
}

async fn state(world: &Arc<World>, name: &str) -> String {
    let told = api(world, "DescribeAlarms", json!({ "AlarmNames": [name] })).await.unwrap();
    assert_eq!(
        Some(told["MetricAlarms"][0]["StateValue"].as_str().unwrap().to_owned()),
        world.cloudwatch.alarm_state(name)
    );
    world.cloudwatch.alarm_state(name).unwrap()
}

/// Over so many percent of at least so many requests, as a template has it.
fn rate() -> Value {
    json!({
        "AlarmName": "bird-blue-errors", "EvaluationPeriods": 2, "DatapointsToAlarm": "1", "Threshold": "1",
        "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching",
        "Metrics": [
            { "Id": "rate", "Expression": "IF(requests >= 20, 100 * FILL(errors, 0) / requests, 0)" },
            metric("requests", "Requests", "Sum"), metric("errors", "Errors", "Sum"),
        ],
    })
}

#[tokio::test]
async fn an_alarm_follows_its_metrics() {
    let world = world(1.0);
    api(&world, "PutMetricAlarm", rate()).await.unwrap();
    assert_eq!(state(&world, "bird-blue-errors").await, "INSUFFICIENT_DATA");
    // Each minute: requests, errors, and the state after it.
    let minutes = [
        (Some(100.0), None, "OK"),
        (Some(100.0), Some(1.0), "OK"),
        (Some(100.0), Some(2.0), "ALARM"),
        (Some(100.0), None, "ALARM"),
        (Some(100.0), None, "OK"),
        (Some(10.0), Some(10.0), "OK"),
        (None, None, "OK"),
        (Some(50.0), Some(50.0), "ALARM"),
    ];
    for (minute, (requests, errors, expected)) in (0..).zip(minutes) {
        for (name, value) in [("Requests", requests), ("Errors", errors)] {
            if let Some(value) = value {
                put(&world, name, minute, value).await;
            }
        }
        super::alarm::follow(&world, BEGIN_MS + (minute + 1) * MINUTE_MS);
        assert_eq!(state(&world, "bird-blue-errors").await, expected, "after minute {minute}");
    }
    let told = api(
        &world,
        "DescribeAlarmHistory",
        json!({ "AlarmName": "bird-blue-errors", "HistoryItemType": "StateUpdate" }),
    );
    let told = told.await.unwrap();
    assert_eq!(told["AlarmHistoryItems"].as_array().unwrap().len(), 4);
    assert_eq!(told["AlarmHistoryItems"][0]["HistorySummary"], "Alarm updated from OK to ALARM");
}

#[tokio::test]
async fn no_healthy_host_of_either_colour() {
    let world = world(1.0);
    let alarm = json!({
        "AlarmName": "none", "EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "breaching",
        "Metrics": [
            { "Id": "hosts", "Expression": "MAX([blue, green])" },
            metric("blue", "Blue", "Minimum"), metric("green", "Green", "Minimum"),
        ],
    });
    api(&world, "PutMetricAlarm", alarm).await.unwrap();
    super::alarm::follow(&world, BEGIN_MS);
    assert_eq!(state(&world, "none").await, "ALARM", "nothing was ever measured");
    for (minute, (blue, green, expected)) in (0..).zip([
        (Some(1.0), None, "OK"),
        (Some(0.0), Some(1.0), "OK"),
        (None, Some(0.0), "ALARM"),
        (None, Some(2.0), "OK"),
    ]) {
        for (name, value) in [("Blue", blue), ("Green", green)] {
            if let Some(value) = value {
                put(&world, name, minute, value).await;
            }
        }
        super::alarm::follow(&world, BEGIN_MS + (minute + 1) * MINUTE_MS);
        assert_eq!(state(&world, "none").await, expected, "after minute {minute}");
    }
    // Two more periods are looked back on before what is missing counts.
    for (minutes, expected) in [(5, "OK"), (6, "OK"), (7, "ALARM")] {
        super::alarm::follow(&world, BEGIN_MS + minutes * MINUTE_MS);
        assert_eq!(state(&world, "none").await, expected, "after {minutes} minutes");
    }
}

#[tokio::test]
async fn a_state_set_by_hand_holds_until_the_next_evaluation() {
    let world = world(1.0);
    api(&world, "PutMetricAlarm", rate()).await.unwrap();
    let set = json!({ "AlarmName": "bird-blue-errors", "StateValue": "ALARM", "StateReason": "a drill" });
    api(&world, "SetAlarmState", set.clone()).await.unwrap();
    assert_eq!(state(&world, "bird-blue-errors").await, "ALARM");
    super::alarm::follow(&world, BEGIN_MS);
    assert_eq!(state(&world, "bird-blue-errors").await, "OK");
    api(&world, "DeleteAlarms", json!({ "AlarmNames": ["bird-blue-errors"] })).await.unwrap();
    assert_eq!(api(&world, "SetAlarmState", set).await.unwrap_err().code, "ResourceNotFound");
    assert_eq!(world.cloudwatch.alarm_state("bird-blue-errors"), None);
}

#[tokio::test]
async fn what_the_api_refuses() {
    let world = world(1.0);
    let with = |name: &str, value: Value| {
        let mut alarm = rate();
        alarm[name] = value;
        alarm
    };
    for (what, alarm) in [
        ("no name", with("AlarmName", json!(""))),
        ("more to alarm than there are", with("DatapointsToAlarm", json!(3))),
        ("no periods", with("EvaluationPeriods", json!(0))),
        ("another comparison", with("ComparisonOperator", json!("LessThanLowerThreshold"))),
        ("another word for missing", with("TreatMissingData", json!("never"))),
        ("no threshold", with("Threshold", Value::Null)),
        (
            "two that are told",
            with("Metrics", json!([{ "Id": "a", "Expression": "1" }, { "Id": "b", "Expression": "2" }])),
        ),
        ("an unknown name", with("Metrics", json!([{ "Id": "a", "Expression": "b + 1" }]))),
        ("a name twice", with("Metrics", json!([metric("a", "A", "Sum"), metric("a", "A", "Sum")]))),
        ("an unknown statistic", with("Metrics", json!([metric("a", "A", "Median")]))),
        ("both ways", with("MetricName", json!("Requests"))),
    ] {
        assert!(api(&world, "PutMetricAlarm", alarm).await.is_err(), "{what}");
    }
    let queries = json!([{ "Id": "a", "Expression": "b" }, { "Id": "b", "Expression": "a" }]);
    let input = json!({ "MetricDataQueries": queries, "StartTime": 0, "EndTime": 60 });
    assert!(api(&world, "GetMetricData", input).await.is_err(), "a circle");
}

#[tokio::test]
async fn requests_become_metrics_of_their_minute() {
    let setup = Setup::new(1.0);
    let world = &setup.world;
    let blue = Backend::start("blue", Duration::from_millis(3)).await;
    setup.with(&setup.blue, "10.0.0.1", &blue).await;
    for path in ["/", "/", "/fails", "/"] {
        setup.get(path).await;
    }
    collect::minute(world, BEGIN_MS + MINUTE_MS);
    setup.get("/").await;
    collect::minute(world, BEGIN_MS + 2 * MINUTE_MS);
    collect::minute(world, BEGIN_MS + 3 * MINUTE_MS);
    let (balancer, group) =
        (setup.balancer.split_once(":loadbalancer/").unwrap().1, setup.blue.splitn(6, ':').nth(5).unwrap());
    let idle = setup.green.splitn(6, ':').nth(5).unwrap();
    let of = |id: &str, group: &str, name: &str, stat: &str| {
        let dimensions =
            json!([{ "Name": "TargetGroup", "Value": group }, { "Name": "LoadBalancer", "Value": balancer }]);
        let metric = json!({ "Namespace": "AWS/ApplicationELB", "MetricName": name, "Dimensions": dimensions });
        json!({ "Id": id, "MetricStat": { "Metric": metric, "Period": 60, "Stat": stat } })
    };
    let told = api(
        world,
        "GetMetricData",
        json!({
            "StartTime": BEGIN_MS / 1000, "EndTime": BEGIN_MS / 1000 + 180, "ScanBy": "TimestampAscending",
            "MetricDataQueries": [
                of("requests", group, "RequestCount", "Sum"), of("errors", group, "HTTPCode_Target_5XX_Count", "Sum"),
                of("healthy", group, "HealthyHostCount", "Minimum"), of("idle", idle, "HealthyHostCount", "Minimum"),
                of("slow", group, "TargetResponseTime", "PR(0.002:5)"), of("p50", group, "TargetResponseTime", "p50"),
                of("count", group, "TargetResponseTime", "SampleCount"),
            ],
        }),
    );
    let told = told.await.unwrap();
    let values = |at: usize| told["MetricDataResults"][at]["Values"].clone();
    assert_eq!(values(0), json!([4.0, 1.0, 0.0]));
    assert_eq!(values(1), json!([1.0]), "what never happened is not told");
    assert_eq!(values(2), json!([1.0, 1.0, 1.0]));
    assert_eq!(values(3), json!([]), "an idle colour is silent");
    assert_eq!(values(4), json!([100.0, 100.0]));
    assert!(values(5)[0].as_f64().unwrap() >= 0.003, "{told}");
    assert_eq!(values(6), json!([4.0, 1.0]));
    let listed = api(world, "ListMetrics", json!({ "Namespace": "AWS/ApplicationELB", "MetricName": "RequestCount" }));
    assert_eq!(listed.await.unwrap()["Metrics"].as_array().unwrap().len(), 2, "of the group and of the load balancer");
}

#[tokio::test]
async fn minutes_pass_by_themselves() {
    // A minute takes 20 ms.
    let world = world(3000.0);
    let alarm = json!({
        "AlarmName": "silent", "Namespace": "Bird", "MetricName": "None", "Statistic": "Sum", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "LessThanThreshold", "TreatMissingData": "breaching",
    });
    made(&world, "AWS::CloudWatch::Alarm", alarm);
    let begun = std::time::Instant::now();
    while state(&world, "silent").await != "ALARM" {
        assert!(begun.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
