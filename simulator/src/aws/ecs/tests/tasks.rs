//! Single tasks: how they run and end, and what is said where they can't.

use serde_json::{Value, json};

use super::ground::{Ground, call, eventually, make};

impl Ground {
    async fn run(&self, definition: &str, command: &[&str]) -> Value {
        let overrides = if command.is_empty() {
            json!({})
        } else {
            json!({ "containerOverrides": [{ "name": "bird", "command": command }] })
        };
        let input = json!({
            "cluster": "bird", "taskDefinition": definition, "networkConfiguration": self.network(), "overrides": overrides,
        });
        self.ok("RunTask", input).await["tasks"][0]["taskArn"].clone()
    }

    fn status(&self, task: &Value) -> String {
        let state = self.world.ecs.state();
        let id = task.as_str().unwrap().rsplit('/').next().unwrap();
        state.tasks[id].status.name().to_owned()
    }

    async fn ended(&self, task: &Value) -> Value {
        eventually("the task has stopped", || self.status(task) == "STOPPED").await;
        self.ok("DescribeTasks", json!({ "cluster": "bird", "tasks": [task] })).await["tasks"][0].clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_ends_with_its_code_and_its_words() {
    let ground = Ground::new(&[]).await;
    let definition = ground.define(&[("SAYS", "hello")]).await;
    let task = ground.run(&definition, &["exit", "3"]).await;
    let ended = ground.ended(&task).await;
    assert_eq!(ended["containers"][0]["exitCode"], 3, "{ended:#}");
    assert_eq!(ended["stopCode"], "EssentialContainerExited");
    assert_eq!(ended["stoppedReason"], "Essential container in task exited");
    let id = task.as_str().unwrap().rsplit('/').next().unwrap();
    let stream = format!("task/bird/{id}");
    let input = json!({ "logGroupName": "/dbird/bird", "logStreamName": stream, "startFromHead": true });
    let said = call(&ground.world, "logs", "GetLogEvents", input).await.unwrap();
    assert_eq!(said["events"][0]["message"], "said on stdout: hello", "{said:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_run_once_for_a_token_and_stops_when_asked() {
    let ground = Ground::new(&[]).await;
    let definition = ground.define(&[]).await;
    let input = json!({
        "cluster": "bird", "taskDefinition": definition, "networkConfiguration": ground.network(), "clientToken": "t",
    });
    let one = ground.ok("RunTask", input.clone()).await["tasks"][0]["taskArn"].clone();
    let again = ground.ok("RunTask", input).await["tasks"][0]["taskArn"].clone();
    assert_eq!(one, again);
    eventually("it runs", || ground.status(&one) == "RUNNING").await;
    ground.ok("StopTask", json!({ "cluster": "bird", "task": one, "reason": "enough" })).await;
    let ended = ground.ended(&one).await;
    assert_eq!((&ended["stopCode"], &ended["stoppedReason"]), (&json!("UserInitiated"), &json!("enough")));
    assert_eq!(ended["containers"][0]["exitCode"], 143, "SIGTERM");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_start_says_why() {
    let ground = Ground::new(&[]).await;
    let system = make(&ground.world, "AWS::EFS::FileSystem", &json!({ "Encrypted": true }));
    type Change = fn(&mut Value, &str);
    let cases: [(&str, Change, &str); 6] = [
        (
            "image",
            |d, _| d["containerDefinitions"][0]["image"] = json!("127.0.0.1:1/bird:no"),
            "CannotPullContainerError",
        ),
        (
            "role",
            |d, _| d["executionRoleArn"] = json!("arn:aws:iam::123456789012:role/no"),
            "unable to assume the role",
        ),
        (
            "secret",
            |d, _| {
                let from = "arn:aws:secretsmanager:us-east-1:123456789012:secret:no";
                d["containerDefinitions"][0]["secrets"] = json!([{ "name": "KEY", "valueFrom": from }]);
            },
            "AccessDeniedException",
        ),
        (
            "logs",
            |d, _| d["containerDefinitions"][0]["logConfiguration"]["options"]["awslogs-group"] = json!("/no"),
            "The specified log group does not exist",
        ),
        (
            "share",
            |d, system| {
                d["volumes"] = json!([{ "name": "data", "efsVolumeConfiguration": {
                    "fileSystemId": system, "transitEncryption": "ENABLED" } }]);
                d["containerDefinitions"][0]["mountPoints"] =
                    json!([{ "sourceVolume": "data", "containerPath": "/data" }]);
            },
            "mount target for this file system",
        ),
        ("program", |d, _| d["containerDefinitions"][0]["entryPoint"] = json!(["/no"]), "CannotStartContainerError"),
    ];
    for (name, change, says) in cases {
        let mut definition = ground.definition(&[]);
        change(&mut definition, &system);
        let made = ground.ok("RegisterTaskDefinition", definition).await;
        let task = ground.run(made["taskDefinition"]["taskDefinitionArn"].as_str().unwrap(), &[]).await;
        let ended = ground.ended(&task).await;
        assert_eq!(ended["stopCode"], "TaskFailedToStart", "{name}: {ended:#}");
        assert!(ended["stoppedReason"].as_str().unwrap().contains(says), "{name}: {}", ended["stoppedReason"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tasks_that_write_to_one_database_are_counted() {
    let ground = Ground::new(&[]).await;
    let system = make(&ground.world, "AWS::EFS::FileSystem", &json!({ "Encrypted": true }));
    make(
        &ground.world,
        "AWS::EFS::MountTarget",
        &json!({ "FileSystemId": system, "SubnetId": ground.subnet, "SecurityGroups": [ground.group] }),
    );
    let point = make(
        &ground.world,
        "AWS::EFS::AccessPoint",
        &json!({ "FileSystemId": system, "RootDirectory": { "Path": "/bird" } }),
    );
    let mut definition = ground.definition(&[("STORE", "/data/scores.db")]);
    definition["volumes"] = json!([{ "name": "data", "efsVolumeConfiguration": {
        "fileSystemId": system, "transitEncryption": "ENABLED",
        "authorizationConfig": { "accessPointId": point, "iam": "ENABLED" } } }]);
    definition["containerDefinitions"][0]["mountPoints"] =
        json!([{ "sourceVolume": "data", "containerPath": "/data" }]);
    let made = ground.ok("RegisterTaskDefinition", definition).await;
    let definition = made["taskDefinition"]["taskDefinitionArn"].as_str().unwrap().to_owned();
    let most = || ground.world.efs.report()["files"][0]["writers_max"].as_u64().unwrap_or(0);
    ground.run(&definition, &[]).await;
    eventually("one writes", || most() == 1).await;
    ground.run(&definition, &[]).await;
    eventually("two write", || most() == 2).await;
}
