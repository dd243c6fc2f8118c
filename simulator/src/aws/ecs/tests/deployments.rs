//! Services and their deployments: how many run at which time, what is undone, where traffic goes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::ground::{Ground, eventually};
use crate::aws::ecs::Ecs;

const PRIMARY: &str = "PRIMARY";

fn native(ground: &Ground, strategy: Value) -> Value {
    let mut config = json!({
        "bakeTimeInMinutes": 1, "minimumHealthyPercent": 100, "maximumPercent": 200,
        "lifecycleHooks": [{
            "targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT", "PRE_PRODUCTION_TRAFFIC_SHIFT"],
            "timeoutConfiguration": { "timeoutInMinutes": 600, "action": "ROLLBACK" },
        }],
    });
    config.as_object_mut().unwrap().extend(strategy.as_object().unwrap().clone());
    json!({
        "deploymentConfiguration": config,
        "loadBalancers": [{
            "targetGroupArn": ground.blue, "containerName": "bird", "containerPort": 8080,
            "advancedConfiguration": {
                "alternateTargetGroupArn": ground.green, "productionListenerRule": ground.rule, "roleArn": ground.role,
            },
        }],
    })
}

impl Ground {
    async fn update(&self, definition: &str) -> Value {
        self.ok("UpdateService", json!({ "cluster": "bird", "service": "bird", "taskDefinition": definition })).await
    }

    /// Waits for the pause of the deployment that was begun last, and lets it go on.
    async fn go_on(&self, stage: &str) -> Value {
        let mut deployment = self.deployment().await;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(40);
        while deployment["lifecycleHookDetails"][0]["status"] != "AWAITING_ACTION" {
            assert!(std::time::Instant::now() < deadline, "no pause: {deployment:#}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            deployment = self.deployment().await;
        }
        assert_eq!(deployment["lifecycleStage"], stage);
        let input = json!({
            "serviceDeploymentArn": deployment["serviceDeploymentArn"],
            "hookId": deployment["lifecycleHookDetails"][0]["hookId"], "action": "CONTINUE",
        });
        self.ok("ContinueServiceDeployment", input).await;
        deployment
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_deployment_never_has_too_few_healthy_tasks() {
    let ground = Ground::new(&[]).await;
    let (one, two) = (ground.define(&[("GREETING", "one")]).await, ground.define(&[("GREETING", "two")]).await);
    ground.serve(&one, json!({})).await;
    ground.until_deployed("SUCCESSFUL").await;
    ground.update(&two).await;
    let mut fewest = usize::MAX;
    loop {
        fewest = fewest.min(ground.healthy(&ground.blue));
        if ground.deployment().await["status"] == "SUCCESSFUL" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert!(fewest >= 2, "{fewest} were healthy at some time");
    let service = ground.service().await;
    assert_eq!(service["deployments"].as_array().unwrap().len(), 1, "{:#}", service["deployments"]);
    assert_eq!(service["deployments"][0]["taskDefinition"], json!(two));
    assert_eq!(
        (&service["runningCount"], &service["deployments"][0]["rolloutState"]),
        (&json!(2), &json!("COMPLETED"))
    );
    eventually("it says that it is steady", || {
        let state = ground.world.ecs.state();
        state
            .services
            .values()
            .any(|s| s.events.iter().any(|(_, _, e)| e == "(service bird) has reached a steady state."))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_0_of_100_percent_the_old_is_gone_before_the_new_begins() {
    let ground = Ground::new(&[]).await;
    let (one, two) = (ground.define(&[]).await, ground.define(&[("GREETING", "two")]).await);
    let config = json!({ "minimumHealthyPercent": 0, "maximumPercent": 100 });
    ground.serve(&one, json!({ "desiredCount": 1, "deploymentConfiguration": config })).await;
    ground.until_deployed("SUCCESSFUL").await;
    ground.update(&two).await;
    loop {
        let together: BTreeSet<String> = {
            let state = ground.world.ecs.state();
            state.tasks.values().filter(|t| !t.is_dead()).map(|t| t.definition.clone()).collect()
        };
        assert!(together.len() < 2, "both at the same time: {together:?}");
        if ground.deployment().await["status"] == "SUCCESSFUL" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(ground.service().await["taskDefinition"], json!(two));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_circuit_breaker_goes_back_to_what_ran() {
    let ground = Ground::new(&[]).await;
    let (one, two) = (ground.define(&[]).await, ground.define(&[("DIE", "start")]).await);
    let config = json!({ "deploymentCircuitBreaker": { "enable": true, "rollback": true } });
    ground.serve(&one, json!({ "deploymentConfiguration": config })).await;
    ground.until_deployed("SUCCESSFUL").await;
    ground.update(&two).await;
    let deployment = ground.until_deployed("ROLLBACK_SUCCESSFUL").await;
    assert_eq!(deployment["deploymentCircuitBreaker"]["status"], "TRIGGERED");
    assert_eq!(deployment["deploymentCircuitBreaker"]["threshold"], 3);
    assert!(deployment["statusReason"].as_str().unwrap().contains("circuit breaker"), "{deployment:#}");
    let service = ground.service().await;
    let primary = service["deployments"].as_array().unwrap().iter().find(|d| d["status"] == PRIMARY).unwrap();
    assert_eq!((&primary["taskDefinition"], &primary["rolloutState"]), (&json!(one), &json!("COMPLETED")));
    assert_eq!(service["taskDefinition"], json!(one));
    assert_eq!(ground.healthy(&ground.blue), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_deployment_that_fails_has_nothing_to_go_back_to() {
    let ground = Ground::new(&[]).await;
    let one = ground.define(&[("DIE", "start")]).await;
    let config = json!({ "deploymentCircuitBreaker": { "enable": true, "rollback": true } });
    ground.serve(&one, json!({ "deploymentConfiguration": config })).await;
    let deployment = ground.until_deployed("ROLLBACK_FAILED").await;
    assert!(deployment["statusReason"].as_str().unwrap().contains("No rollback candidate"));
    assert_eq!(ground.service().await["deployments"][0]["rolloutState"], "FAILED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_native_canary_waits_before_every_shift_and_moves_the_rule() {
    let ground = Ground::new(&[]).await;
    let (one, two) = (ground.define(&[]).await, ground.define(&[("GREETING", "two")]).await);
    let canary =
        json!({ "strategy": "CANARY", "canaryConfiguration": { "canaryPercent": 25.0, "canaryBakeTimeInMinutes": 1 } });
    ground.serve(&one, native(&ground, canary)).await;
    ground.until_deployed("SUCCESSFUL").await;
    let of = |blue: u32, green: u32| vec![("blue".to_owned(), blue), ("green".to_owned(), green)];
    assert_eq!(ground.weights(), of(100, 0));
    ground.update(&two).await;
    ground.go_on("POST_TEST_TRAFFIC_SHIFT").await;
    assert_eq!(ground.weights(), of(100, 0));
    ground.go_on("PRODUCTION_TRAFFIC_SHIFT").await;
    eventually("a quarter goes to green", || ground.weights() == of(75, 25)).await;
    let deployment = ground.go_on("PRODUCTION_TRAFFIC_SHIFT").await;
    assert_eq!(deployment["targetServiceRevision"]["requestedProductionTrafficWeight"], 25.0);
    eventually("all goes to green", || ground.weights() == of(0, 100)).await;
    let deployment = ground.until_deployed("SUCCESSFUL").await;
    assert_eq!(ground.healthy(&ground.green), 2, "{deployment:#}");
    eventually("blue is empty", || ground.healthy(&ground.blue) == 0).await;
    // The next goes the other way.
    ground.update(&one).await;
    ground.go_on("POST_TEST_TRAFFIC_SHIFT").await;
    ground.go_on("PRODUCTION_TRAFFIC_SHIFT").await;
    eventually("a quarter goes to blue", || ground.weights() == of(25, 75)).await;
    let arn = ground.deployment().await["serviceDeploymentArn"].clone();
    ground.ok("StopServiceDeployment", json!({ "serviceDeploymentArn": arn, "stopType": "ROLLBACK" })).await;
    ground.until_deployed("ROLLBACK_SUCCESSFUL").await;
    assert_eq!(ground.weights(), of(0, 100));
    assert_eq!(ground.service().await["taskDefinition"], json!(two));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codedeploy_alone_changes_what_its_service_runs() {
    let ground = Ground::new(&[]).await;
    let (one, two) = (ground.define(&[]).await, ground.define(&[]).await);
    let codedeploy = json!({ "type": "CODE_DEPLOY" });
    ground.serve(&one, json!({ "deploymentController": codedeploy })).await;
    for (change, says) in [
        (
            json!({ "taskDefinition": two }),
            "Unable to update task definition on services with a CODE_DEPLOY deployment controller",
        ),
        (json!({ "forceNewDeployment": true }), "force a new deployment"),
        (json!({ "networkConfiguration": ground.network() }), "Unable to update network configuration"),
    ] {
        let mut input = json!({ "cluster": "bird", "service": "bird" });
        input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let fault = ground.call("UpdateService", input).await.unwrap_err();
        assert_eq!(fault.code, "InvalidParameterException");
        assert!(fault.message.contains(says), "{}", fault.message);
    }
    let blue = Ecs::service(&ground.world, "bird", "bird").unwrap().task_sets[0].id.clone();
    eventually("blue is steady", || Ecs::task_set_state(&ground.world, &blue).steady).await;
    let green = Ecs::create_task_set(&ground.world, "bird", "bird", &two, &ground.green, Some("d-1")).unwrap();
    eventually("green is steady", || Ecs::task_set_state(&ground.world, &green).steady).await;
    assert_eq!((ground.healthy(&ground.blue), ground.healthy(&ground.green)), (2, 2));
    ground.ok("UpdateService", json!({ "cluster": "bird", "service": "bird", "desiredCount": 1 })).await;
    eventually("one of each", || (ground.healthy(&ground.blue), ground.healthy(&ground.green)) == (1, 1)).await;
    Ecs::set_primary(&ground.world, &green);
    Ecs::delete_task_set(&ground.world, &blue);
    eventually("blue is forgotten", || Ecs::service(&ground.world, "bird", "bird").unwrap().task_sets.len() == 1).await;
    let service = ground.service().await;
    assert_eq!((&service["taskDefinition"], &service["taskSets"][0]["status"]), (&json!(two), &json!(PRIMARY)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_needs_what_it_names() {
    let ground = Ground::new(&[]).await;
    let one = ground.define(&[]).await;
    let balancer = |group: &str, name: &str, port: u16| json!([{ "targetGroupArn": group, "containerName": name, "containerPort": port }]);
    let alone = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/no/0";
    for (change, says) in [
        (json!({ "loadBalancers": balancer(alone, "bird", 8080) }), "does not have an associated load balancer."),
        (json!({ "loadBalancers": balancer(&ground.blue, "no", 8080) }), "The container no does not exist"),
        (json!({ "loadBalancers": balancer(&ground.blue, "bird", 1) }), "container port 1"),
        (json!({ "deploymentConfiguration": { "strategy": "BLUE_GREEN" } }), "advancedConfiguration is required"),
        (
            json!({ "deploymentConfiguration": { "minimumHealthyPercent": 100, "maximumPercent": 100 } }),
            "block deployments",
        ),
        (json!({ "cluster": "no" }), "Cluster not found."),
        (json!({ "networkConfiguration": { "awsvpcConfiguration": { "subnets": ["subnet-no"] } } }), "does not exist"),
    ] {
        let mut input = json!({
            "cluster": "bird", "serviceName": "bird", "taskDefinition": one, "networkConfiguration": ground.network(),
            "loadBalancers": balancer(&ground.blue, "bird", 8080),
        });
        input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let fault = ground.call("CreateService", input).await.unwrap_err();
        assert!(fault.message.contains(says), "{says}: {}", fault.message);
    }
    ground.serve(&one, json!({ "clientToken": "t", "desiredCount": 1 })).await;
    let again = json!({ "cluster": "bird", "serviceName": "bird", "clientToken": "t", "taskDefinition": one });
    assert_eq!(ground.ok("CreateService", again).await["service"]["serviceName"], "bird");
    let fault = ground.call("DeleteService", json!({ "cluster": "bird", "service": "bird" })).await.unwrap_err();
    assert!(fault.message.contains("scaled above 0"));
    ground.ok("DeleteService", json!({ "cluster": "bird", "service": "bird", "force": true })).await;
    eventually("it is gone", || Ecs::service(&ground.world, "bird", "bird").is_none()).await;
    assert_eq!(ground.service().await["status"], "INACTIVE");
}
