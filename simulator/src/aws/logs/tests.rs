//! Lines in and out by the API.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Logs, call};
use crate::aws::{
    Answer, Call, World,
    elb::tests::{made, world},
};

async fn api(world: &Arc<World>, operation: &str, input: Value) -> Answer {
    call(world, &Call { service: "logs".into(), operation: operation.into(), input }).await
}

fn lines(answer: &Value) -> Vec<&str> {
    answer["events"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_stream_is_read_by_tokens() {
    let world = world(1.0);
    made(&world, "AWS::Logs::LogGroup", json!({ "LogGroupName": "/bird", "RetentionInDays": 14 }));
    for n in 0..5u64 {
        Logs::append(&world, "/bird", "task/bird/1", 1000 + n, &format!("line {n}")).unwrap();
    }
    let get = |token: Option<String>| {
        let mut input =
            json!({ "logGroupName": "/bird", "logStreamName": "task/bird/1", "startFromHead": true, "limit": 2 });
        if let Some(token) = token {
            input["nextToken"] = json!(token);
        }
        api(&world, "GetLogEvents", input)
    };
    let mut token = None;
    for expected in [vec!["line 0", "line 1"], vec!["line 2", "line 3"], vec!["line 4"], vec![], vec!["late"]] {
        if expected == ["late"] {
            Logs::append(&world, "/bird", "task/bird/1", 2000, "late").unwrap();
        }
        let before = token.clone();
        let told = get(token).await.unwrap();
        assert_eq!(lines(&told), expected);
        token = Some(told["nextForwardToken"].as_str().unwrap().to_owned());
        assert_eq!(token == before, expected.is_empty(), "the same token again means that there is no more");
    }
    let last =
        api(&world, "GetLogEvents", json!({ "logGroupName": "/bird", "logStreamName": "task/bird/1", "limit": 2 }));
    let last = last.await.unwrap();
    assert_eq!(lines(&last), ["line 4", "late"]);
    let back = get(Some(last["nextBackwardToken"].as_str().unwrap().to_owned())).await.unwrap();
    assert_eq!(lines(&back), ["line 2", "line 3"]);
}

#[tokio::test]
async fn streams_are_searched_together() {
    let world = world(1.0);
    api(&world, "CreateLogGroup", json!({ "logGroupName": "g" })).await.unwrap();
    for (at_ms, stream, line) in [(10, "a", "one"), (30, "a", "ERROR three"), (20, "b", "ERROR two"), (40, "b", "four")]
    {
        Logs::append(&world, "g", stream, at_ms, line).unwrap();
    }
    for (more, expected) in [
        (json!({}), vec!["one", "ERROR two", "ERROR three", "four"]),
        (json!({ "startTime": 20, "endTime": 30 }), vec!["ERROR two", "ERROR three"]),
        (json!({ "filterPattern": "ERROR -two" }), vec!["ERROR three"]),
        (json!({ "logStreamNames": ["b"] }), vec!["ERROR two", "four"]),
        (json!({ "logStreamNamePrefix": "a" }), vec!["one", "ERROR three"]),
    ] {
        let mut input = json!({ "logGroupName": "g", "limit": 1 });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut all = Vec::new();
        loop {
            let told = api(&world, "FilterLogEvents", input.clone()).await.unwrap();
            all.extend(lines(&told).into_iter().map(str::to_owned));
            match told.get("nextToken") {
                Some(token) => input["nextToken"] = token.clone(),
                None => break,
            }
        }
        assert_eq!(all, expected, "{more}");
    }
}

#[tokio::test]
async fn what_the_api_refuses() {
    let world = world(1.0);
    api(&world, "CreateLogGroup", json!({ "logGroupName": "g", "tags": { "a": "b" } })).await.unwrap();
    api(&world, "CreateLogStream", json!({ "logGroupName": "g", "logStreamName": "s" })).await.unwrap();
    let event = |at_ms: u64| json!({ "timestamp": at_ms, "message": "m" });
    for (operation, input, code) in [
        ("CreateLogGroup", json!({ "logGroupName": "g" }), "ResourceAlreadyExistsException"),
        ("CreateLogGroup", json!({ "logGroupName": "a b" }), "InvalidParameterException"),
        ("CreateLogStream", json!({ "logGroupName": "g", "logStreamName": "s" }), "ResourceAlreadyExistsException"),
        ("GetLogEvents", json!({ "logGroupName": "x", "logStreamName": "s" }), "ResourceNotFoundException"),
        ("GetLogEvents", json!({ "logGroupName": "g", "logStreamName": "x" }), "ResourceNotFoundException"),
        (
            "GetLogEvents",
            json!({ "logGroupName": "g", "logStreamName": "s", "nextToken": "f" }),
            "InvalidParameterException",
        ),
        ("PutRetentionPolicy", json!({ "logGroupName": "g", "retentionInDays": 2 }), "InvalidParameterException"),
        (
            "PutLogEvents",
            json!({ "logGroupName": "g", "logStreamName": "s", "logEvents": [event(2), event(1)] }),
            "InvalidParameterException",
        ),
    ] {
        let got = api(&world, operation, input.clone()).await;
        assert_eq!(got.map_err(|fault| fault.code), Err(code.to_owned()), "{operation} {input}");
    }
    let put = json!({ "logGroupName": "g", "logStreamName": "s", "logEvents": [event(1), event(2)] });
    api(&world, "PutLogEvents", put).await.unwrap();
    let told = api(&world, "DescribeLogStreams", json!({ "logGroupName": "g" })).await.unwrap();
    assert_eq!(told["logStreams"][0]["lastEventTimestamp"], 2);
    let arn = world.arn("logs", "log-group:g");
    assert_eq!(
        api(&world, "ListTagsForResource", json!({ "resourceArn": arn })).await.unwrap()["tags"],
        json!({ "a": "b" })
    );
    assert!(Logs::append(&world, "x", "s", 1, "m").is_err() && world.logs.group_exists("g"));
}
