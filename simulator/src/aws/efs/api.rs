//! What callers ask of file systems. It decides what is refused; making them is CloudFormation's, as nothing else here makes any.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{AccessPoint, FileSystem, MountTarget, State, no_point, no_system, no_target};
use crate::aws::{Answer, Call, Fault, World, list, stamp, tags, tags::Tags, text};

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let input = &call.input;
    match call.operation.as_str() {
        "DescribeFileSystems" => systems(world, input),
        "DescribeMountTargets" => targets(world, input),
        "DescribeMountTargetSecurityGroups" => {
            let state = world.efs.state();
            let id = text(input, "MountTargetId").unwrap_or_default();
            let target = state.targets.get(id).ok_or_else(|| no_target(id))?;
            Ok(json!({ "SecurityGroups": list(&target.properties, "SecurityGroups") }))
        }
        "DescribeAccessPoints" => points(world, input),
        "DeleteFileSystem" => delete_system(world, text(input, "FileSystemId").unwrap_or_default()).map(|()| json!({})),
        "DeleteMountTarget" => {
            let id = text(input, "MountTargetId").unwrap_or_default();
            world.efs.state().targets.remove(id).map(|_| json!({})).ok_or_else(|| no_target(id))
        }
        "DeleteAccessPoint" => {
            let id = text(input, "AccessPointId").unwrap_or_default();
            world.efs.state().points.remove(id).map(|_| json!({})).ok_or_else(|| no_point(id))
        }
        "DescribeBackupPolicy" => {
            let status = property(world, input, "/BackupPolicy/Status")?;
            let status = status.ok_or_else(|| policy_missing("There is no backup policy for this file system."))?;
            Ok(json!({ "BackupPolicy": { "Status": status } }))
        }
        "DescribeFileSystemPolicy" => {
            let policy = property(world, input, "/FileSystemPolicy")?;
            let policy = policy.ok_or_else(|| policy_missing("There is no policy for this file system."))?;
            Ok(json!({ "FileSystemId": input["FileSystemId"], "Policy": policy.to_string() }))
        }
        "DescribeLifecycleConfiguration" => {
            let policies = property(world, input, "/LifecyclePolicies")?;
            Ok(json!({ "LifecyclePolicies": policies.unwrap_or_else(|| json!([])) }))
        }
        "ListTagsForResource" => with_tags(world, input, "ResourceId", |all| json!({ "Tags": tags::write(all) })),
        "DescribeTags" => with_tags(world, input, "FileSystemId", |all| json!({ "Tags": tags::write(all) })),
        "TagResource" => with_tags(world, input, "ResourceId", |all| {
            all.extend(tags::read(input, "Tags"));
            json!({})
        }),
        "UntagResource" => with_tags(world, input, "ResourceId", |all| {
            tags::texts(input, "TagKeys").iter().for_each(|key| {
                all.remove(key);
            });
            json!({})
        }),
        other => Err(Fault::unknown(&call.service, other)),
    }
}

fn policy_missing(message: &str) -> Fault {
    Fault::new("PolicyNotFound", message).with_status(404)
}

/// A property of the file system that is meant; none where it has none.
fn property(world: &World, input: &Value, pointer: &str) -> Result<Option<Value>, Fault> {
    let id = text(input, "FileSystemId").unwrap_or_default();
    let state = world.efs.state();
    let system = state.systems.get(id).ok_or_else(|| no_system(id))?;
    Ok(system.properties.pointer(pointer).cloned())
}

fn with_tags(world: &World, input: &Value, member: &str, act: impl FnOnce(&mut Tags) -> Value) -> Answer {
    let id = text(input, member).unwrap_or_default();
    let id = id.rsplit('/').next().unwrap_or(id);
    let mut state = world.efs.state();
    if id.starts_with("fsap-") {
        return state.points.get_mut(id).map(|p| act(&mut p.tags)).ok_or_else(|| no_point(id));
    }
    state.systems.get_mut(id).map(|s| act(&mut s.tags)).ok_or_else(|| no_system(id))
}

/// Takes a file system away. Its folder stays: nobody's data is deleted by a rehearsal.
pub(super) fn delete_system(world: &World, id: &str) -> Result<(), Fault> {
    let mut state = world.efs.state();
    if !state.systems.contains_key(id) {
        return Err(no_system(id));
    }
    if state.targets.values().any(|t| t.file_system == id) {
        let message = format!("File system '{id}' has mount targets associated with it.");
        return Err(Fault::new("FileSystemInUse", message).with_status(409));
    }
    state.systems.remove(id);
    state.points.retain(|_, p| p.file_system != id);
    Ok(())
}

fn system_view(world: &World, state: &State, system: &FileSystem) -> Value {
    let of = |name: &str| system.properties.get(name).cloned();
    let mut view = json!({
        "OwnerId": world.settings.account, "CreationToken": system.id, "FileSystemId": system.id, "FileSystemArn": system.arn,
        "CreationTime": stamp(system.created_ms), "LifeCycleState": "available", "Name": system.tags.get("Name"),
        "NumberOfMountTargets": state.targets.values().filter(|t| t.file_system == system.id).count(),
        "SizeInBytes": { "Value": 6144, "ValueInIA": 0, "ValueInStandard": 6144, "ValueInArchive": 0 },
        "PerformanceMode": of("PerformanceMode").unwrap_or_else(|| json!("generalPurpose")),
        "ThroughputMode": of("ThroughputMode").unwrap_or_else(|| json!("bursting")),
        "Encrypted": of("Encrypted").unwrap_or(json!(false)), "Tags": tags::write(&system.tags),
        "FileSystemProtection": { "ReplicationOverwriteProtection": "ENABLED" },
    });
    if let Some(fields) = view.as_object_mut() {
        fields.retain(|_, v| !v.is_null());
    }
    view
}

fn systems(world: &World, input: &Value) -> Answer {
    let state = world.efs.state();
    let asked = text(input, "FileSystemId");
    if let Some(id) = asked.filter(|id| !state.systems.contains_key(*id)) {
        return Err(no_system(id));
    }
    let token = text(input, "CreationToken");
    let found = state
        .systems
        .values()
        .filter(|s| asked.is_none_or(|id| s.id == id) && token.is_none_or(|t| s.id == t))
        .map(|s| system_view(world, &state, s));
    Ok(json!({ "FileSystems": found.collect::<Vec<_>>() }))
}

fn targets(world: &World, input: &Value) -> Answer {
    let state = world.efs.state();
    let (system, id) = (text(input, "FileSystemId"), text(input, "MountTargetId"));
    let by_point = text(input, "AccessPointId").and_then(|p| state.points.get(p)).map(|p| p.file_system.clone());
    if let Some(id) = system.filter(|id| !state.systems.contains_key(*id)) {
        return Err(no_system(id));
    }
    if let Some(id) = id.filter(|id| !state.targets.contains_key(*id)) {
        return Err(no_target(id));
    }
    let view = |target: &MountTarget| {
        let subnet = world.network.subnet(&target.subnet);
        json!({
            "OwnerId": world.settings.account, "MountTargetId": target.id, "FileSystemId": target.file_system,
            "SubnetId": target.subnet, "LifeCycleState": "available", "IpAddress": "10.0.0.9",
            "AvailabilityZoneName": subnet.as_ref().map(|s| s.zone.clone()), "VpcId": subnet.as_ref().map(|s| s.vpc.clone()),
        })
    };
    let found = state.targets.values().filter(|t| {
        system.is_none_or(|s| t.file_system == s)
            && id.is_none_or(|id| t.id == id)
            && by_point.as_ref().is_none_or(|s| t.file_system == *s)
    });
    Ok(json!({ "MountTargets": found.map(view).collect::<Vec<_>>() }))
}

fn points(world: &World, input: &Value) -> Answer {
    let state = world.efs.state();
    let (system, id) = (text(input, "FileSystemId"), text(input, "AccessPointId"));
    if let Some(id) = id.filter(|id| !state.points.contains_key(*id)) {
        return Err(no_point(id));
    }
    let view = |point: &AccessPoint| {
        let mut view = json!({
            "AccessPointId": point.id, "AccessPointArn": point.arn, "FileSystemId": point.file_system,
            "ClientToken": point.id, "Tags": tags::write(&point.tags), "OwnerId": world.settings.account,
            "LifeCycleState": "available",
            "RootDirectory": point.properties.get("RootDirectory").map_or_else(|| json!({ "Path": "/" }), owned),
        });
        for (name, value) in [
            ("PosixUser", point.properties.get("PosixUser").map(owned).as_ref()),
            ("Name", point.tags.get("Name").map(|n| json!(n)).as_ref()),
        ] {
            if let Some(value) = value {
                view[name] = value.clone();
            }
        }
        view
    };
    let found =
        state.points.values().filter(|p| system.is_none_or(|s| p.file_system == s) && id.is_none_or(|id| p.id == id));
    Ok(json!({ "AccessPoints": found.map(view).collect::<Vec<_>>() }))
}

/// The same with the numbers of users and groups as such: a template writes them as text, an answer does not.
fn owned(value: &Value) -> Value {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok()).map(Value::from);
    match value {
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                // Uid, Gid, OwnerUid, OwnerGid; a path may be a number as well.
                let id = if name.ends_with("id") { number(value) } else { None };
                (name.clone(), id.unwrap_or_else(|| owned(value)))
            };
            Value::Object(members.iter().map(member).collect())
        }
        // SecondaryGids.
        Value::Array(ids) => ids.iter().map(|id| number(id).unwrap_or_else(|| id.clone())).collect(),
        value => value.clone(),
    }
}
