//! Deployments from beginning to each of their ends, in simulated time, over task sets and rules that only remember.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    CodeDeploy, answer,
    ground::{Ground, Service, Set, Tasks},
};
use crate::{
    Clock,
    aws::{Answer, Call, Fault},
};

const BLUE: &str = "arn:aws:elasticloadbalancing:r:1:targetgroup/blue/1";
const GREEN: &str = "arn:aws:elasticloadbalancing:r:1:targetgroup/green/2";
const LISTENER: &str = "arn:aws:elasticloadbalancing:r:1:listener/app/x/1/2";
const TEST_LISTENER: &str = "arn:aws:elasticloadbalancing:r:1:listener/app/x/1/3";

#[derive(Default)]
struct Account {
    sets: Vec<Set>,
    never_steady: bool,
    foreign: bool,
    refuses_sets: bool,
    /// The replacement's weight on each listener, each time that it was set.
    moved: Vec<(String, u32)>,
    alarms: BTreeMap<String, &'static str>,
    faults: Vec<String>,
    made: u32,
}

struct Fake {
    clock: Clock,
    own: CodeDeploy,
    account: Mutex<Account>,
}

impl Fake {
    fn with<T>(&self, act: impl FnOnce(&mut Account) -> T) -> T {
        act(&mut self.account.lock().unwrap())
    }
}

impl Ground for Fake {
    fn clock(&self) -> Clock {
        self.clock
    }

    fn own(&self) -> &CodeDeploy {
        &self.own
    }

    fn has_fault(&self, name: &str) -> bool {
        self.with(|a| a.faults.iter().any(|f| f == name))
    }

    fn begin(self: &Arc<Self>, _: &str) -> Box<dyn Any + Send> {
        Box::new(())
    }

    fn service(self: &Arc<Self>, cluster: &str, service: &str) -> Option<Service> {
        let arn = format!("arn:aws:ecs:r:1:service/{cluster}/{service}");
        self.with(|a| (service == "bird").then(|| Service { arn, is_ours: !a.foreign, sets: a.sets.clone() }))
    }

    fn tasks(self: &Arc<Self>, _: &str) -> Tasks {
        let is_steady = self.with(|a| !a.never_steady);
        Tasks { desired: 2, pending: 2 * u32::from(!is_steady), running: 2 * u32::from(is_steady), is_steady }
    }

    fn create_set(self: &Arc<Self>, _: (&str, &str), _: &str, group: &str, _: &str) -> Result<String, Fault> {
        self.with(|a| {
            if a.refuses_sets {
                return Err(Fault::new("ClientException", "no such task definition"));
            }
            a.made += 1;
            let id = format!("ecs-svc/{}", a.made);
            a.sets.push(Set { id: id.clone(), target_group: group.to_owned(), is_primary: false });
            Ok(id)
        })
    }

    fn set_primary(self: &Arc<Self>, set: &str) {
        self.with(|a| a.sets.iter_mut().for_each(|s| s.is_primary = s.id == set));
    }

    fn delete_set(self: &Arc<Self>, set: &str) {
        self.with(|a| a.sets.retain(|s| s.id != set));
    }

    async fn target_group(self: &Arc<Self>, name: &str) -> Option<String> {
        [("blue", BLUE), ("green", GREEN)].into_iter().find(|(n, _)| *n == name).map(|(_, arn)| arn.to_owned())
    }

    fn forwarding(self: &Arc<Self>, listener: &str, _: &str) -> Vec<String> {
        vec![format!("{listener}-rule")]
    }

    fn forward(self: &Arc<Self>, rule: &str, weights: Vec<(String, u32)>) -> Result<(), Fault> {
        let all: u32 = weights.iter().map(|(_, w)| w).sum();
        assert_eq!(all, 100);
        let green = weights.iter().find(|(arn, _)| arn == GREEN).map_or(0, |(_, w)| *w);
        self.with(|a| a.moved.push((rule.trim_end_matches("-rule").to_owned(), green)));
        Ok(())
    }

    async fn alarm(self: &Arc<Self>, name: &str) -> Option<String> {
        self.with(|a| a.alarms.get(name).map(|s| (*s).to_owned()))
    }
}

async fn ask(fake: &Arc<Fake>, operation: &str, input: Value) -> Answer {
    answer(fake, &Call { service: "codedeploy".to_owned(), operation: operation.to_owned(), input }).await
}

fn group(change: impl FnOnce(&mut Value)) -> Value {
    let mut group = json!({
        "applicationName": "app", "deploymentGroupName": "group", "serviceRoleArn": "arn:aws:iam::1:role/deploys",
        "deploymentConfigName": "slow",
        "deploymentStyle": { "deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL" },
        "ecsServices": [{ "clusterName": "c", "serviceName": "bird" }],
        "loadBalancerInfo": { "targetGroupPairInfoList": [{
            "targetGroups": [{ "name": "blue" }, { "name": "green" }],
            "prodTrafficRoute": { "listenerArns": [LISTENER] }, "testTrafficRoute": { "listenerArns": [TEST_LISTENER] } }] },
        "blueGreenDeploymentConfiguration": {
            "deploymentReadyOption": { "actionOnTimeout": "CONTINUE_DEPLOYMENT", "waitTimeInMinutes": 0 },
            "terminateBlueInstancesOnDeploymentSuccess": { "action": "TERMINATE", "terminationWaitTimeInMinutes": 5 } },
        "autoRollbackConfiguration": { "enabled": true,
            "events": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST"] },
        "alarmConfiguration": { "enabled": true, "alarms": [{ "name": "errors" }] }
    });
    change(&mut group);
    group
}

async fn account(change: impl FnOnce(&mut Value)) -> Arc<Fake> {
    let account = Account {
        sets: vec![Set { id: "ecs-svc/0".to_owned(), target_group: BLUE.to_owned(), is_primary: true }],
        alarms: BTreeMap::from([("errors".to_owned(), "OK")]),
        ..Account::default()
    };
    let fake = Arc::new(Fake { clock: Clock::start(1000.0), own: CodeDeploy::default(), account: Mutex::new(account) });
    ask(&fake, "CreateApplication", json!({ "applicationName": "app", "computePlatform": "ECS" })).await.unwrap();
    let slow = json!({ "deploymentConfigName": "slow", "computePlatform": "ECS", "trafficRoutingConfig": {
        "type": "TimeBasedLinear", "timeBasedLinear": { "linearPercentage": 40, "linearInterval": 2 } } });
    ask(&fake, "CreateDeploymentConfig", slow).await.unwrap();
    ask(&fake, "CreateDeploymentGroup", group(change)).await.unwrap();
    fake
}

fn deployment() -> Value {
    let spec = json!({ "version": 0.0, "Resources": [{ "TargetService": { "Type": "AWS::ECS::Service", "Properties": {
        "TaskDefinition": "arn:aws:ecs:r:1:task-definition/bird:2",
        "LoadBalancerInfo": { "ContainerName": "bird", "ContainerPort": 8080 } } } }] });
    json!({ "applicationName": "app", "deploymentGroupName": "group", "description": "r2",
        "revision": { "revisionType": "AppSpecContent", "appSpecContent": { "content": spec.to_string() } } })
}

async fn begin(fake: &Arc<Fake>) -> String {
    let answer = ask(fake, "CreateDeployment", deployment()).await.unwrap();
    answer["deploymentId"].as_str().unwrap().to_owned()
}

async fn info(fake: &Arc<Fake>, id: &str) -> Value {
    ask(fake, "GetDeployment", json!({ "deploymentId": id })).await.unwrap()["deploymentInfo"].take()
}

async fn target(fake: &Arc<Fake>, id: &str) -> Value {
    let input = json!({ "deploymentId": id, "targetIds": ["c:bird"] });
    ask(fake, "BatchGetDeploymentTargets", input).await.unwrap()["deploymentTargets"][0]["ecsTarget"].take()
}

fn ring(account: &mut Account) {
    account.alarms.insert("errors".to_owned(), "ALARM");
}

/// Waits until the deployment and its target are so.
async fn until(fake: &Arc<Fake>, id: &str, wanted: impl Fn(&Value, &Value) -> bool) -> (Value, Value) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (info, target) = (info(fake, id).await, target(fake, id).await);
        if wanted(&info, &target) {
            return (info, target);
        }
        assert!(Instant::now() < deadline, "{info:#}\n{target:#}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn over(fake: &Arc<Fake>, id: &str) -> Value {
    let is = |info: &Value, _: &Value| ["Succeeded", "Failed", "Stopped"].contains(&info["status"].as_str().unwrap());
    until(fake, id, is).await.0
}

/// Waits for the deployment that undoes this one.
async fn undone(fake: &Arc<Fake>, info: &Value) -> Value {
    let by =
        info["rollbackInfo"]["rollbackDeploymentId"].as_str().unwrap_or_else(|| panic!("not rolled back: {info:#}"));
    let undoing = over(fake, by).await;
    assert_eq!((&undoing["status"], &undoing["creator"]), (&json!("Succeeded"), &json!("codeDeployRollback")));
    assert_eq!(undoing["rollbackInfo"]["rollbackTriggeringDeploymentId"], info["deploymentId"]);
    undoing
}

/// The replacement's weights on the production listener, in order.
fn weights(fake: &Fake) -> Vec<u32> {
    fake.with(|a| a.moved.iter().filter(|(l, _)| l == LISTENER).map(|(_, w)| *w).collect())
}

fn primary(fake: &Fake) -> Vec<(String, bool)> {
    fake.with(|a| a.sets.iter().map(|s| (s.target_group.clone(), s.is_primary)).collect())
}

fn shifting(weight: u32) -> impl Fn(&Value, &Value) -> bool {
    move |_, target| target["taskSetsInfo"][1]["trafficWeight"].as_f64() == Some(f64::from(weight))
}

/// The old task set waits to be ended.
fn baking(info: &Value, target: &Value) -> bool {
    info["status"] == "InProgress" && target["status"] == "Succeeded"
}

fn readies(minutes: u64) -> impl FnOnce(&mut Value) {
    move |group: &mut Value| {
        group["blueGreenDeploymentConfiguration"]["deploymentReadyOption"] =
            json!({ "actionOnTimeout": "STOP_DEPLOYMENT", "waitTimeInMinutes": minutes });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_moves_step_by_step_and_the_old_task_set_goes() {
    let fake = account(|_| {}).await;
    let id = begin(&fake).await;
    let began = fake.clock.now_ms();
    let again = ask(&fake, "CreateDeployment", deployment()).await.unwrap_err();
    assert_eq!(again.code, "DeploymentLimitExceededException");
    let (_, target) = until(&fake, &id, baking).await;
    let sets = target["taskSetsInfo"].as_array().unwrap();
    let told: Vec<_> = sets.iter().map(|s| (&s["taskSetLabel"], &s["status"], &s["targetGroup"]["name"])).collect();
    assert_eq!(told[0], (&json!("Blue"), &json!("ACTIVE"), &json!("blue")));
    assert_eq!(told[1], (&json!("Green"), &json!("PRIMARY"), &json!("green")));
    let info = over(&fake, &id).await;
    assert_eq!(
        (&info["status"], &info["creator"], &info["description"]),
        (&json!("Succeeded"), &json!("user"), &json!("r2"))
    );
    assert_eq!(weights(&fake), [0, 40, 80, 100]);
    assert_eq!(primary(&fake), [(GREEN.to_owned(), true)]);
    let took_minutes = (fake.clock.now_ms() - began) / 60_000;
    assert!((9..30).contains(&took_minutes), "two steps of 2 minutes and 5 of waiting took {took_minutes}");
    let (_, target) = until(&fake, &id, |_, _| true).await;
    let stages: Vec<_> =
        target["lifecycleEvents"].as_array().unwrap().iter().map(|e| &e["lifecycleEventName"]).collect();
    assert_eq!(stages.len(), 8);
    assert!(target["lifecycleEvents"].as_array().unwrap().iter().all(|e| e["status"] == "Succeeded"));

    // And back again, the other way round.
    let second = begin(&fake).await;
    assert_eq!(over(&fake, &second).await["status"], "Succeeded");
    assert_eq!(weights(&fake)[4..], [100, 60, 20, 0]);
    assert_eq!(primary(&fake), [(BLUE.to_owned(), true)]);
    let listed = ask(&fake, "ListDeployments", json!({ "applicationName": "app", "deploymentGroupName": "group" }))
        .await
        .unwrap();
    assert_eq!(listed["deployments"], json!([second, id]));
    let none = json!({ "includeOnlyStatuses": ["InProgress", "Ready"] });
    assert_eq!(ask(&fake, "ListDeployments", none).await.unwrap()["deployments"], json!([]));
    let late = ask(&fake, "StopDeployment", json!({ "deploymentId": id })).await.unwrap_err();
    assert_eq!(late.code, "DeploymentAlreadyCompletedException");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_replacement_waits_to_be_let_on() {
    let fake = account(readies(600)).await;
    let id = begin(&fake).await;
    let (_, target) = until(&fake, &id, |info, _| info["status"] == "Ready").await;
    assert_eq!(target["status"], "Ready");
    assert_eq!(weights(&fake), [0]);
    assert!(fake.with(|a| a.moved.contains(&(TEST_LISTENER.to_owned(), 100))));
    let go_on = |kind: &str| json!({ "deploymentId": id, "deploymentWaitType": kind });
    let early = ask(&fake, "ContinueDeployment", go_on("TERMINATION_WAIT")).await.unwrap_err();
    assert_eq!(early.code, "DeploymentIsNotInReadyStateException");
    let unknown = ask(&fake, "ContinueDeployment", go_on("EVER")).await.unwrap_err();
    assert_eq!(unknown.code, "InvalidDeploymentWaitTypeException");
    ask(&fake, "ContinueDeployment", go_on("READY_WAIT")).await.unwrap();
    until(&fake, &id, baking).await;
    let began = Instant::now();
    ask(&fake, "ContinueDeployment", go_on("TERMINATION_WAIT")).await.unwrap();
    assert_eq!(over(&fake, &id).await["status"], "Succeeded");
    assert!(began.elapsed() < fake.clock.real(4 * 60_000), "the wait was ended early");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_undone() {
    // What happens when, how it ends, and the weights that were set.
    type Act = fn(&mut Account);
    type Case = (&'static str, Act, u32, Act, &'static str, &'static str, &'static [u32]);
    let cases: [Case; 6] = [
        ("alarm before", ring, 0, |_| {}, "Stopped", "ALARM_ACTIVE", &[]),
        ("alarm gone", |a| a.alarms.clear(), 0, |_| {}, "Stopped", "ALARM_ACTIVE", &[]),
        ("alarm between", |_| {}, 40, ring, "Stopped", "ALARM_ACTIVE", &[0, 40, 0]),
        ("fails", |a| a.faults.push("codedeploy-fails".into()), 0, |_| {}, "Failed", "INTERNAL_ERROR", &[0, 40, 0]),
        (
            "alarm late",
            |a| a.faults.push("alarm-in-bake".into()),
            0,
            |_| {},
            "Stopped",
            "ALARM_ACTIVE",
            &[0, 40, 80, 100, 0],
        ),
        ("never healthy", |a| a.never_steady = true, 0, |_| {}, "Failed", "TIMEOUT", &[0, 0]),
    ];
    for (what, before, at, then, status, code, wanted) in cases {
        let fake = account(|_| {}).await;
        fake.with(before);
        let id = begin(&fake).await;
        if at > 0 {
            until(&fake, &id, shifting(at)).await;
            fake.with(then);
        }
        let info = over(&fake, &id).await;
        assert_eq!((&info["status"], &info["errorInformation"]["code"]), (&json!(status), &json!(code)), "{what}");
        fake.with(|a| a.alarms = BTreeMap::from([("errors".to_owned(), "OK")]));
        undone(&fake, &info).await;
        assert_eq!(weights(&fake), wanted, "{what}");
        assert_eq!(primary(&fake), [(BLUE.to_owned(), true)], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_it_says_whether_it_is_undone() {
    for (rolls_back, at_end) in [(Some(true), false), (Some(true), true), (Some(false), false), (None, false)] {
        let fake = account(|group| group["autoRollbackConfiguration"]["events"] = json!(["DEPLOYMENT_FAILURE"])).await;
        let id = begin(&fake).await;
        if at_end {
            until(&fake, &id, baking).await;
        } else {
            until(&fake, &id, shifting(40)).await;
        }
        let mut input = json!({ "deploymentId": id });
        if let Some(rolls_back) = rolls_back {
            input["autoRollbackEnabled"] = json!(rolls_back);
        }
        ask(&fake, "StopDeployment", input).await.unwrap();
        let info = over(&fake, &id).await;
        assert_eq!((&info["status"], &info["errorInformation"]["code"]), (&json!("Stopped"), &json!("MANUAL_STOP")));
        if rolls_back == Some(true) {
            undone(&fake, &info).await;
            assert_eq!((weights(&fake).last(), primary(&fake)), (Some(&0), vec![(BLUE.to_owned(), true)]));
        } else {
            assert_eq!(info.get("rollbackInfo"), None);
            assert_eq!((weights(&fake).last(), primary(&fake).len()), (Some(&40), 2), "it stays as it was");
            // The next one takes what was left away.
            assert_eq!(over(&fake, &begin(&fake).await).await["status"], "Succeeded");
            assert_eq!(primary(&fake), [(GREEN.to_owned(), true)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_lets_on_and_what_ecs_refuses_ends() {
    let fake = account(readies(3)).await;
    let info = over(&fake, &begin(&fake).await).await;
    assert_eq!((&info["status"], &info["errorInformation"]["code"]), (&json!("Stopped"), &json!("TIMEOUT")));
    undone(&fake, &info).await;

    let fake = account(|_| {}).await;
    fake.with(|a| a.refuses_sets = true);
    let info = over(&fake, &begin(&fake).await).await;
    assert_eq!((&info["status"], &info["errorInformation"]["code"]), (&json!("Failed"), &json!("ECS_UPDATE_ERROR")));
    undone(&fake, &info).await;
    assert_eq!((weights(&fake), primary(&fake)), (vec![], vec![(BLUE.to_owned(), true)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_checked() {
    let fake = account(|_| {}).await;
    let pair = "/loadBalancerInfo/targetGroupPairInfoList/0";
    let wait = "/blueGreenDeploymentConfiguration/deploymentReadyOption";
    let many: Vec<Value> = (0..11).map(|n| json!({ "name": n.to_string() })).collect();
    let cases = [
        ("/applicationName".to_owned(), json!("other"), "ApplicationDoesNotExistException"),
        ("/deploymentGroupName".to_owned(), json!("group"), "DeploymentGroupAlreadyExistsException"),
        ("/deploymentGroupName".to_owned(), json!("two"), "ECSServiceMappingLimitExceededException"),
        ("/ecsServices/0/serviceName".to_owned(), json!("nobody"), "InvalidECSServiceException"),
        ("/ecsServices".to_owned(), json!([]), "InvalidECSServiceException"),
        ("/deploymentConfigName".to_owned(), json!("none"), "DeploymentConfigDoesNotExistException"),
        ("/serviceRoleArn".to_owned(), json!("bird"), "InvalidRoleException"),
        ("/deploymentStyle/deploymentType".to_owned(), json!("IN_PLACE"), "InvalidDeploymentStyleException"),
        (format!("{pair}/targetGroups/1/name"), json!("blue"), "InvalidTargetGroupPairException"),
        (format!("{pair}/targetGroups/1/name"), json!("red"), "InvalidTargetGroupPairException"),
        (format!("{pair}/prodTrafficRoute/listenerArns"), json!([]), "InvalidTargetGroupPairException"),
        (format!("{pair}/prodTrafficRoute/listenerArns/0"), json!("x"), "InvalidTargetGroupPairException"),
        ("/loadBalancerInfo".to_owned(), json!({}), "InvalidLoadBalancerInfoException"),
        (format!("{wait}/waitTimeInMinutes"), json!(5), "InvalidBlueGreenDeploymentConfigurationException"),
        (
            format!("{wait}/actionOnTimeout"),
            json!("STOP_DEPLOYMENT"),
            "InvalidBlueGreenDeploymentConfigurationException",
        ),
        (
            "/blueGreenDeploymentConfiguration".to_owned(),
            json!(null),
            "InvalidBlueGreenDeploymentConfigurationException",
        ),
        (
            "/blueGreenDeploymentConfiguration/terminateBlueInstancesOnDeploymentSuccess/action".to_owned(),
            json!("KEEP_ALIVE"),
            "InvalidBlueGreenDeploymentConfigurationException",
        ),
        ("/alarmConfiguration/alarms".to_owned(), json!(many), "AlarmsLimitExceededException"),
        ("/autoRollbackConfiguration/events/0".to_owned(), json!("EVER"), "InvalidAutoRollbackConfigException"),
    ];
    for (pointer, value, code) in cases {
        let mut input = group(|g| {
            if pointer != "/deploymentGroupName" {
                g["deploymentGroupName"] = json!("new")
            }
        });
        *input.pointer_mut(&pointer).unwrap() = value.clone();
        let fault = ask(&fake, "CreateDeploymentGroup", input).await.unwrap_err();
        assert_eq!(fault.code, code, "{pointer} {value}: {}", fault.message);
    }
    fake.with(|a| a.foreign = true);
    let fault =
        ask(&fake, "CreateDeploymentGroup", group(|g| g["deploymentGroupName"] = json!("new"))).await.unwrap_err();
    assert!(fault.message.contains("CODE_DEPLOY"), "{}", fault.message);
    fake.with(|a| a.foreign = false);

    let change = json!({ "applicationName": "app", "currentDeploymentGroupName": "group",
        "deploymentConfigName": "CodeDeployDefault.ECSCanary10Percent5Minutes" });
    ask(&fake, "UpdateDeploymentGroup", change).await.unwrap();
    let found = ask(&fake, "GetDeploymentGroup", json!({ "applicationName": "app", "deploymentGroupName": "group" }))
        .await
        .unwrap();
    let found = &found["deploymentGroupInfo"];
    assert_eq!(found["deploymentConfigName"], "CodeDeployDefault.ECSCanary10Percent5Minutes");
    assert_eq!(found["ecsServices"][0]["serviceName"], "bird", "what was not named stays");
    let used = json!({ "deploymentConfigName": "CodeDeployDefault.ECSCanary10Percent5Minutes" });
    assert_eq!(ask(&fake, "DeleteDeploymentConfig", used).await.unwrap_err().code, "DeploymentConfigInUseException");
}
