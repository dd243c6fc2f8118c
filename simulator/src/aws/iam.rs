//! Roles and what they may do. Decisions are made on actions and resources; conditions count as met, and callers of the
//! simulator's own APIs are never refused.

mod evaluate;
mod kinds;

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Answer, Call, Fault, World, bag::Bags, list, stamp, text};

pub(crate) use evaluate::Decision;
pub(crate) use kinds::KINDS;

/// Roles and policies.
#[derive(Debug, Default)]
pub(crate) struct Iam {
    bags: Bags,
}

/// A role with every policy that it has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) arn: String,
    /// Who may take it.
    pub(crate) trust: Value,
    /// Policy documents: inline, attached, and those of AWS that the simulator knows.
    pub(crate) policies: Vec<Value>,
}

impl Iam {
    /// A role by its name or ARN.
    pub(crate) fn role(&self, name_or_arn: &str) -> Option<Role> {
        let name = name_or_arn.rsplit('/').next().unwrap_or(name_or_arn);
        let held = self.bags.get("AWS::IAM::Role", name)?;
        let arn = held.attributes.get("Arn").and_then(Value::as_str).unwrap_or_default().to_owned();
        if name_or_arn.starts_with("arn:") && name_or_arn != arn {
            return None;
        }
        let inline =
            list(&held.properties, "Policies").iter().filter_map(|policy| policy.get("PolicyDocument").cloned());
        let mut policies: Vec<Value> = inline.collect();
        for kind in ["AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"] {
            let named = self.bags.all(kind).into_iter();
            let named =
                named.filter(|policy| list(&policy.properties, "Roles").iter().any(|role| role.as_str() == Some(name)));
            policies.extend(named.filter_map(|policy| policy.properties.get("PolicyDocument").cloned()));
        }
        for attached in list(&held.properties, "ManagedPolicyArns").iter().filter_map(Value::as_str) {
            let own = self.bags.get("AWS::IAM::ManagedPolicy", attached);
            let document = own.and_then(|policy| policy.properties.get("PolicyDocument").cloned());
            policies.extend(document.or_else(|| kinds::managed(attached)));
        }
        let trust = held.properties.get("AssumeRolePolicyDocument").cloned().unwrap_or_default();
        Some(Role { name: name.to_owned(), arn, trust, policies })
    }

    /// Whether a role may do this to that. A role that is not there may nothing.
    pub(crate) fn allows(&self, role_arn: &str, action: &str, resource: &str) -> bool {
        let role = self.role(role_arn);
        role.is_some_and(|role| evaluate::decide(&role.policies, action, resource) == Decision::Allowed)
    }
}

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let iam = &world.iam;
    let input = &call.input;
    let role = || {
        let name = text(input, "RoleName").unwrap_or_default();
        iam.role(name).ok_or_else(|| {
            Fault::new("NoSuchEntity", format!("The role with name {name} cannot be found.")).with_status(404)
        })
    };
    match call.operation.as_str() {
        "GetRole" => Ok(json!({ "Role": described(world, &role()?) })),
        "ListRoles" => {
            let all = iam.bags.all("AWS::IAM::Role");
            let roles = all.iter().filter_map(|held| iam.role(&held.id)).map(|role| described(world, &role));
            Ok(json!({ "Roles": roles.collect::<Vec<_>>(), "IsTruncated": false }))
        }
        "ListRolePolicies" => {
            let role = role()?;
            let held = iam.bags.get("AWS::IAM::Role", &role.name);
            let inline = held.as_ref().map_or(&[][..], |held| list(&held.properties, "Policies"));
            let mut names: Vec<String> =
                inline.iter().filter_map(|policy| text(policy, "PolicyName").map(str::to_owned)).collect();
            let attached = iam.bags.all("AWS::IAM::Policy").into_iter();
            let attached = attached
                .filter(|policy| list(&policy.properties, "Roles").iter().any(|r| r.as_str() == Some(&role.name)));
            names.extend(attached.filter_map(|policy| text(&policy.properties, "PolicyName").map(str::to_owned)));
            Ok(json!({ "PolicyNames": names, "IsTruncated": false }))
        }
        "ListAttachedRolePolicies" => {
            let role = role()?;
            let held = iam.bags.get("AWS::IAM::Role", &role.name);
            let arns = held.as_ref().map_or(&[][..], |held| list(&held.properties, "ManagedPolicyArns"));
            let attached = arns.iter().filter_map(Value::as_str);
            let attached = attached.map(|arn| json!({ "PolicyArn": arn, "PolicyName": arn.rsplit('/').next() }));
            Ok(json!({ "AttachedPolicies": attached.collect::<Vec<_>>(), "IsTruncated": false }))
        }
        "SimulatePrincipalPolicy" => Ok(simulated(iam, input)),
        operation => Err(Fault::unknown("iam", operation)),
    }
}

fn described(world: &World, role: &Role) -> Value {
    let trust: String = url::form_urlencoded::byte_serialize(role.trust.to_string().as_bytes()).collect();
    json!({
        "Path": "/",
        "RoleName": role.name,
        "RoleId": "AROASIMULATEDROLE000",
        "Arn": role.arn,
        "CreateDate": stamp(world.clock.origin_unix_ms()),
        "AssumeRolePolicyDocument": trust,
        "MaxSessionDuration": 3600,
    })
}

/// Roles by their policies; anybody else is the account's administrator.
fn simulated(iam: &Iam, input: &Value) -> Value {
    let who = text(input, "PolicySourceArn").unwrap_or_default();
    let role = iam.role(who);
    let resources = match list(input, "ResourceArns") {
        [] => vec!["*"],
        given => given.iter().filter_map(Value::as_str).collect(),
    };
    let mut results = Vec::new();
    for action in list(input, "ActionNames").iter().filter_map(Value::as_str) {
        for resource in &resources {
            let decision = match &role {
                Some(role) => evaluate::decide(&role.policies, action, resource),
                None if who.contains(":role/") => Decision::NotAllowed,
                None => Decision::Allowed,
            };
            let decision = match decision {
                Decision::Allowed => "allowed",
                Decision::NotAllowed => "implicitDeny",
                Decision::Denied => "explicitDeny",
            };
            results.push(json!({
                "EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decision,
                "MatchedStatements": [], "MissingContextValues": [],
            }));
        }
    }
    json!({ "EvaluationResults": results, "IsTruncated": false })
}
