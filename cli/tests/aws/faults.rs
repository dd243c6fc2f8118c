//! What goes wrong in the cloud or is done there by others: what a person is told, what is live at the end, and that the next
//! deploy goes on from there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    sealed::Ended,
    support::{Account, Deployed, get},
};

/// How many times as fast as ours time passes here: nothing is measured, and much is waited for.
const FAST: u32 = 200;

/// An account of its own, with the tiny service's project. Nobody asks the service anything, so nothing judges it.
fn cloud(name: &'static str) -> Deployed {
    let cloud = Deployed::tiny(Account::start(name, FAST, &[]));
    let base = std::fs::read_to_string(cloud.project.path().join("environments/base.toml")).unwrap();
    let unjudged = base.replace("bake = \"1m\"", "bake = \"0s\"");
    assert_ne!(unjudged, base);
    cloud.project.write("environments/base.toml", &unjudged);
    cloud
}

/// A deploy of a new release, by what it greets with.
fn greeting(cloud: &Deployed, text: &str, more: &[&str]) -> Ended {
    let greeting = format!("env.GREETING={text}");
    cloud.run(&[&["deploy", "--set", &greeting], more].concat())
}

/// It ended with this code, and said all of this.
fn told(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, code, "{ended}");
    for said in words {
        assert!(ended.to_string().contains(said), "no {said:?} in {ended}");
    }
}

fn list(account: &Account, service: &str, operation: &str, input: &Value, of: &str) -> Vec<Value> {
    account.call(service, operation, &input.to_string())[of].as_array().cloned().unwrap_or_default()
}

/// The operations that make, change or delete something.
fn mutating(account: &Account) -> BTreeSet<String> {
    account
        .calls()
        .iter()
        .filter(|call| changes(call))
        .map(|call| call["operation"].as_str().unwrap().to_owned())
        .collect()
}

/// A call that was carried out and does more than read.
fn changes(call: &Value) -> bool {
    let name = call["operation"].as_str().unwrap();
    call["code"].is_null()
        && ["Describe", "Detect", "Get", "List", "Batch", "Head"].iter().all(|read| !name.starts_with(read))
}

#[test]
fn nothing_is_made_twice_where_replies_are_lost() {
    let scaled = ["--set", "scale.min=1", "--set", "scale.max=3"];
    let both = |cloud: &Deployed| {
        cloud.ok(&[&["deploy"], &scaled[..]].concat());
        told(&greeting(cloud, "new", &scaled), 0, &["r2 serves at"]);
    };
    let seen = cloud("faults-none");
    both(&seen);
    let operations = mutating(&seen.account);
    for known in ["CreateChangeSet", "CreateRule", "RegisterTaskDefinition", "CreateService", "CreateDeployment"] {
        assert!(operations.contains(known), "{operations:?}");
    }
    drop(seen);

    let cloud = cloud("faults-lost");
    let lost = |names: &BTreeSet<String>| names.iter().map(|name| format!("lost-reply:{name}")).collect::<Vec<_>>();
    cloud.account.faults(&lost(&operations).iter().map(String::as_str).collect::<Vec<_>>());
    both(&cloud);
    assert_eq!(cloud.account.report("faults"), json!([]), "a reply was not lost");
    let ecs = |operation: &str, of: &str, input: &Value| list(&cloud.account, "ecs", operation, input, of).len();
    assert_eq!(ecs("ListServices", "serviceArns", &json!({ "cluster": "tiny-dev" })), 1);
    assert_eq!(ecs("ListTaskDefinitions", "taskDefinitionArns", &json!({})), 2);
    assert_eq!(ecs("ListTasks", "taskArns", &json!({ "cluster": "tiny-dev" })), 1);
    let group = json!({ "applicationName": "tiny-dev", "deploymentGroupName": "tiny-dev" });
    assert_eq!(list(&cloud.account, "codedeploy", "ListDeployments", &group, "deployments").len(), 1);
    for (once, times) in [("RegisterTaskDefinition", 2), ("CreateDeployment", 1), ("CreateDeploymentGroup", 1)] {
        assert_eq!(cloud.account.times(once), times, "{once}");
    }
    assert_eq!(get(&cloud.address(), "/").unwrap(), (200, "new".to_owned()));
}

#[test]
fn ended_credentials_and_throttling_cost_time_only() {
    let cloud = cloud("faults-credentials");
    // From the very call on that the service's rules are made with.
    let calls = |cloud: &Deployed| cloud.account.calls().len();
    cloud.account.faults(&["expired-credentials:1"]);
    let at_once = cloud.run(&["deploy"]);
    told(&at_once, 1, &["the credentials for AWS have ended", "get new ones", "it goes on where this one stopped"]);
    assert_eq!(calls(&cloud), 0, "nothing was made");

    cloud.account.faults(&["expired-credentials:20"]);
    let midway = cloud.run(&["deploy"]);
    told(&midway, 1, &["the credentials for AWS have ended", "run the same command again", "Live: nothing serves"]);
    assert_eq!(cloud.account.times("ExecuteChangeSet"), 1, "it had come as far as the stack: {midway}");

    cloud.account.faults(&["throttle:CreateRule"]);
    told(&cloud.run(&["deploy"]), 0, &["serves at"]);
    assert_eq!(cloud.account.times("ExecuteChangeSet"), 1, "the stack is made once");
    let refused = cloud.account.calls().iter().filter(|call| call["code"] == "Throttling").count();
    assert_eq!((refused, cloud.account.times("CreateRule")), (2, 2));
    assert_eq!(get(&cloud.address(), "/").unwrap().1, "hi");
}

#[test]
fn a_stack_that_is_stuck_is_got_out_of_there() {
    let cloud = cloud("faults-stuck");
    cloud.ok(&["deploy"]);
    cloud.project.write("environments/dev.toml", "[cloud.aws]\nlog_days = 60\n");
    cloud.account.faults(&["stack-fails-once:LogGroup", "rollback-fails-once:LogGroup"]);
    let stuck = cloud.run(&["deploy"]);
    told(
        &stuck,
        3,
        &[
            "the stack tiny-dev could not be changed: LogGroup (Logs LogGroup /dbird/tiny-dev): ",
            "undoing it failed too, at LogGroup",
            "run `dbird deploy`: it first goes on with undoing",
            "Live: r1 serves",
        ],
    );
    told(&cloud.run(&["status"]), 0, &["and so did undoing it", "the next deploy goes on with undoing it"]);
    told(&cloud.run(&["plan"]), 0, &["~ infrastructure", "UPDATE_ROLLBACK_FAILED", "1 to change"]);
    told(&cloud.run(&["deploy"]), 0, &["stack tiny-dev: update complete"]);
    assert_eq!(cloud.account.times("ContinueUpdateRollback"), 1);
    told(&cloud.run(&["plan"]), 0, &["No changes"]);
    let groups = list(&cloud.account, "logs", "DescribeLogGroups", &json!({}), "logGroups");
    let days =
        groups.iter().find(|group| group["logGroupName"] == "/dbird/tiny-dev").map(|g| g["retentionInDays"].clone());
    assert_eq!(days, Some(json!(60)), "what was wanted is there: {groups:?}");
    assert_eq!(get(&cloud.address(), "/").unwrap().1, "hi");
}

#[test]
fn what_somebody_else_made_is_left_alone() {
    let cloud = cloud("faults-foreign");
    let cases = [
        // First, while there is none of ours.
        ("ecr", "CreateRepository", "DeleteRepository", json!({ "repositoryName": "tiny-dev" }), "'tiny-dev'"),
        ("logs", "CreateLogGroup", "DeleteLogGroup", json!({ "logGroupName": "/dbird/tiny-dev" }), "'/dbird/tiny-dev'"),
        ("ecs", "CreateCluster", "DeleteCluster", json!({ "clusterName": "tiny-dev" }), "'tiny-dev'"),
    ];
    for (service, make, delete, named, name) in cases {
        cloud.account.call(service, make, &named.to_string());
        let refused = cloud.run(&["deploy"]);
        told(
            &refused,
            1,
            &[
                "the stack tiny-dev could not be ",
                name,
                "already exists",
                "Something else made it",
                "Live: nothing serves",
            ],
        );
        // It is still there to be deleted by who made it.
        let named = if service == "ecs" { json!({ "cluster": "tiny-dev" }) } else { named };
        cloud.account.call(service, delete, &named.to_string());
    }
    told(&cloud.run(&["deploy"]), 0, &["serves at"]);
    assert_eq!(get(&cloud.address(), "/").unwrap().1, "hi");
}

#[test]
fn tasks_that_never_start_are_given_up_early_with_the_reason() {
    let cloud = cloud("faults-start");
    cloud.account.faults(&["no-capacity"]);
    let first = cloud.run(&["deploy"]);
    told(&first, 1, &["Capacity is unavailable", "may find room later", "Live: nothing serves"]);
    let cluster = json!({ "cluster": "tiny-dev" });
    assert!(list(&cloud.account, "ecs", "ListServices", &cluster, "serviceArns").is_empty(), "{first}");
    cloud.account.faults(&[]);
    cloud.ok(&["deploy"]);

    cloud.account.faults(&["no-capacity"]);
    told(&greeting(&cloud, "roomless", &[]), 3, &["Capacity is unavailable", "was rolled back", "serves at"]);
    cloud.account.faults(&["image-pull-fails"]);
    let image = greeting(&cloud, "imageless", &[]);
    told(&image, 3, &["3 tasks failed the same way: CannotPullContainerError", "`dbird doctor`", "serves at"]);
    cloud.account.faults(&[]);
    let secret = greeting(&cloud, "secretless", &["--set", "secrets.API_KEY={ name = \"nope\" }"]);
    told(&secret, 3, &["3 tasks failed the same way: ResourceInitializationError", "secret:nope", "`dbird doctor`"]);
    for ended in [&first, &image, &secret] {
        assert!(!ended.stderr.contains("deadline"), "it was not early: {ended}");
    }
    assert_eq!(get(&cloud.address(), "/").unwrap(), (200, "hi".to_owned()));
    told(&greeting(&cloud, "well", &[]), 0, &["serves at"]);
}

#[test]
fn what_turns_bad_after_all_traffic_moved_is_undone() {
    let cloud = cloud("faults-bake");
    cloud.ok(&["deploy"]);
    let bake = ["--set", "rollout.bake=20m"];
    cloud.account.faults(&["alarm-in-bake"]);
    let alarmed = greeting(&cloud, "alarmed", &bake);
    told(&alarmed, 3, &["r2 was rolled back: the cloud undid it", "tiny-dev-", "ALARM_ACTIVE", "Live: r1 serves"]);
    cloud.account.faults(&["task-dies-after-ready"]);
    let dead = greeting(&cloud, "dead", &bake);
    told(&dead, 3, &["traffic: r3 100 %", "r3 was rolled back", "tasks are ready", "Live: r1 serves"]);
    cloud.account.faults(&[]);
    let address = cloud.address();
    assert_eq!(get(&address, "/").unwrap(), (200, "hi".to_owned()));

    // A deployment that somebody else has begun is neither stopped nor taken for ours.
    let input = json!({ "cluster": "tiny-dev", "services": ["tiny"] });
    let service = list(&cloud.account, "ecs", "DescribeServices", &input, "services");
    let properties = json!({
        "TaskDefinition": service[0]["taskSets"][0]["taskDefinition"],
        "LoadBalancerInfo": { "ContainerName": "tiny", "ContainerPort": 8080 },
    });
    let resource = json!({ "TargetService": { "Type": "AWS::ECS::Service", "Properties": properties } });
    let content = json!({ "version": 0.0, "Resources": [resource] }).to_string();
    let wanted = json!({
        "applicationName": "tiny-dev", "deploymentGroupName": "tiny-dev", "description": "by hand",
        "revision": { "revisionType": "AppSpecContent", "appSpecContent": { "content": content } },
    });
    let begun = cloud.account.call("codedeploy", "CreateDeployment", &wanted.to_string());
    let id = begun["deploymentId"].as_str().unwrap();
    told(&cloud.run(&["status"]), 0, &[id, "(\"by hand\")", "not a release of dbird"]);
    let refused = greeting(&cloud, "late", &[]);
    told(
        &refused,
        3,
        &[id, "begun", "by a person or another program", "wait for its end, or stop it", "Live: r1 serves"],
    );
    let asked = json!({ "deploymentId": id });
    let still = cloud.account.call("codedeploy", "GetDeployment", &asked.to_string());
    assert!(["InProgress", "Ready"].contains(&still["deploymentInfo"]["status"].as_str().unwrap()), "{still}");
    assert_eq!(get(&address, "/").unwrap().0, 200);
}

#[test]
fn what_was_changed_by_hand_is_shown_and_put_back() {
    let cloud = cloud("faults-by-hand");
    let by_ecs = "[rollout]\ncontroller = \"ecs\"\nstrategy = \"rolling\"\nbake = \"0s\"\n";
    cloud.project.write("environments/dev.toml", by_ecs);
    cloud.ok(&["deploy"]);
    let ecs = |operation: &str, input: &Value| cloud.account.call("ecs", operation, &input.to_string());
    let service = |more: Value| {
        let mut input = json!({ "cluster": "tiny-dev", "service": "tiny" });
        input.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        input
    };
    ecs("UpdateService", &service(json!({ "desiredCount": 2 })));
    told(&cloud.run(&["plan"]), 0, &["desired_count  2 -> 1", "1 to change"]);
    cloud.ok(&["deploy"]);
    told(&cloud.run(&["plan"]), 0, &["No changes"]);

    let kept = ["family", "cpu", "memory", "networkMode", "requiresCompatibilities", "executionRoleArn", "taskRoleArn"];
    let mut found = ecs("DescribeTaskDefinition", &json!({ "taskDefinition": "tiny-dev" }))["taskDefinition"].take();
    let mut hand: Value = json!({ "containerDefinitions": found["containerDefinitions"].take() });
    for key in kept {
        hand[key] = found[key].take();
    }
    for variable in hand["containerDefinitions"][0]["environment"].as_array_mut().unwrap() {
        if variable["name"] == "GREETING" {
            variable["value"] = json!("hand");
        }
    }
    let registered = ecs("RegisterTaskDefinition", &hand);
    let arn = &registered["taskDefinition"]["taskDefinitionArn"];
    ecs("UpdateService", &service(json!({ "taskDefinition": arn })));
    let address = cloud.address();
    crate::sealed::until("what was set by hand serves alone", || {
        let input = json!({ "cluster": "tiny-dev", "services": ["tiny"] });
        let found = ecs("DescribeServices", &input)["services"][0]["deployments"].take();
        found.as_array().is_some_and(|all| all.len() == 1 && all[0]["rolloutState"] == "COMPLETED")
    });
    assert_eq!(get(&address, "/").unwrap().1, "hand");
    told(&cloud.run(&["plan"]), 0, &["environment.GREETING.value", "\"hand\" -> \"hi\""]);
    told(&cloud.run(&["status"]), 0, &["which was not registered by dbird: somebody changed it by hand"]);
    cloud.ok(&["deploy"]);
    assert_eq!(get(&address, "/").unwrap(), (200, "hi".to_owned()));

    // Half of the requests go where nothing is.
    let elb = cloud.account.calls();
    let made = elb.iter().find(|call| call["operation"] == "CreateRule" && call["code"].is_null()).unwrap();
    let rule = made["output"]["Rules"][0]["RuleArn"].as_str().unwrap();
    let groups = &made["input"]["Actions"][0]["ForwardConfig"]["TargetGroups"];
    let member = "Actions.member.1.ForwardConfig.TargetGroups.member";
    let mut form = format!("Action=ModifyRule&Version=2015-12-01&RuleArn={rule}&Actions.member.1.Type=forward");
    for (at, group) in [1, 2].into_iter().zip(groups.as_array().unwrap()) {
        let group = group["TargetGroupArn"].as_str().unwrap();
        form += &format!("&{member}.{at}.TargetGroupArn={group}&{member}.{at}.Weight=50");
    }
    cloud.account.form("elasticloadbalancing", &form);
    told(&cloud.run(&["drift"]), 0, &["the listener's rule", "50"]);

    // What can't be changed by AWS is refused before anything is changed.
    cloud.project.write("environments/dev.toml", "");
    // A plan makes a change set, and no more.
    let changed =
        || cloud.account.calls().iter().filter(|call| changes(call) && call["operation"] != "CreateChangeSet").count();
    let before = changed();
    told(
        &cloud.run(&["deploy"]),
        1,
        &["something stands in the way", "`ecs`", "AWS can't change that to `codedeploy`", "the data stays", "Live: r"],
    );
    assert_eq!(changed(), before);
}

#[test]
fn the_wrong_account_and_a_missing_bucket_are_refused_first() {
    let cloud = cloud("faults-refused");
    cloud.project.write("environments/dev.toml", "[cloud.aws]\naccount = \"999999999999\"\n");
    let words = ["the credentials are for account 123456789012", "999999999999", "check AWS_PROFILE"];
    told(&cloud.run(&["deploy"]), 1, &words);
    cloud.project.write("environments/dev.toml", "[cloud.aws]\nstate = \"s3://nobodys-bucket/x\"\n");
    told(&cloud.run(&["deploy"]), 1, &["s3://nobodys-bucket/x", "there is no bucket nobodys-bucket", "make it with"]);
    assert_eq!(mutating(&cloud.account), BTreeSet::new(), "something was made all the same");
}
