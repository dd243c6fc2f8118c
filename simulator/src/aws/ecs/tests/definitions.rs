//! What may be registered, and what is refused in which words.

use serde_json::{Value, json};

use super::ground::Ground;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fargate_can_not_run_is_refused() {
    let ground = Ground::new(&[]).await;
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 9] = [
        ("No Fargate configuration exists for given values: 256 CPU, 4096 memory", |d| d["memory"] = json!("4096")),
        ("only supports network mode", |d| d["networkMode"] = json!("bridge")),
        ("Container list cannot be empty", |d| d["containerDefinitions"] = json!([])),
        ("at least one essential", |d| d["containerDefinitions"][0]["essential"] = json!(false)),
        ("must match", |d| d["containerDefinitions"][0]["portMappings"][0]["hostPort"] = json!(80)),
        ("Unknown volume 'x'", |d| {
            d["containerDefinitions"][0]["mountPoints"] = json!([{ "sourceVolume": "x", "containerPath": "/x" }])
        }),
        ("between 0 and 120", |d| d["containerDefinitions"][0]["stopTimeout"] = json!(121)),
        ("awslogs-stream-prefix", |d| {
            d["containerDefinitions"][0]["logConfiguration"]["options"]["awslogs-stream-prefix"] = json!("")
        }),
        ("such as 'PORT'", |d| d["containerDefinitions"][0]["secrets"] = json!([{ "name": "PORT", "valueFrom": "x" }])),
    ];
    for (says, change) in cases {
        let mut definition = ground.definition(&[]);
        change(&mut definition);
        let fault = ground.call("RegisterTaskDefinition", definition).await.unwrap_err();
        assert_eq!(fault.code, "ClientException");
        assert!(fault.message.contains(says), "{says}: {}", fault.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_are_counted_and_found() {
    let ground = Ground::new(&[]).await;
    let (one, two) = (ground.define(&[]).await, ground.define(&[]).await);
    assert!(one.ends_with("task-definition/bird:1") && two.ends_with("task-definition/bird:2"));
    let found = ground.ok("DescribeTaskDefinition", json!({ "taskDefinition": "bird" })).await;
    assert_eq!(found["taskDefinition"]["taskDefinitionArn"], json!(two));
    ground.ok("DeregisterTaskDefinition", json!({ "taskDefinition": "bird:2" })).await;
    let found = ground.ok("DescribeTaskDefinition", json!({ "taskDefinition": "bird" })).await;
    assert_eq!(found["taskDefinition"]["taskDefinitionArn"], json!(one));
    let found = ground.ok("ListTaskDefinitions", json!({ "familyPrefix": "bird", "status": "INACTIVE" })).await;
    assert_eq!(found["taskDefinitionArns"], json!([two]));
}
