//! The life of a stack.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::aws::{Answer, Call, Settings, World, dispatch};

struct Account {
    world: Arc<World>,
    _folder: tempfile::TempDir,
}

impl Account {
    fn new(faults: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            speed: 5_000.0,
            account: "123456789012".to_owned(),
            region: "us-east-1".to_owned(),
            folder: folder.path().to_owned(),
            shim: PathBuf::from("none"),
            port_offset: 8000,
            podman: false,
            record: None,
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
            upstream: None,
        };
        Account { world: World::new(settings).unwrap(), _folder: folder }
    }

    async fn call(&self, operation: &str, input: Value) -> Answer {
        let call = Call { service: "cloudformation".to_owned(), operation: operation.to_owned(), input };
        dispatch::call(&self.world, &call).await
    }

    async fn ok(&self, operation: &str, input: Value) -> Value {
        self.call(operation, input).await.unwrap_or_else(|fault| panic!("{operation}: {fault:?}"))
    }

    async fn refused(&self, operation: &str, input: Value) -> String {
        let fault = self.call(operation, input).await.unwrap_err();
        format!("{}: {}", fault.code, fault.message)
    }

    /// Waits until something holds of an answer.
    async fn until(&self, operation: &str, input: Value, holds: impl Fn(&Value) -> bool) -> Value {
        let waited = async {
            loop {
                let answer = self.ok(operation, input.clone()).await;
                if holds(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap()
    }

    /// Waits for the end of an operation on a stack; its status and reason.
    async fn settled(&self, stack: &str) -> (String, String) {
        let busy = |answer: &Value| answer["Stacks"][0]["StackStatus"].as_str().unwrap().ends_with("IN_PROGRESS");
        let answer = self.until("DescribeStacks", json!({ "StackName": stack }), |answer| !busy(answer)).await;
        let stack = &answer["Stacks"][0];
        (
            stack["StackStatus"].as_str().unwrap().to_owned(),
            stack["StackStatusReason"].as_str().unwrap_or_default().to_owned(),
        )
    }

    /// Makes a change set and waits until it is made or has failed.
    async fn change_set(&self, stack: &str, name: &str, kind: &str, template: &Value) -> Value {
        let input = json!({
            "StackName": stack, "ChangeSetName": name, "ChangeSetType": kind, "TemplateBody": template.to_string(),
            "Capabilities": ["CAPABILITY_IAM"],
        });
        self.ok("CreateChangeSet", input).await;
        let asked = json!({ "StackName": stack, "ChangeSetName": name, "IncludePropertyValues": "true" });
        self.until("DescribeChangeSet", asked, |answer| !answer["Status"].as_str().unwrap().ends_with("PENDING")).await
    }

    async fn execute(&self, stack: &str, name: &str) -> (String, String) {
        self.ok("ExecuteChangeSet", json!({ "StackName": stack, "ChangeSetName": name })).await;
        self.settled(stack).await
    }

    async fn create(&self, stack: &str, template: &Value) -> (String, String) {
        self.change_set(stack, "first", "CREATE", template).await;
        self.execute(stack, "first").await
    }

    /// Events from the oldest to the newest: logical id and status.
    async fn events(&self, stack: &str) -> Vec<(String, String, String)> {
        let answer = self.ok("DescribeStackEvents", json!({ "StackName": stack })).await;
        let part = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let events = answer["StackEvents"].as_array().unwrap().iter().rev();
        events
            .map(|e| (part(e, "LogicalResourceId"), part(e, "ResourceStatus"), part(e, "ResourceStatusReason")))
            .collect()
    }

    async fn physical(&self, stack: &str, logical: &str) -> String {
        let answer =
            self.ok("DescribeStackResource", json!({ "StackName": stack, "LogicalResourceId": logical })).await;
        answer["StackResourceDetail"]["PhysicalResourceId"].as_str().unwrap().to_owned()
    }
}

fn network(cidr: &str) -> Value {
    json!({
        "Resources": {
            "Network": { "Type": "AWS::EC2::VPC", "Properties": { "CidrBlock": "10.0.0.0/16" } },
            "Front": { "Type": "AWS::EC2::Subnet", "Properties": {
                "VpcId": { "Ref": "Network" }, "CidrBlock": cidr, "AvailabilityZone": { "Fn::Select": [0, { "Fn::GetAZs": "" }] },
            } },
            "Calls": { "Type": "AWS::EC2::SecurityGroup", "Properties": {
                "GroupDescription": "calls", "VpcId": { "Ref": "Network" },
                "SecurityGroupIngress": [{ "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "CidrIp": "0.0.0.0/0" }],
            } },
            "Topic": { "Type": "AWS::SNS::Topic", "DependsOn": "Front", "Properties": { "DisplayName": "alerts" } },
        },
        "Outputs": {
            "Network": { "Value": { "Ref": "Network" }, "Export": { "Name": { "Fn::Sub": "${AWS::StackName}-network" } } },
            "Front": { "Value": { "Fn::Join": [",", [{ "Ref": "Front" }]] } },
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_made_changed_and_deleted() {
    let account = Account::new(&[]);
    let missing = account.refused("DescribeStacks", json!({ "StackName": "bird" })).await;
    assert_eq!(missing, "ValidationError: Stack with id bird does not exist");

    let made = account.change_set("bird", "first", "CREATE", &network("10.0.1.0/24")).await;
    let added: Vec<&str> =
        made["Changes"].as_array().unwrap().iter().map(|c| c["ResourceChange"]["Action"].as_str().unwrap()).collect();
    assert_eq!((made["Status"].as_str(), added), (Some("CREATE_COMPLETE"), vec!["Add"; 4]));
    let review = account.ok("DescribeStacks", json!({ "StackName": "bird" })).await;
    assert_eq!(review["Stacks"][0]["StackStatus"], "REVIEW_IN_PROGRESS");
    assert_eq!(account.execute("bird", "first").await.0, "CREATE_COMPLETE");
    let stack = account.ok("DescribeStacks", json!({ "StackName": "bird" })).await["Stacks"][0].clone();
    let front = account.physical("bird", "Front").await;
    assert_eq!(stack["Outputs"][0]["OutputValue"], front);
    assert_eq!(stack["Outputs"][1]["ExportName"], "bird-network");

    // Everything came after what it needs.
    let events = account.events("bird").await;
    let at = |name: &str, status: &str| events.iter().position(|(n, s, _)| n == name && s == status).unwrap();
    assert!(at("Network", "CREATE_COMPLETE") < at("Front", "CREATE_IN_PROGRESS"));
    assert!(at("Front", "CREATE_COMPLETE") < at("Topic", "CREATE_IN_PROGRESS"));
    assert!(at("Calls", "CREATE_IN_PROGRESS") < at("Front", "CREATE_COMPLETE"), "both were made at once");

    // Nothing to do.
    let same = account.change_set("bird", "same", "UPDATE", &network("10.0.1.0/24")).await;
    assert_eq!(same["Status"], "FAILED");
    assert_eq!(
        same["StatusReason"],
        "The submitted information didn't contain changes. Submit different information to create a change set."
    );
    assert_eq!(same["ExecutionStatus"], "UNAVAILABLE");
    let body = network("10.0.1.0/24").to_string();
    let nothing = account.refused("UpdateStack", json!({ "StackName": "bird", "TemplateBody": body })).await;
    assert_eq!(nothing, "ValidationError: No updates are to be performed.");
    assert_eq!(account.ok("GetTemplate", json!({ "StackName": "bird" })).await["TemplateBody"], body);

    // A subnet with other addresses is another subnet; a rule is changed in place.
    let mut wanted = network("10.0.2.0/24");
    wanted["Resources"]["Calls"]["Properties"]["SecurityGroupIngress"][0]["CidrIp"] = json!("192.0.2.0/24");
    let changes = account.change_set("bird", "second", "UPDATE", &wanted).await;
    let change = |name: &str| {
        let all = changes["Changes"].as_array().unwrap().iter();
        all.map(|c| &c["ResourceChange"]).find(|c| c["LogicalResourceId"] == name).unwrap().clone()
    };
    assert_eq!(changes["Changes"].as_array().unwrap().len(), 2, "{changes}");
    assert_eq!(
        (change("Front")["Replacement"].as_str(), change("Calls")["Replacement"].as_str()),
        (Some("True"), Some("False"))
    );
    let target = change("Front")["Details"][0]["Target"].clone();
    assert_eq!(
        target,
        json!({
            "Attribute": "Properties", "Name": "CidrBlock", "RequiresRecreation": "Always", "Path": "/Properties/CidrBlock",
            "BeforeValue": "10.0.1.0/24", "AfterValue": "10.0.2.0/24", "AttributeChangeType": "Modify",
        })
    );
    let group = account.physical("bird", "Calls").await;
    assert_eq!(account.execute("bird", "second").await.0, "UPDATE_COMPLETE");
    assert_ne!(account.physical("bird", "Front").await, front);
    assert_eq!(account.physical("bird", "Calls").await, group);
    assert!(account.world.network.subnet(&front).is_none(), "the old one went");
    let again = account.refused("ExecuteChangeSet", json!({ "StackName": "bird", "ChangeSetName": "second" })).await;
    assert!(again.starts_with("InvalidChangeSetStatus"), "{again}");

    // Protected, then deleted.
    account
        .ok("UpdateTerminationProtection", json!({ "StackName": "bird", "EnableTerminationProtection": "true" }))
        .await;
    let kept = account.refused("DeleteStack", json!({ "StackName": "bird" })).await;
    assert_eq!(kept, "ValidationError: Stack [bird] cannot be deleted while TerminationProtection is enabled");
    account
        .ok("UpdateTerminationProtection", json!({ "StackName": "bird", "EnableTerminationProtection": "false" }))
        .await;
    let id = stack["StackId"].as_str().unwrap();
    account.ok("DeleteStack", json!({ "StackName": "bird" })).await;
    assert_eq!(account.settled(id).await.0, "DELETE_COMPLETE");
    assert_eq!(account.refused("DescribeStacks", json!({ "StackName": "bird" })).await, missing);
    assert!(!account.world.network.has_group(&group));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_create_is_rolled_back() {
    let account = Account::new(&["stack-fails:Calls"]);
    let (status, reason) = account.create("bird", &network("10.0.1.0/24")).await;
    assert_eq!(status, "ROLLBACK_COMPLETE", "{reason}");
    let events = account.events("bird").await;
    let (name, _, why) = events.iter().find(|(_, status, _)| status == "CREATE_FAILED").unwrap();
    assert_eq!(name, "Calls");
    assert!(why.contains("HandlerErrorCode: GeneralServiceException"), "{why}");
    assert!(events.iter().any(|(name, status, why)| name == "bird"
        && status == "ROLLBACK_IN_PROGRESS"
        && why.contains("failed to create: [Calls")));
    assert!(events.iter().any(|(name, status, _)| name == "Network" && status == "DELETE_COMPLETE"));
    let busy = account
        .refused("UpdateStack", json!({ "StackName": "bird", "TemplateBody": network("10.0.1.0/24").to_string() }))
        .await;
    assert!(busy.ends_with("is in ROLLBACK_COMPLETE state and can not be updated."), "{busy}");
    account.ok("DeleteStack", json!({ "StackName": "bird" })).await;
    account.world.faults.set(Vec::new());
    let gone = async {
        while account.call("DescribeStacks", json!({ "StackName": "bird" })).await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    assert_eq!(account.create("bird", &network("10.0.1.0/24")).await.0, "CREATE_COMPLETE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_update_goes_back_or_is_stuck_until_it_can() {
    let account = Account::new(&[]);
    assert_eq!(account.create("bird", &network("10.0.1.0/24")).await.0, "CREATE_COMPLETE");
    let front = account.physical("bird", "Front").await;
    let mut wanted = network("10.0.2.0/24");
    wanted["Resources"]["Topic"]["Properties"]["DisplayName"] = json!("other");
    wanted["Resources"]["New"] = json!({ "Type": "AWS::SNS::Topic" });

    account.world.faults.set(vec!["stack-fails:Topic".to_owned()]);
    account.change_set("bird", "second", "UPDATE", &wanted).await;
    let (status, _) = account.execute("bird", "second").await;
    assert_eq!(status, "UPDATE_ROLLBACK_COMPLETE");
    assert_eq!(account.physical("bird", "Front").await, front, "the old one is the stack's again");
    assert!(account.world.network.subnet(&front).is_some());
    assert_eq!(
        account.ok("GetTemplate", json!({ "StackName": "bird" })).await["TemplateBody"],
        network("10.0.1.0/24").to_string()
    );
    let listed = account.ok("ListStackResources", json!({ "StackName": "bird" })).await;
    assert_eq!(listed["StackResourceSummaries"].as_array().unwrap().len(), 4);

    account.world.faults.set(vec!["stack-fails:Topic".to_owned(), "rollback-fails:Topic".to_owned()]);
    account.change_set("bird", "third", "UPDATE", &wanted).await;
    let (status, reason) = account.execute("bird", "third").await;
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("UPDATE_ROLLBACK_FAILED", "The following resource(s) failed to update: [Topic]. ")
    );
    let stuck = account
        .refused(
            "CreateChangeSet",
            json!({ "StackName": "bird", "ChangeSetName": "fourth", "TemplateBody": wanted.to_string() }),
        )
        .await;
    assert!(stuck.contains("UPDATE_ROLLBACK_FAILED state and can not be updated"), "{stuck}");
    account.world.faults.set(Vec::new());
    account.ok("ContinueUpdateRollback", json!({ "StackName": "bird" })).await;
    assert_eq!(account.settled("bird").await.0, "UPDATE_ROLLBACK_COMPLETE");
    assert_eq!(account.physical("bird", "Front").await, front);
    account.change_set("bird", "fifth", "UPDATE", &wanted).await;
    assert_eq!(account.execute("bird", "fifth").await.0, "UPDATE_COMPLETE");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_can_be_imported() {
    let account = Account::new(&[]);
    let key = json!({ "Type": "AWS::KMS::Key", "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain", "Properties": { "Description": "a" } });
    let topic = json!({ "Type": "AWS::SNS::Topic" });
    let both = json!({ "Resources": { "DataKey": key, "Topic": topic } });
    assert_eq!(account.create("bird", &both).await.0, "CREATE_COMPLETE");
    let id = account.physical("bird", "DataKey").await;
    let stack_id = account.ok("DescribeStacks", json!({ "StackName": "bird" })).await["Stacks"][0]["StackId"].clone();
    account.ok("DeleteStack", json!({ "StackName": "bird" })).await;
    account.settled(stack_id.as_str().unwrap()).await;
    let events = account.events(stack_id.as_str().unwrap()).await;
    assert!(events.iter().any(|(name, status, _)| name == "DataKey" && status == "DELETE_SKIPPED"));

    let asked = |template: &Value, id: &str| {
        json!({
            "StackName": "bird", "ChangeSetName": "import", "ChangeSetType": "IMPORT", "TemplateBody": template.to_string(),
            "ResourcesToImport": [{ "ResourceType": "AWS::KMS::Key", "LogicalResourceId": "DataKey", "ResourceIdentifier": { "KeyId": id } }],
        })
    };
    let only = json!({ "Resources": { "DataKey": key } });
    let mut careless = only.clone();
    careless["Resources"]["DataKey"] = json!({ "Type": "AWS::KMS::Key" });
    let refused = [
        (asked(&careless, &id), "must have DeletionPolicy attribute"),
        (asked(&only, "nothing"), "was not found"),
        (asked(&both, &id), "cannot modify or add [Topic]"),
    ];
    for (input, expected) in refused {
        let why = account.refused("CreateChangeSet", input).await;
        assert!(why.contains(expected), "{why}");
    }
    account.ok("CreateChangeSet", asked(&only, &id)).await;
    let named = json!({ "StackName": "bird", "ChangeSetName": "import" });
    let made = account.until("DescribeChangeSet", named, |answer| answer["Status"] == "CREATE_COMPLETE").await;
    assert_eq!(made["Changes"][0]["ResourceChange"]["Action"], "Import");
    assert_eq!(account.execute("bird", "import").await.0, "IMPORT_COMPLETE");
    assert_eq!(account.physical("bird", "DataKey").await, id);
    account.change_set("bird", "rest", "UPDATE", &both).await;
    assert_eq!(account.execute("bird", "rest").await.0, "UPDATE_COMPLETE");
    assert_eq!(account.physical("bird", "DataKey").await, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_by_hand_is_drift() {
    let account = Account::new(&[]);
    assert_eq!(account.create("bird", &network("10.0.1.0/24")).await.0, "CREATE_COMPLETE");
    let detect = async || {
        let id = account.ok("DetectStackDrift", json!({ "StackName": "bird" })).await["StackDriftDetectionId"].clone();
        let asked = json!({ "StackDriftDetectionId": id });
        account
            .until("DescribeStackDriftDetectionStatus", asked, |answer| {
                answer["DetectionStatus"] == "DETECTION_COMPLETE"
            })
            .await
    };
    assert_eq!(detect().await["StackDriftStatus"], "IN_SYNC");
    let group = account.physical("bird", "Calls").await;
    let kind = super::template::kind("AWS::EC2::SecurityGroup").unwrap();
    let (mut properties, _) = kind.read(&account.world, &group).unwrap();
    properties["SecurityGroupIngress"][0]["CidrIp"] = json!("198.51.100.0/24");
    let place = super::kinds::Place { stack: String::new(), logical_id: String::new(), tags: Default::default() };
    kind.update(&account.world, &group, &place, &Value::Null, &properties).unwrap();
    let topic = account.physical("bird", "Topic").await;
    super::template::kind("AWS::SNS::Topic").unwrap().delete(&account.world, &topic, &Value::Null).unwrap();
    let found = detect().await;
    assert_eq!(
        (found["StackDriftStatus"].as_str(), found["DriftedStackResourceCount"].as_u64()),
        (Some("DRIFTED"), Some(2))
    );
    let filters = json!({ "StackName": "bird", "StackResourceDriftStatusFilters": ["MODIFIED", "DELETED"] });
    let drifts = account.ok("DescribeStackResourceDrifts", filters).await;
    let of = |name: &str| {
        let all = drifts["StackResourceDrifts"].as_array().unwrap().iter();
        all.clone().find(|d| d["LogicalResourceId"] == name).unwrap().clone()
    };
    assert_eq!(of("Calls")["PropertyDifferences"][0]["PropertyPath"], "/SecurityGroupIngress");
    assert_eq!(of("Topic")["StackResourceDriftStatus"], "DELETED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_at_once() {
    let account = Account::new(&[]);
    let one = |resource: Value| json!({ "Resources": { "One": resource } });
    let role = json!({ "Type": "AWS::IAM::Role", "Properties": { "AssumeRolePolicyDocument": {} } });
    let vpc = |properties: Value| json!({ "Type": "AWS::EC2::VPC", "Properties": properties });
    let table: &[(Value, &str)] = &[
        (json!({}), "ValidationError: Template format error: At least one Resources member must be defined."),
        (json!({ "Resource": {} }), "ValidationError: Invalid template property or properties [Resource]"),
        (
            one(json!({ "Type": "AWS::Nothing::Here" })),
            "ValidationError: Template format error: Unrecognized resource types: [AWS::Nothing::Here]",
        ),
        (
            one(json!({ "Type": "AWS::EC2::VPC", "Propertys": {} })),
            "ValidationError: Invalid template resource property 'Propertys'",
        ),
        (
            one(vpc(json!({ "CidrBlock": { "Ref": "Two" } }))),
            "ValidationError: Template format error: Unresolved resource dependencies [Two] in the Resources block of the template",
        ),
        (
            one(vpc(json!({ "CidrBlock": { "Ref": "One" } }))),
            "ValidationError: Circular dependency between resources: [One]",
        ),
        (one(role), "InsufficientCapabilitiesException: Requires capabilities : [CAPABILITY_IAM]"),
        (
            json!({ "Parameters": { "P": { "Type": "String" } }, "Resources": { "One": vpc(json!({})) } }),
            "ValidationError: Parameters: [P] must have values",
        ),
    ];
    for (template, expected) in table {
        let input = json!({ "StackName": "bird", "TemplateBody": template.to_string() });
        assert_eq!(account.refused("CreateStack", input).await, *expected);
    }
    let long = json!({ "StackName": "bird", "TemplateBody": " ".repeat(51_201) });
    assert!(account.refused("CreateStack", long).await.contains("less than or equal to 51200"));
    assert!(
        account.refused("DescribeStacks", json!({ "StackName": "bird" })).await.contains("does not exist"),
        "nothing was begun"
    );

    // What only the service can see fails when it is made.
    let late = [
        (one(vpc(json!({ "CidrBlock": "10.0.0.0/16", "Wrong": 1 }))), "extraneous key [Wrong] is not permitted"),
        (one(vpc(json!({ "CidrBlock": "10.0.0.0/8" }))), "The CIDR '10.0.0.0/8' is invalid."),
        (one(json!({ "Type": "AWS::EC2::Subnet", "Properties": {} })), "required key [VpcId] not found"),
    ];
    for (n, (template, expected)) in late.into_iter().enumerate() {
        let name = format!("late{n}");
        account.ok("CreateStack", json!({ "StackName": name, "TemplateBody": template.to_string() })).await;
        assert_eq!(account.settled(&name).await.0, "ROLLBACK_COMPLETE");
        let events = account.events(&name).await;
        assert!(
            events.iter().any(|(_, status, why)| status == "CREATE_FAILED" && why.contains(expected)),
            "{events:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_does_nothing_twice() {
    let account = Account::new(&[]);
    let template = network("10.0.1.0/24");
    let input = json!({
        "StackName": "bird", "ChangeSetName": "one", "ChangeSetType": "CREATE", "TemplateBody": template.to_string(), "ClientToken": "t",
    });
    let first = account.ok("CreateChangeSet", input.clone()).await;
    assert_eq!(account.ok("CreateChangeSet", input.clone()).await, first);
    let mut other = input.clone();
    other["ClientToken"] = json!("u");
    assert!(account.refused("CreateChangeSet", other).await.starts_with("AlreadyExistsException"));
    let named = json!({ "StackName": "bird", "ChangeSetName": "one" });
    account.until("DescribeChangeSet", named, |answer| answer["ExecutionStatus"] == "AVAILABLE").await;
    let execute = json!({ "StackName": "bird", "ChangeSetName": "one", "ClientRequestToken": "x" });
    account.ok("ExecuteChangeSet", execute.clone()).await;
    account.ok("ExecuteChangeSet", execute).await;
    assert_eq!(account.settled("bird").await.0, "CREATE_COMPLETE");
    assert_eq!(account.world.spans.report().as_array().unwrap().len(), 1);
}
