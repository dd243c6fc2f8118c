//! Shared file systems: their API, their folders, and who has which database open at the same time. It decides what can be
//! mounted where; it never touches what is in a folder.
//!
//! Two tasks that have the same database file open for writing are no fault here, as they are none in AWS: they are counted, and
//! `/_simulator/efs` tells how many it ever were.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};

use super::{
    Fault, World, bag,
    cloudformation::kinds::{Kind, Made, Place, Replaces},
    tags,
    tags::Tags,
    text,
};

mod api;
mod writers;

pub(crate) use api::call;

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&FileSystemKind, &MountTargetKind, &AccessPointKind];

/// The folder below the simulator's in which each file system has its own.
const FOLDER: &str = "efs";

#[derive(Debug, Clone)]
struct FileSystem {
    id: String,
    arn: String,
    properties: Value,
    tags: Tags,
    created_ms: u64,
}

#[derive(Debug, Clone)]
struct MountTarget {
    id: String,
    file_system: String,
    subnet: String,
    properties: Value,
}

#[derive(Debug, Clone)]
struct AccessPoint {
    id: String,
    arn: String,
    file_system: String,
    properties: Value,
    tags: Tags,
}

#[derive(Debug, Default)]
struct State {
    systems: BTreeMap<String, FileSystem>,
    targets: BTreeMap<String, MountTarget>,
    points: BTreeMap<String, AccessPoint>,
    /// The folders of the containers of every task that runs.
    tasks: BTreeMap<String, BTreeSet<PathBuf>>,
    is_watched: bool,
    writers: writers::Writers,
}

/// Every file system of the account.
#[derive(Debug, Default)]
pub(crate) struct Efs {
    state: Mutex<State>,
}

fn no_system(id: &str) -> Fault {
    Fault::new("FileSystemNotFound", format!("File system '{id}' does not exist.")).with_status(404)
}

fn no_point(id: &str) -> Fault {
    Fault::new("AccessPointNotFound", format!("Access point '{id}' does not exist.")).with_status(404)
}

fn no_target(id: &str) -> Fault {
    Fault::new("MountTargetNotFound", format!("Mount target '{id}' does not exist.")).with_status(404)
}

impl Efs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of a file system, or of an access point of it. Made if it is not there, as the access point says.
    ///
    /// # Errors
    /// In the words in which Fargate says that it can't be mounted.
    pub(crate) fn folder(
        world: &World,
        file_system_id: &str,
        access_point_id: Option<&str>,
    ) -> Result<PathBuf, String> {
        const SAYS: &str =
            "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr:";
        let root = {
            let state = world.efs.state();
            if !state.systems.contains_key(file_system_id) {
                return Err(format!(
                    "{SAYS} Failed to resolve \"{file_system_id}\" - check that your file system ID is correct"
                ));
            }
            match access_point_id {
                None => "/".to_owned(),
                Some(id) => {
                    let point = state.points.get(id).filter(|p| p.file_system == file_system_id);
                    let point = point.ok_or_else(|| {
                        format!("{SAYS} mount.nfs4: access denied by server while mounting 127.0.0.1:/ (access point {id} does not exist)")
                    })?;
                    point.properties.pointer("/RootDirectory/Path").and_then(Value::as_str).unwrap_or("/").to_owned()
                }
            }
        };
        let folder = world.settings.folder.join(FOLDER).join(file_system_id).join(root.trim_matches('/'));
        std::fs::create_dir_all(&folder).map_err(|why| format!("{SAYS} {}: {why}", folder.display()))?;
        // A task must find the folder whatever it makes its working one.
        folder.canonicalize().map_err(|why| format!("{SAYS} {}: {why}", folder.display()))
    }

    /// Whether a task in this subnet finds the file system.
    pub(crate) fn mountable(&self, file_system_id: &str, subnet_id: &str) -> bool {
        self.state().targets.values().any(|t| t.file_system == file_system_id && t.subnet == subnet_id)
    }

    /// A container of a task runs in this folder; what it opens is watched from now on.
    pub(crate) fn opened(world: &Arc<World>, task: &str, folder: &Path) {
        let is_first = {
            let mut state = world.efs.state();
            if state.systems.is_empty() {
                return;
            }
            state.tasks.entry(task.to_owned()).or_default().insert(folder.to_owned());
            !std::mem::replace(&mut state.is_watched, true)
        };
        if is_first {
            writers::watch(world);
        }
    }

    /// A task has ended.
    pub(crate) fn closed(world: &Arc<World>, task: &str) {
        world.efs.state().tasks.remove(task);
    }

    /// For each database file: how many tasks have it open for writing, and how many it ever were at the same time.
    pub(crate) fn report(&self) -> Value {
        self.state().writers.report()
    }
}

struct FileSystemKind;

fn tagged(place: &Place, properties: &Value, member: &str) -> Tags {
    tags::over(&tags::read(properties, member), &place.tags)
}

fn system_made(system: &FileSystem, takes_ms: u64) -> Made {
    let attributes =
        BTreeMap::from([("Arn".to_owned(), json!(system.arn)), ("FileSystemId".to_owned(), json!(system.id))]);
    Made { physical_id: system.id.clone(), attributes, takes_ms }
}

impl Kind for FileSystemKind {
    fn name(&self) -> &'static str {
        "AWS::EFS::FileSystem"
    }

    fn properties(&self) -> &'static [&'static str] {
        &[
            "AvailabilityZoneName",
            "BackupPolicy",
            "BypassPolicyLockoutSafetyCheck",
            "Encrypted",
            "FileSystemPolicy",
            "FileSystemProtection",
            "FileSystemTags",
            "KmsKeyId",
            "LifecyclePolicies",
            "PerformanceMode",
            "ProvisionedThroughputInMibps",
            "ReplicationConfiguration",
            "ThroughputMode",
        ]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let id = bag::id("fs");
        let system = FileSystem {
            arn: world.arn("elasticfilesystem", &format!("file-system/{id}")),
            id: id.clone(),
            properties: properties.clone(),
            tags: tagged(place, properties, "FileSystemTags"),
            created_ms: world.clock.now_ms(),
        };
        let made = system_made(&system, 6_000);
        world.efs.state().systems.insert(id, system);
        Ok(made)
    }

    fn update(
        &self,
        world: &Arc<World>,
        physical_id: &str,
        place: &Place,
        _: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        let mut state = world.efs.state();
        let system = state.systems.get_mut(physical_id).ok_or_else(|| no_system(physical_id))?;
        system.properties = after.clone();
        system.tags = tagged(place, after, "FileSystemTags");
        Ok(system_made(system, 2_000))
    }

    fn replaces(&self, property: &str) -> Replaces {
        let renews = ["AvailabilityZoneName", "Encrypted", "KmsKeyId", "PerformanceMode"];
        if renews.contains(&property) { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, _: &Value) -> Result<(), Fault> {
        match api::delete_system(world, physical_id) {
            Err(fault) if fault.code != "FileSystemNotFound" => Err(fault),
            _ => Ok(()),
        }
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let state = world.efs.state();
        let system = state.systems.get(physical_id)?;
        Some((system.properties.clone(), system_made(system, 0).attributes))
    }

    fn import_by(&self) -> Option<&'static str> {
        Some("FileSystemId")
    }
}

struct MountTargetKind;

impl Kind for MountTargetKind {
    fn name(&self) -> &'static str {
        "AWS::EFS::MountTarget"
    }

    fn properties(&self) -> &'static [&'static str] {
        &["FileSystemId", "IpAddress", "IpAddressType", "Ipv6Address", "SecurityGroups", "SubnetId"]
    }

    fn required(&self) -> &'static [&'static str] {
        &["FileSystemId", "SecurityGroups", "SubnetId"]
    }

    fn create(&self, world: &Arc<World>, _: &Place, properties: &Value) -> Result<Made, Fault> {
        let (system, subnet) =
            (text(properties, "FileSystemId").unwrap_or_default(), text(properties, "SubnetId").unwrap_or_default());
        let Some(place) = world.network.subnet(subnet) else {
            return Err(Fault::new("SubnetNotFound", format!("The subnet ID '{subnet}' does not exist")));
        };
        let mut state = world.efs.state();
        if !state.systems.contains_key(system) {
            return Err(no_system(system));
        }
        let others: Vec<String> =
            state.targets.values().filter(|t| t.file_system == system).map(|t| t.subnet.clone()).collect();
        if others.iter().filter_map(|s| world.network.subnet(s)).any(|s| s.zone == place.zone) {
            let message = "mount target already exists in this AZ";
            return Err(Fault::new("MountTargetConflict", message).with_status(409));
        }
        let id = bag::id("fsmt");
        let target = MountTarget {
            id: id.clone(),
            file_system: system.to_owned(),
            subnet: subnet.to_owned(),
            properties: properties.clone(),
        };
        state.targets.insert(id.clone(), target);
        let attributes = BTreeMap::from([("Id".to_owned(), json!(id)), ("IpAddress".to_owned(), json!("10.0.0.9"))]);
        Ok(Made { physical_id: id, attributes, takes_ms: 80_000 })
    }

    fn update(
        &self,
        world: &Arc<World>,
        physical_id: &str,
        _: &Place,
        _: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        let mut state = world.efs.state();
        let target = state.targets.get_mut(physical_id).ok_or_else(|| no_target(physical_id))?;
        target.properties = after.clone();
        let attributes = BTreeMap::from([("Id".to_owned(), json!(physical_id))]);
        Ok(Made { physical_id: physical_id.to_owned(), attributes, takes_ms: 2_000 })
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "SecurityGroups" { Replaces::Never } else { Replaces::Always }
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, _: &Value) -> Result<(), Fault> {
        world.efs.state().targets.remove(physical_id);
        Ok(())
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let state = world.efs.state();
        let target = state.targets.get(physical_id)?;
        Some((target.properties.clone(), BTreeMap::from([("Id".to_owned(), json!(target.id))])))
    }
}

struct AccessPointKind;

fn point_made(point: &AccessPoint) -> Made {
    let attributes =
        BTreeMap::from([("Arn".to_owned(), json!(point.arn)), ("AccessPointId".to_owned(), json!(point.id))]);
    Made { physical_id: point.id.clone(), attributes, takes_ms: 3_000 }
}

impl Kind for AccessPointKind {
    fn name(&self) -> &'static str {
        "AWS::EFS::AccessPoint"
    }

    fn properties(&self) -> &'static [&'static str] {
        &["AccessPointTags", "ClientToken", "FileSystemId", "PosixUser", "RootDirectory"]
    }

    fn required(&self) -> &'static [&'static str] {
        &["FileSystemId"]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let system = text(properties, "FileSystemId").unwrap_or_default();
        let path = properties.pointer("/RootDirectory/Path").and_then(Value::as_str).unwrap_or("/");
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(Fault::new("BadRequest", format!("Invalid root directory path: {path}")));
        }
        let mut state = world.efs.state();
        if !state.systems.contains_key(system) {
            return Err(no_system(system));
        }
        let id = bag::id("fsap");
        let point = AccessPoint {
            arn: world.arn("elasticfilesystem", &format!("access-point/{id}")),
            id: id.clone(),
            file_system: system.to_owned(),
            properties: properties.clone(),
            tags: tagged(place, properties, "AccessPointTags"),
        };
        let made = point_made(&point);
        state.points.insert(id, point);
        Ok(made)
    }

    fn update(
        &self,
        world: &Arc<World>,
        physical_id: &str,
        place: &Place,
        _: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        let mut state = world.efs.state();
        let point = state.points.get_mut(physical_id).ok_or_else(|| no_point(physical_id))?;
        point.properties = after.clone();
        point.tags = tagged(place, after, "AccessPointTags");
        Ok(point_made(point))
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "AccessPointTags" { Replaces::Never } else { Replaces::Always }
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, _: &Value) -> Result<(), Fault> {
        world.efs.state().points.remove(physical_id);
        Ok(())
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let state = world.efs.state();
        let point = state.points.get(physical_id)?;
        Some((point.properties.clone(), point_made(point).attributes))
    }

    fn import_by(&self) -> Option<&'static str> {
        Some("AccessPointId")
    }
}
