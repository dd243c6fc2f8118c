//! Rendering for AWS: every environment gives whole templates that refer to nothing that isn't there, tag everything, and
//! keep the data.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

mod variants;

use std::collections::{BTreeMap, BTreeSet};

use dbird_core::{Digest, Documents, ImageRef, Spec, StepId, StepKind, document};
use dbird_templates::{TemplateError, bootstrap, render};
use serde_json::{Value, json};

fn body(documents: &Documents, step: &str) -> Value {
    documents.get(&StepId::new(step)).unwrap_or_else(|| panic!("no step {step}")).body.clone()
}

fn documents(spec: &Spec) -> Documents {
    render(spec, None, None).unwrap()
}

fn rendered(name: &str) -> Documents {
    let all = variants::all();
    documents(&all.iter().find(|v| v.name.ends_with(name)).unwrap_or_else(|| panic!("no variant {name}")).spec)
}

/// Each object within a value.
fn walk<'v>(value: &'v Value, seen: &mut dyn FnMut(&'v serde_json::Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            seen(map);
            map.values().for_each(|v| walk(v, seen));
        }
        Value::Array(items) => items.iter().for_each(|v| walk(v, seen)),
        _ => {}
    }
}

/// Logical ids that a template refers to.
fn referred(template: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    walk(template, &mut |map| {
        if let Some(Value::String(name)) = map.get("Ref") {
            names.insert(name.clone());
        }
        if let Some(Value::Array(parts)) = map.get("Fn::GetAtt") {
            names.insert(parts[0].as_str().unwrap().to_owned());
        }
        if let Some(Value::String(name)) = map.get("DependsOn") {
            names.insert(name.clone());
        }
        if let Some(Value::String(text)) = map.get("Fn::Sub") {
            for part in text.split("${").skip(1) {
                let name = part.split('}').next().unwrap();
                names.insert(if name.starts_with("AWS::") { name } else { name.split('.').next().unwrap() }.to_owned());
            }
        }
    });
    names
}

fn templates(documents: &Documents) -> BTreeMap<String, Value> {
    let of = |d: &dbird_core::Document| Some((d.step.0.clone(), d.body.get("template")?.clone()));
    documents.steps.iter().filter_map(of).collect()
}

fn resources(template: &Value) -> impl Iterator<Item = (&String, &Value)> {
    template["Resources"].as_object().unwrap().iter()
}

#[test]
fn every_environment_renders_to_the_same_documents_twice() {
    for variant in variants::all() {
        let first = documents(&variant.spec);
        assert_eq!(first.digest(), documents(&variant.spec).digest(), "{}", variant.name);
        let steps: Vec<&str> = first.steps.iter().map(|d| d.step.0.as_str()).collect();
        let order = ["network", "data", "images", "infrastructure", "image", "service"];
        let wanted: Vec<&str> = order.into_iter().filter(|step| steps.contains(step)).collect();
        assert_eq!(steps, wanted, "{}", variant.name);
        let spec = &variant.spec;
        assert_eq!(steps.contains(&"network"), spec.aws.network != "own", "{}", variant.name);
        assert_eq!(steps.contains(&"data"), spec.storage.is_some(), "{}", variant.name);
        assert_eq!(steps.contains(&"images"), spec.aws.repository.is_none(), "{}", variant.name);
    }
}

#[test]
fn templates_refer_only_to_what_they_have() {
    for variant in variants::all() {
        for (step, template) in templates(&documents(&variant.spec)) {
            let there: BTreeSet<String> = resources(&template).map(|(name, _)| name.clone()).collect();
            let missing: Vec<String> =
                referred(&template).into_iter().filter(|n| !n.starts_with("AWS::") && !there.contains(n)).collect();
            assert!(missing.is_empty(), "{} {step}: {missing:?}", variant.name);
        }
    }
}

#[test]
fn documents_refer_only_to_what_earlier_steps_give() {
    for variant in variants::all() {
        let documents = documents(&variant.spec);
        let mut given: BTreeSet<(String, String)> = BTreeSet::new();
        for document in &documents.steps {
            walk(&document.body, &mut |map| {
                if let Some(reference) = map.get("$output") {
                    let text = |key: &str| reference[key].as_str().unwrap().to_owned();
                    let pair = (text("step"), text("name"));
                    assert!(given.contains(&pair), "{} {}: {pair:?}", variant.name, document.step);
                }
            });
            let outputs = document.body.pointer("/template/Outputs").and_then(Value::as_object);
            given.extend(outputs.into_iter().flatten().map(|(name, _)| (document.step.0.clone(), name.clone())));
            if document.kind == StepKind::Image {
                given.extend(["digest", "reference"].map(|name| (document.step.0.clone(), name.to_owned())));
            }
        }
    }
}

/// What CloudFormation can't tag.
const UNTAGGED: [&str; 7] = [
    "AWS::CodeDeploy::DeploymentConfig",
    "AWS::EC2::Route",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::EFS::MountTarget",
    "AWS::SNS::Subscription",
];

#[test]
fn everything_that_can_be_tagged_is() {
    for variant in variants::all() {
        let spec = &variant.spec;
        for (step, template) in templates(&documents(spec)) {
            for (name, resource) in resources(&template) {
                if UNTAGGED.contains(&resource["Type"].as_str().unwrap()) {
                    continue;
                }
                let properties = &resource["Properties"];
                let tags =
                    ["Tags", "FileSystemTags", "AccessPointTags"].into_iter().find_map(|key| properties.get(key));
                let tags = tags.unwrap_or_else(|| panic!("{} {step}: {name} has no tags", variant.name));
                let has =
                    |key: &str, value: &str| tags.as_array().unwrap().contains(&json!({ "Key": key, "Value": value }));
                let right = match step.as_str() {
                    "network" => has("dbird:network", &spec.aws.network),
                    _ => has("dbird:service", &spec.service.name) && has("dbird:environment", &spec.environment),
                };
                assert!(right, "{} {step}: {name} has {tags}", variant.name);
            }
        }
    }
}

#[test]
fn data_are_kept_and_nothing_else_is() {
    for variant in variants::all() {
        let templates = templates(&documents(&variant.spec));
        let whole = &templates["infrastructure"];
        for (name, resource) in resources(whole) {
            for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
                let kept = resource.get(policy).is_some_and(|policy| policy != "Delete");
                assert_eq!(kept, name.starts_with("Data"), "{}: {name}", variant.name);
                assert!(!kept || resource[policy] == "Retain", "{}: {name}", variant.name);
            }
        }
        for step in ["data", "images"] {
            let Some(template) = templates.get(step) else { continue };
            assert!(template.get("Outputs").is_none(), "an import can't change outputs");
            for (name, resource) in resources(template) {
                assert!(name.starts_with("Data"), "{name}");
                assert_eq!(whole["Resources"][name], *resource, "{}: {name}", variant.name);
            }
        }
        let kept = resources(whole).filter(|(name, _)| name.starts_with("Data")).count();
        let steps = ["data", "images"].into_iter().filter_map(|step| templates.get(step)).flat_map(resources).count();
        assert_eq!(kept, steps, "{}", variant.name);
    }
}

/// Names that others refer to before the thing is there.
const NAMED: [(&str, &str); 6] = [
    ("AWS::ECS::Cluster", "ClusterName"),
    ("AWS::CodeDeploy::Application", "ApplicationName"),
    ("AWS::CodeDeploy::DeploymentConfig", "DeploymentConfigName"),
    ("AWS::CloudWatch::Alarm", "AlarmName"),
    ("AWS::Logs::LogGroup", "LogGroupName"),
    ("AWS::ECR::Repository", "RepositoryName"),
];

#[test]
fn only_what_is_named_by_others_has_a_name() {
    for variant in variants::all() {
        for (_, template) in templates(&documents(&variant.spec)) {
            for (id, resource) in resources(&template) {
                let kind = resource["Type"].as_str().unwrap();
                let own = kind.rsplit("::").next().unwrap();
                let keys = ["Name".to_owned(), format!("{own}Name"), "GroupName".to_owned()];
                let named = resource["Properties"].as_object().unwrap().keys().find(|key| keys.contains(key));
                let may = NAMED.iter().find(|(of, _)| *of == kind).map(|(_, key)| *key);
                assert_eq!(named.map(String::as_str), may, "{}: {id}", variant.name);
            }
        }
    }
}

#[test]
fn the_service_of_production_is_exactly_this() {
    let image = ImageRef { repository: "oci:.dbird/images".into(), digest: Digest::of(b"image") };
    let all = variants::environments();
    let prod = &all.iter().find(|v| v.name.contains("./environments/prod")).unwrap().spec;
    let documents = render(prod, Some(&image), None).unwrap();
    let infrastructure = |name: &str| document::reference(&StepId::new("infrastructure"), name);
    assert_eq!(
        body(&documents, "image"),
        json!({ "repository": infrastructure("Repository"), "source": "oci:.dbird/images", "digest": image.digest })
    );
    assert_eq!(
        body(&documents, "service"),
        json!({
            "name": "drafty-bird", "environment": "prod", "storage_protocol": 1,
            "cluster": infrastructure("Cluster"), "controller": "codedeploy", "image_digest": image.digest,
            "task_definition": {
                "family": "drafty-bird-prod", "cpu": "256", "memory": "512", "networkMode": "awsvpc",
                "requiresCompatibilities": ["FARGATE"],
                "runtimePlatform": { "cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX" },
                "executionRoleArn": infrastructure("ExecutionRole"), "taskRoleArn": infrastructure("TaskRole"),
                "containerDefinitions": [{
                    "name": "drafty-bird", "image": document::reference(&StepId::new("image"), "reference"),
                    "essential": true, "portMappings": [{ "containerPort": 8080, "protocol": "tcp" }],
                    "environment": [
                        { "name": "PORT", "value": "8080" },
                        { "name": "SCORE_DB_PATH", "value": "/data/db.sqlite" },
                        { "name": "SCORE_STORAGE", "value": "spool" },
                    ],
                    "secrets": [],
                    "mountPoints": [{ "sourceVolume": "data", "containerPath": "/data" }],
                    "readonlyRootFilesystem": true, "linuxParameters": { "initProcessEnabled": true },
                    "stopTimeout": 30,
                    "logConfiguration": { "logDriver": "awslogs", "options": {
                        "awslogs-group": "/dbird/drafty-bird-prod", "awslogs-region": "us-east-1",
                        "awslogs-stream-prefix": "task",
                    } },
                }],
                "volumes": [{ "name": "data", "efsVolumeConfiguration": {
                    "fileSystemId": infrastructure("FileSystem"), "transitEncryption": "ENABLED",
                    "authorizationConfig": { "accessPointId": infrastructure("AccessPoint"), "iam": "ENABLED" },
                } }],
            },
            "desired_count": 1,
            "network": {
                "subnets": [infrastructure("SubnetA"), infrastructure("SubnetB")],
                "security_groups": [infrastructure("TaskSecurityGroup")], "assign_public_ip": false,
            },
            "platform_version": "1.4.0", "grace_s": 40, "exec": false,
            "traffic": {
                "blue": infrastructure("BlueTargetGroup"), "green": infrastructure("GreenTargetGroup"),
                "listener": infrastructure("ProductionListener"), "test_listener": infrastructure("TestListener"),
            },
            "codedeploy": {
                "application": "drafty-bird-prod", "group": "drafty-bird-prod",
                "config": "CodeDeployDefault.ECSCanary10Percent5Minutes", "role": infrastructure("DeploymentRole"),
                "ready_wait_minutes": 0, "termination_wait_minutes": 35,
                "alarms": [
                    "drafty-bird-prod-blue-errors", "drafty-bird-prod-blue-slow",
                    "drafty-bird-prod-green-errors", "drafty-bird-prod-green-slow",
                ],
            },
            "ecs": null, "scaling": null,
        })
    );
}

#[test]
fn each_strategy_is_said_in_its_engines_words() {
    let own = |what: &str| json!({ "config": format!("drafty-bird-staging-{what}") });
    #[rustfmt::skip]
    let cases = [
        ("dev rollout.strategy=blue-green", "codedeploy", json!({ "config": "CodeDeployDefault.ECSAllAtOnce", "termination_wait_minutes": 30 })),
        ("staging rollout.strategy=linear rollout.percent=10 rollout.every=3m", "codedeploy", json!({ "config": "CodeDeployDefault.ECSLinear10PercentEvery3Minutes" })),
        ("staging rollout.strategy=linear rollout.percent=25 rollout.every=2m", "codedeploy", own("linear-25-percent-2-minutes")),
        ("environments/dev ", "codedeploy", json!({})),
        ("dev rollout.controller=ecs", "ecs", json!({ "strategy": "CANARY", "percent": 20, "minutes": 1, "pauses": ["PRE_PRODUCTION_TRAFFIC_SHIFT"], "circuit_breaker": false })),
        ("dev rollout.controller=ecs rollout.strategy=blue-green", "ecs", json!({ "strategy": "BLUE_GREEN", "pauses": [], "percent": null, "minimum_percent": 100, "maximum_percent": 200 })),
        ("dev rollout.controller=ecs rollout.strategy=linear rollout.percent=20", "ecs", json!({ "strategy": "LINEAR", "percent": 20, "minutes": 1 })),
        ("dev rollout.controller=ecs rollout.strategy=rolling", "ecs", json!({ "strategy": "ROLLING", "circuit_breaker": true, "minimum_percent": 50, "maximum_percent": 200, "role": null })),
        ("dev rollout.controller=ecs rollout.strategy=recreate", "ecs", json!({ "strategy": "ROLLING", "minimum_percent": 0, "maximum_percent": 100 })),
        ("dev rollout.strategy=blue-green storage.writer=exclusive", "ecs", json!({ "strategy": "ROLLING", "minimum_percent": 0, "maximum_percent": 100 })),
        ("mashroom/environments/prod ", "ecs", json!({ "strategy": "ROLLING", "minimum_percent": 50, "maximum_percent": 150, "bake_minutes": 0 })),
    ];
    for (name, controller, wanted) in cases {
        let documents = rendered(name);
        let service = body(&documents, "service");
        let other = if controller == "ecs" { "codedeploy" } else { "ecs" };
        assert_eq!((&service["controller"], &service[other]), (&json!(controller), &Value::Null), "{name}");
        for (key, value) in wanted.as_object().unwrap() {
            assert_eq!(service[controller][key], *value, "{name}: {key}");
        }
        // The stack has what this engine needs and nothing of the other.
        let outputs = body(&documents, "infrastructure")["template"]["Outputs"].clone();
        assert_eq!(outputs.get("Application").is_some(), controller == "codedeploy", "{name}");
        assert_eq!(outputs.get("EcsRole").is_some(), service["ecs"]["role"].is_object(), "{name}");
        let config = service["codedeploy"]["config"].as_str().unwrap_or("CodeDeployDefault");
        let made = body(&documents, "infrastructure")["template"]["Resources"].get("DeploymentConfig").is_some();
        assert_eq!(made, !config.starts_with("CodeDeployDefault"), "{name}");
    }
}

#[test]
fn secrets_are_named_and_readable_and_never_there() {
    let all = variants::all();
    let spec = &all.iter().find(|v| v.name.contains("secrets.A_B")).unwrap().spec;
    let documents = documents(spec);
    let infrastructure = |name: &str| document::reference(&StepId::new("infrastructure"), name);
    let secrets = &body(&documents, "service")["task_definition"]["containerDefinitions"][0]["secrets"];
    let arn = |rest: &str| format!("arn:aws:secretsmanager:us-east-1:123456789012:secret:{rest}");
    assert_eq!(
        *secrets,
        json!([
            { "name": "AB", "valueFrom": "/two" },
            { "name": "A_B", "valueFrom": infrastructure("SecretAB") },
            { "name": "C", "valueFrom": arn("three-AbCdEf:key::") },
            { "name": "D", "valueFrom": "arn:aws:ssm:us-east-1:123456789012:parameter/four" },
            { "name": "SECRET_WORD", "valueFrom": infrastructure("SecretSECRETWORD") },
            { "name": "a-b", "valueFrom": infrastructure("Secretab") },
        ])
    );
    let statements = body(&documents, "infrastructure")
        .pointer("/template/Resources/ExecutionRole/Properties/Policies/0/PolicyDocument/Statement")
        .unwrap()
        .clone();
    let reads = |action: &str| {
        statements.as_array().unwrap().iter().find(|s| s["Action"] == json!([action])).unwrap()["Resource"].clone()
    };
    let named = |name: &str| {
        let rest = "secretsmanager:${AWS::Region}:${AWS::AccountId}:secret";
        json!({ "Fn::Sub": format!("arn:${{AWS::Partition}}:{rest}:{name}-??????") })
    };
    assert_eq!(
        reads("secretsmanager:GetSecretValue"),
        json!([arn("three-AbCdEf"), arn("three-AbCdEf-??????"), named("five"), named("one"), named("secret-word")])
    );
    assert_eq!(
        reads("ssm:GetParameters"),
        json!([
            "arn:aws:ssm:us-east-1:123456789012:parameter/four",
            { "Fn::Sub": "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/two" },
        ])
    );
}

#[test]
fn a_name_that_two_modules_give_is_refused() {
    let variant = variants::environments().remove(0);
    let own = |name: &str| {
        (name == "aws/delivery.json.tera").then(|| r#"{"Resources": {"Cluster": {}}, "Outputs": {}}"#.to_owned())
    };
    let error = render(&variant.spec, None, Some(&own)).unwrap_err();
    assert_eq!(error, TemplateError::Twice { section: "Resources", name: "Cluster".into() });
}

#[test]
fn the_bucket_of_the_state_is_closed_and_kept() {
    let template = bootstrap("bird-state", "bird", None).unwrap();
    let bucket = &template["Resources"]["StateBucket"];
    assert_eq!(bucket["DeletionPolicy"], "Retain");
    assert_eq!(bucket["Properties"]["BucketName"], "bird-state");
    assert_eq!(bucket["Properties"]["VersioningConfiguration"]["Status"], "Enabled");
    let blocks = bucket["Properties"]["PublicAccessBlockConfiguration"].as_object().unwrap();
    assert!(blocks.len() == 4 && blocks.values().all(|v| *v == true), "{blocks:?}");
    assert!(referred(&template).iter().all(|name| name.starts_with("AWS::") || name == "StateBucket"));
}
