//! What the templates for AWS must never allow, as laws over every environment. Each law has specimens, templates broken on
//! purpose, so that a law that sees nothing is found out.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

mod variants;

use std::collections::BTreeSet;

use dbird_core::Spec;
use dbird_templates::{bootstrap, render};
use serde_json::{Value, json};

/// What a law looks at: the specification, and its documents by step.
struct Rendered {
    spec: Spec,
    documents: Value,
}

/// Says what it objects to.
type Law = fn(&Rendered) -> Vec<String>;

impl Rendered {
    fn of(spec: &Spec) -> Self {
        let steps = render(spec, None, None).unwrap().steps;
        let documents = steps.into_iter().map(|d| (d.step.0, d.body)).collect();
        Rendered { spec: spec.clone(), documents: Value::Object(documents) }
    }

    /// Every resource of every step's template.
    fn resources(&self) -> Vec<(&String, &Value)> {
        let templates = self.documents.as_object().unwrap().values().filter_map(|body| body.get("template"));
        templates.flat_map(|template| template["Resources"].as_object().unwrap()).collect()
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a String, &'a Value)> {
        let found = self.resources().into_iter().filter(move |(_, resource)| resource["Type"] == kind);
        found.map(|(id, resource)| (id, &resource["Properties"]))
    }

    fn service(&self) -> &Value {
        &self.documents["service"]
    }
}

fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    }
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

/// Actions that may stand on `*`, each with the reason.
const ON_EVERYTHING: [(&str, &str); 15] = [
    ("cloudwatch:DescribeAlarms", "alarms are asked for by name, which is no ARN"),
    ("ecr:GetAuthorizationToken", "says who asks; gives nothing of a repository"),
    ("elasticloadbalancing:DescribeListeners", "AWS knows no resource for it"),
    ("elasticloadbalancing:DescribeLoadBalancers", "AWS knows no resource for it"),
    ("elasticloadbalancing:DescribeRules", "AWS knows no resource for it"),
    ("elasticloadbalancing:DescribeTargetGroups", "AWS knows no resource for it"),
    ("elasticloadbalancing:DescribeTargetHealth", "AWS knows no resource for it"),
    ("ssmmessages:CreateControlChannel", "a session's channel has no name before it is opened; only with exec = true"),
    ("ssmmessages:CreateDataChannel", "as above"),
    ("ssmmessages:OpenControlChannel", "as above"),
    ("ssmmessages:OpenDataChannel", "as above"),
    ("xray:GetSamplingRules", "AWS knows no resource for it; only with the collector"),
    ("xray:GetSamplingTargets", "as above"),
    ("xray:PutTelemetryRecords", "as above"),
    ("xray:PutTraceSegments", "as above"),
];

/// Each action that a statement allows, and whether on everything.
fn allowed(rendered: &Rendered) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    walk(&rendered.documents, &mut |statement| {
        if statement.get("Effect") != Some(&json!("Allow")) {
            return;
        }
        // A role's trust policy stands on the role itself.
        let Some(resource) = statement.get("Resource") else { return };
        let everything = list(resource).contains(&&json!("*"));
        let actions = list(&statement["Action"]).into_iter().map(|action| action.as_str().unwrap().to_owned());
        found.extend(actions.map(|action| (action, everything)));
    });
    found
}

/// No action has a wildcard, and none stands on everything without a reason.
fn narrow_roles(rendered: &Rendered) -> Vec<String> {
    let justified = |action: &str| ON_EVERYTHING.iter().any(|(known, _)| *known == action);
    let wide =
        |(action, everything): &(String, bool)| action.contains(['*', '?']) || (*everything && !justified(action));
    allowed(rendered).into_iter().filter(wide).map(|(action, _)| action).collect()
}

/// Nobody but AWS's own services takes a role on, and nothing is allowed to everybody.
fn nobody_else_takes_roles(rendered: &Rendered) -> Vec<String> {
    let mut wrong = Vec::new();
    walk(&rendered.documents, &mut |statement| {
        if statement.get("Effect") != Some(&json!("Allow")) || !statement.contains_key("Principal") {
            return;
        }
        let who = &statement["Principal"];
        let services = list(&who["Service"]);
        let known = |service: &&Value| service.as_str().is_some_and(|name| name.ends_with(".amazonaws.com"));
        if services.is_empty() || !services.iter().all(known) || who.as_object().is_none_or(|keys| keys.len() != 1) {
            wrong.push(who.to_string());
        }
    });
    wrong
}

/// Tasks have an address in the internet only where that was chosen.
fn no_public_task_unless_chosen(rendered: &Rendered) -> Vec<String> {
    let mut wrong = Vec::new();
    let public = rendered.service()["network"]["assign_public_ip"] != json!(false);
    if public && rendered.spec.aws.egress != "public-ip" {
        wrong.push("assign_public_ip".to_owned());
    }
    let mapped = rendered.of_kind("AWS::EC2::Subnet").filter(|(_, p)| p["MapPublicIpOnLaunch"] != json!(false));
    wrong.extend(mapped.map(|(id, _)| id.clone()));
    wrong
}

/// From outside only users' ports of the load balancer can be reached, its test listener by those who are named, tasks by
/// nobody.
fn closed_to_outsiders(rendered: &Rendered) -> Vec<String> {
    let spec = &rendered.spec;
    let users: &[i64] = if spec.aws.certificate.is_some() { &[80, 443] } else { &[80] };
    let mut wrong = Vec::new();
    let groups = rendered
        .of_kind("AWS::EC2::SecurityGroup")
        .flat_map(|(id, properties)| list(&properties["SecurityGroupIngress"]).into_iter().map(move |rule| (id, rule)));
    for (id, rule) in groups.chain(rendered.of_kind("AWS::EC2::SecurityGroupIngress")) {
        if rule.get("SourceSecurityGroupId").is_some() {
            continue;
        }
        let from = rule.get("CidrIp").or_else(|| rule.get("CidrIpv6")).cloned().unwrap_or_default();
        let ports = (rule["FromPort"].as_i64(), rule["ToPort"].as_i64());
        let everybody = from == "0.0.0.0/0" || from == "::/0";
        let for_users = ports.0 == ports.1 && ports.0.is_some_and(|port| users.contains(&port));
        let named = spec.aws.test_cidrs.iter().any(|cidr| from == cidr.as_str());
        // Within the network, and the addresses from which its own tasks go out.
        let inside = from == spec.aws.cidr.as_str() || from.is_object();
        let balancer = id == "LoadBalancerSecurityGroup";
        let endpoints = id.contains("Endpoint") && inside;
        let right = endpoints || balancer && if everybody { for_users } else { named || inside };
        if !right {
            wrong.push(format!("{id}: {from} to {ports:?}"));
        }
    }
    wrong
}

/// AWS's listener policies that take nothing older than TLS 1.2.
const MODERN: [&str; 4] = [
    "ELBSecurityPolicy-TLS13-1-2-2021-06",
    "ELBSecurityPolicy-TLS13-1-2-Res-2021-06",
    "ELBSecurityPolicy-TLS13-1-3-2021-06",
    "ELBSecurityPolicy-TLS-1-2-2017-01",
];

/// Where there is a certificate, nothing is served without TLS, and none of it is older than 1.2.
fn modern_tls(rendered: &Rendered) -> Vec<String> {
    let wrong = |listener: &Value| match listener["Protocol"].as_str() {
        Some("HTTPS") => !listener["SslPolicy"].as_str().is_some_and(|policy| MODERN.contains(&policy)),
        Some("HTTP") if rendered.spec.aws.certificate.is_some() => {
            let actions = list(&listener["DefaultActions"]);
            let redirect =
                |action: &&Value| action["Type"] == "redirect" && action["RedirectConfig"]["Protocol"] == "HTTPS";
            actions.len() != 1 || !actions.iter().all(redirect)
        }
        Some("HTTP") => false,
        _ => true,
    };
    let listeners = rendered.of_kind("AWS::ElasticLoadBalancingV2::Listener");
    listeners.filter(|(_, listener)| wrong(listener)).map(|(id, _)| id.clone()).collect()
}

/// A file system is encrypted, at rest and on its way, and mounted with the task's role through the access point only.
fn guarded_file_systems(rendered: &Rendered) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, system) in rendered.of_kind("AWS::EFS::FileSystem") {
        let denied = |condition: &Value| {
            list(&system["FileSystemPolicy"]["Statement"]).into_iter().any(|statement| {
                statement["Effect"] == "Deny"
                    && statement["Principal"]["AWS"] == "*"
                    && statement["Condition"] == *condition
            })
        };
        let tls = denied(&json!({ "Bool": { "aws:SecureTransport": "false" } }));
        let access_point = denied(&json!({ "Null": { "elasticfilesystem:AccessPointArn": "true" } }));
        if system["Encrypted"] != true || !tls || !access_point {
            wrong.push(id.clone());
        }
    }
    for volume in list(&rendered.service()["task_definition"]["volumes"]) {
        let efs = &volume["efsVolumeConfiguration"];
        let authorized = &efs["authorizationConfig"];
        if efs["transitEncryption"] != "ENABLED"
            || authorized["iam"] != "ENABLED"
            || authorized["accessPointId"].is_null()
        {
            wrong.push(format!("volume {}", volume["name"]));
        }
    }
    // Mounting is allowed with the access point only.
    walk(&rendered.documents, &mut |statement| {
        let mounts = |action: &&Value| action.as_str().is_some_and(|a| a.starts_with("elasticfilesystem:Client"));
        let allows = statement.get("Effect") == Some(&json!("Allow"));
        let through = statement
            .get("Condition")
            .is_some_and(|c| !c["StringEquals"]["elasticfilesystem:AccessPointArn"].is_null());
        if allows && statement.get("Action").is_some_and(|a| list(a).iter().any(mounts)) && !through {
            wrong.push("a role may mount without the access point".to_owned());
        }
    });
    wrong
}

/// A secret is named, never told: the task is given its name, and no variable of the same name beside it.
fn secrets_are_named_only(rendered: &Rendered) -> Vec<String> {
    let mut wrong = Vec::new();
    let own = &rendered.service()["task_definition"]["containerDefinitions"][0];
    let plain: BTreeSet<&str> = list(&own["environment"]).iter().filter_map(|v| v["name"].as_str()).collect();
    let given: BTreeSet<&str> = list(&own["secrets"]).iter().filter_map(|s| s["name"].as_str()).collect();
    for name in rendered.spec.secrets.keys().map(String::as_str) {
        if plain.contains(name) || !given.contains(name) {
            wrong.push(name.to_owned());
        }
    }
    let from = |secret: &Value| {
        let place = &secret["valueFrom"];
        place.is_object() || place.as_str().is_some_and(|text| text.starts_with("arn:") || text.starts_with('/'))
    };
    wrong.extend(list(&own["secrets"]).into_iter().filter(|secret| !from(secret)).map(Value::to_string));
    wrong
}

const LAWS: [(&str, Law); 7] = [
    ("narrow roles", narrow_roles),
    ("nobody else takes roles", nobody_else_takes_roles),
    ("no public task unless chosen", no_public_task_unless_chosen),
    ("closed to outsiders", closed_to_outsiders),
    ("TLS 1.2 or newer", modern_tls),
    ("guarded file systems", guarded_file_systems),
    ("secrets are named only", secrets_are_named_only),
];

#[test]
fn every_environment_obeys_every_law() {
    let mut used = BTreeSet::new();
    for variant in variants::all() {
        let rendered = Rendered::of(&variant.spec);
        for (name, law) in LAWS {
            let wrong = law(&rendered);
            assert!(wrong.is_empty(), "{}: {name}: {wrong:?}", variant.name);
        }
        used.extend(allowed(&rendered).into_iter().filter(|(_, everything)| *everything).map(|(action, _)| action));
    }
    // A justification that nothing needs any more goes.
    assert_eq!(used.len(), ON_EVERYTHING.len(), "{used:?}");
}

/// What breaks a law: the environment, the place in its documents, and what stands there then.
fn specimens() -> Vec<(&'static str, &'static str, String, Value)> {
    const PROD: &str = "/./environments/prod ";
    let quest = "secrets.a-b.name=five";
    let resource = |id: &str, rest: &str| format!("/infrastructure/template/Resources/{id}/Properties/{rest}");
    let statement =
        |id: &str, n: u8, rest: &str| resource(id, &format!("Policies/0/PolicyDocument/Statement/{n}/{rest}"));
    let trust = |rest: &str| resource("TaskRole", &format!("AssumeRolePolicyDocument/Statement/0/{rest}"));
    let volume = |rest: &str| format!("/service/task_definition/volumes/0/efsVolumeConfiguration/{rest}");
    let container = |rest: &str| format!("/service/task_definition/containerDefinitions/0/{rest}");
    let everybody = |port: u16| json!({ "IpProtocol": "tcp", "FromPort": port, "ToPort": port, "CidrIp": "0.0.0.0/0" });
    vec![
        ("narrow roles", PROD, statement("ExecutionRole", 1, "Action/0"), json!("ecr:*")),
        ("narrow roles", PROD, statement("ExecutionRole", 1, "Resource"), json!("*")),
        ("narrow roles", PROD, statement("DeploymentRole", 2, "Resource"), json!(["arn:aws:x", "*"])),
        ("nobody else takes roles", PROD, trust("Principal"), json!({ "AWS": "*" })),
        ("nobody else takes roles", PROD, trust("Principal/AWS"), json!("arn:aws:iam::999999999999:root")),
        ("nobody else takes roles", PROD, trust("Principal"), json!("*")),
        ("no public task unless chosen", PROD, "/service/network/assign_public_ip".to_owned(), json!(true)),
        ("no public task unless chosen", PROD, resource("PublicSubnetA", "MapPublicIpOnLaunch"), json!(true)),
        ("closed to outsiders", PROD, resource("TaskSecurityGroup", "SecurityGroupIngress/0"), everybody(8080)),
        ("closed to outsiders", PROD, resource("TaskFromTask", ""), everybody(8080)),
        ("closed to outsiders", PROD, resource("LoadBalancerSecurityGroup", "SecurityGroupIngress/0"), everybody(8443)),
        ("closed to outsiders", PROD, resource("FileSystemSecurityGroup", "SecurityGroupIngress/0"), everybody(2049)),
        ("TLS 1.2 or newer", PROD, resource("ProductionListener", "SslPolicy"), json!("ELBSecurityPolicy-2016-08")),
        ("TLS 1.2 or newer", PROD, resource("TestListener", "Protocol"), json!("HTTP")),
        ("TLS 1.2 or newer", PROD, resource("RedirectListener", "DefaultActions/0/Type"), json!("forward")),
        (
            "guarded file systems",
            PROD,
            "/data/template/Resources/DataFileSystem/Properties/Encrypted".to_owned(),
            json!(false),
        ),
        (
            "guarded file systems",
            PROD,
            resource("DataFileSystem", "FileSystemPolicy/Statement/0/Effect"),
            json!("Allow"),
        ),
        ("guarded file systems", PROD, resource("DataFileSystem", "FileSystemPolicy/Statement/1/Condition"), json!({})),
        ("guarded file systems", PROD, volume("transitEncryption"), json!("DISABLED")),
        ("guarded file systems", PROD, volume("authorizationConfig/iam"), json!("DISABLED")),
        ("guarded file systems", PROD, volume("authorizationConfig/accessPointId"), Value::Null),
        ("guarded file systems", PROD, statement("TaskRole", 0, "Condition"), json!({})),
        ("secrets are named only", quest, container("secrets/0/valueFrom"), json!("hunter2")),
        ("secrets are named only", quest, container("secrets"), json!([])),
        ("secrets are named only", quest, container("environment/0/name"), json!("SECRET_WORD")),
    ]
}

#[test]
fn every_law_sees_what_breaks_it() {
    let all = variants::all();
    let mut broken = BTreeSet::new();
    for (name, variant, place, value) in specimens() {
        let spec = &all.iter().find(|v| v.name.ends_with(variant)).unwrap_or_else(|| panic!("no {variant}")).spec;
        let mut rendered = Rendered::of(spec);
        let place = place.trim_end_matches('/');
        let (parent, key) = place.rsplit_once('/').unwrap();
        let parent = rendered.documents.pointer_mut(parent).unwrap_or_else(|| panic!("{place} is not there"));
        match key.parse::<usize>() {
            Ok(index) => parent[index] = value.clone(),
            Err(_) => parent[key] = value.clone(),
        }
        let law = LAWS.iter().find(|(law, _)| *law == name).unwrap().1;
        assert!(!law(&rendered).is_empty(), "{name} does not see {value} at {place}");
        broken.insert(name);
    }
    assert_eq!(broken.len(), LAWS.len(), "a law without a specimen");
}

#[test]
fn the_bucket_of_the_state_takes_nothing_without_tls() {
    let template = bootstrap("bird-state", "bird", None).unwrap();
    let mut denied = 0;
    walk(&template, &mut |statement| {
        if statement.get("Effect").is_some() {
            assert_eq!(statement["Effect"], "Deny", "{statement:?}");
            assert_eq!(statement["Condition"], json!({ "Bool": { "aws:SecureTransport": "false" } }));
            denied += 1;
        }
    });
    assert_eq!(denied, 1);
    let bucket = &template["Resources"]["StateBucket"]["Properties"];
    assert!(bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0].is_object(), "{bucket}");
}
