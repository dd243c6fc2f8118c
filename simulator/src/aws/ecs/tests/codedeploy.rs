//! CodeDeploy over real tasks and a real load balancer's rule.

use serde_json::{Value, json};

use super::ground::{Ground, call, eventually};
use crate::aws::ecs::Ecs;

impl Ground {
    async fn codedeploy(&self, operation: &str, input: Value) -> Value {
        let answer = call(&self.world, "codedeploy", operation, input).await;
        answer.unwrap_or_else(|fault| panic!("{operation}: {} {}", fault.code, fault.message))
    }

    async fn group(&self) {
        self.codedeploy("CreateApplication", json!({ "applicationName": "bird", "computePlatform": "ECS" })).await;
        let routing =
            json!({ "type": "TimeBasedCanary", "timeBasedCanary": { "canaryPercentage": 20, "canaryInterval": 2 } });
        let config =
            json!({ "deploymentConfigName": "fifth", "computePlatform": "ECS", "trafficRoutingConfig": routing });
        self.codedeploy("CreateDeploymentConfig", config).await;
        let name = |arn: &str| json!({ "name": arn.split('/').nth(1).unwrap() });
        self.codedeploy("CreateDeploymentGroup", json!({
            "applicationName": "bird", "deploymentGroupName": "bird", "serviceRoleArn": self.role, "deploymentConfigName": "fifth",
            "deploymentStyle": { "deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL" },
            "ecsServices": [{ "clusterName": "bird", "serviceName": "bird" }],
            "loadBalancerInfo": { "targetGroupPairInfoList": [{
                "targetGroups": [name(&self.blue), name(&self.green)], "prodTrafficRoute": { "listenerArns": [self.listener] } }] },
            "blueGreenDeploymentConfiguration": { "terminateBlueInstancesOnDeploymentSuccess": {
                "action": "TERMINATE", "terminationWaitTimeInMinutes": 2 } },
        })).await;
    }

    async fn release(&self, definition: &str) -> String {
        let spec = json!({ "version": 0.0, "Resources": [{ "TargetService": { "Type": "AWS::ECS::Service", "Properties": {
            "TaskDefinition": definition, "LoadBalancerInfo": { "ContainerName": "bird", "ContainerPort": 8080 } } } }] });
        let revision = json!({ "revisionType": "AppSpecContent", "appSpecContent": { "content": spec.to_string() } });
        let input = json!({ "applicationName": "bird", "deploymentGroupName": "bird", "revision": revision });
        self.codedeploy("CreateDeployment", input).await["deploymentId"].as_str().unwrap().to_owned()
    }

    /// Waits until a deployment is over.
    async fn until_over(&self, id: &str) -> Value {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(40);
        loop {
            let answer = self.codedeploy("GetDeployment", json!({ "deploymentId": id })).await;
            let info = &answer["deploymentInfo"];
            if info.get("completeTime").is_some() {
                return info.clone();
            }
            assert!(std::time::Instant::now() < deadline, "{info:#}");
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
    }

    fn sets(&self) -> usize {
        Ecs::service(&self.world, "bird", "bird").unwrap().task_sets.len()
    }
}

fn share(blue: u32) -> Vec<(String, u32)> {
    vec![("blue".to_owned(), blue), ("green".to_owned(), 100 - blue)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codedeploy_moves_the_traffic_of_real_tasks() {
    let ground = Ground::new(&[]).await;
    let (one, two) = (ground.define(&[]).await, ground.define(&[("GREETING", "two")]).await);
    let dies = ground.define(&[("DIE", "start")]).await;
    ground.serve(&one, json!({ "deploymentController": { "type": "CODE_DEPLOY" } })).await;
    ground.group().await;
    eventually("blue is healthy", || ground.healthy(&ground.blue) == 2).await;
    let id = ground.release(&two).await;
    eventually("a fifth goes to the new one", || ground.weights() == share(80)).await;
    assert_eq!((ground.healthy(&ground.blue), ground.healthy(&ground.green)), (2, 2));
    assert_eq!(ground.until_over(&id).await["status"], "Succeeded");
    assert_eq!(ground.weights(), share(0));
    eventually("the old set is gone", || ground.sets() == 1).await;
    assert_eq!(ground.service().await["taskDefinition"], json!(two));

    // One that never becomes healthy gets no traffic, and goes when it is stopped.
    let id = ground.release(&dies).await;
    eventually("it is tried", || ground.sets() == 2).await;
    ground.codedeploy("StopDeployment", json!({ "deploymentId": id, "autoRollbackEnabled": true })).await;
    let stopped = ground.until_over(&id).await;
    assert_eq!(stopped["status"], "Stopped");
    let undoing = stopped["rollbackInfo"]["rollbackDeploymentId"].as_str().unwrap();
    assert_eq!(ground.until_over(undoing).await["creator"], "codeDeployRollback");
    eventually("its set is gone", || ground.sets() == 1).await;
    assert_eq!((ground.weights(), ground.service().await["taskDefinition"].clone()), (share(0), json!(two)));
}
