//! ECR's kind of resource for stacks. It decides how CloudFormation's spelling becomes ECR's own.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{Ecr, Repository, no_repository, repositories};
use crate::aws::{
    Fault, World, bag,
    cloudformation::kinds::{Kind, Made, Place, Replaces},
    tags,
};

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&RepositoryKind];

struct RepositoryKind;

fn attributes(world: &Arc<World>, repository: &Repository) -> BTreeMap<String, Value> {
    let uri = Ecr::address(world).map(|address| format!("{address}/{}", repository.name)).unwrap_or_default();
    BTreeMap::from([("Arn".to_owned(), json!(repository.arn)), ("RepositoryUri".to_owned(), json!(uri))])
}

/// What a stack says of a repository, put into it.
fn put(repository: &mut Repository, place: &Place, properties: &Value) -> Result<(), Fault> {
    let said = |pointer: &str| properties.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let lifecycle = said("/LifecyclePolicy/LifecyclePolicyText");
    if let Some(policy) = &lifecycle {
        repositories::check_lifecycle(policy)?;
    }
    repository.lifecycle = lifecycle;
    repository.mutability = said("/ImageTagMutability").unwrap_or_else(|| "MUTABLE".to_owned());
    let filters = crate::aws::list(properties, "ImageTagMutabilityExclusionFilters").iter();
    repository.mutable_tags = filters
        .map(|f| json!({ "filterType": f["ImageTagMutabilityExclusionFilterType"], "filter": f["ImageTagMutabilityExclusionFilterValue"] }))
        .collect();
    let scans = properties.pointer("/ImageScanningConfiguration/ScanOnPush");
    repository.scans = scans.is_some_and(|s| s == true || s == "true");
    repository.policy = properties.get("RepositoryPolicyText").map(Value::to_string);
    repository.tags = tags::over(&tags::read(properties, "Tags"), &place.tags);
    Ok(())
}

impl Kind for RepositoryKind {
    fn name(&self) -> &'static str {
        "AWS::ECR::Repository"
    }

    fn properties(&self) -> &'static [&'static str] {
        &[
            "EmptyOnDelete",
            "EncryptionConfiguration",
            "ImageScanningConfiguration",
            "ImageTagMutability",
            "ImageTagMutabilityExclusionFilters",
            "LifecyclePolicy",
            "RepositoryName",
            "RepositoryPolicyText",
            "Tags",
        ]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let name = bag::name(place, properties, "RepositoryName", 256).to_lowercase();
        let made = repositories::new(world, &name)?;
        let mut made = Repository { encryption: encryption(properties), ..made };
        put(&mut made, place, properties)?;
        repositories::add(world, made.clone())?;
        Ok(Made { physical_id: name, attributes: attributes(world, &made), takes_ms: 2_000 })
    }

    fn update(
        &self,
        world: &Arc<World>,
        physical_id: &str,
        place: &Place,
        _: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        let repository = {
            let mut state = world.ecr.state();
            let repository =
                state.repositories.get_mut(physical_id).ok_or_else(|| no_repository(world, physical_id))?;
            put(repository, place, after)?;
            repository.clone()
        };
        Ok(Made { physical_id: physical_id.to_owned(), attributes: attributes(world, &repository), takes_ms: 1_000 })
    }

    fn replaces(&self, property: &str) -> Replaces {
        if matches!(property, "RepositoryName" | "EncryptionConfiguration") {
            Replaces::Always
        } else {
            Replaces::Never
        }
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, properties: &Value) -> Result<(), Fault> {
        let empties = properties.get("EmptyOnDelete").is_some_and(|e| e == true || e == "true");
        match repositories::delete(world, &json!({ "repositoryName": physical_id, "force": empties })) {
            Err(fault) if fault.code != "RepositoryNotFoundException" => Err(fault),
            _ => Ok(()),
        }
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let repository = world.ecr.state().repositories.get(physical_id)?.clone();
        let mut properties = json!({
            "RepositoryName": repository.name, "ImageTagMutability": repository.mutability,
            "ImageScanningConfiguration": { "ScanOnPush": repository.scans },
        });
        if let Some(policy) = &repository.lifecycle {
            properties["LifecyclePolicy"] = json!({ "LifecyclePolicyText": policy });
        }
        Some((properties, attributes(world, &repository)))
    }

    fn import_by(&self) -> Option<&'static str> {
        Some("RepositoryName")
    }
}

fn encryption(properties: &Value) -> Value {
    let said = |name: &str| properties.pointer(&format!("/EncryptionConfiguration/{name}")).cloned();
    let mut encryption = json!({ "encryptionType": said("EncryptionType").unwrap_or_else(|| json!("AES256")) });
    if let Some(key) = said("KmsKey") {
        encryption["kmsKey"] = key;
    }
    encryption
}
