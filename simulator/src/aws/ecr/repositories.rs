//! What callers ask of repositories. It decides what is refused; what expires is `lifecycle`'s.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{Ecr, Repository, bad, folder, lifecycle, no_repository};
use crate::aws::{Answer, Fault, World, flag, list, stamp, tags, text};

/// An empty repository, not yet in the registry.
pub(super) fn new(world: &World, name: &str) -> Result<Repository, Fault> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '/');
    let parts_are_fine =
        name.split('/').all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part != "..");
    if name.len() < 2 || name.len() > 256 || !name.chars().all(is_plain) || !parts_are_fine {
        return Err(bad(format!(
            "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression \
             '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*'': {name}"
        )));
    }
    Ok(Repository {
        arn: world.arn("ecr", &format!("repository/{name}")),
        name: name.to_owned(),
        created_ms: world.clock.now_ms(),
        tags: BTreeMap::new(),
        mutability: "MUTABLE".to_owned(),
        mutable_tags: Vec::new(),
        scans: false,
        encryption: json!({ "encryptionType": "AES256" }),
        lifecycle: None,
        policy: None,
        images: BTreeMap::new(),
    })
}

/// Puts a new one into the registry.
pub(super) fn add(world: &Arc<World>, repository: Repository) -> Result<(), Fault> {
    let place = folder(world, &repository.name).join("blobs/sha256");
    std::fs::create_dir_all(&place)
        .map_err(|why| Fault::new("ServerException", format!("{}: {why}", place.display())).with_status(500))?;
    let mut state = world.ecr.state();
    if state.repositories.contains_key(&repository.name) {
        let message = format!(
            "The repository with name '{}' already exists in the registry with id '{}'",
            repository.name, world.settings.account
        );
        return Err(Fault::new("RepositoryAlreadyExistsException", message));
    }
    state.repositories.insert(repository.name.clone(), repository);
    Ok(())
}

fn view(world: &Arc<World>, repository: &Repository) -> Result<Value, Fault> {
    let mut view = json!({
        "repositoryArn": repository.arn, "registryId": world.settings.account, "repositoryName": repository.name,
        "repositoryUri": format!("{}/{}", Ecr::address(world)?, repository.name), "createdAt": stamp(repository.created_ms),
        "imageTagMutability": repository.mutability, "imageScanningConfiguration": { "scanOnPush": repository.scans },
        "encryptionConfiguration": repository.encryption,
    });
    if !repository.mutable_tags.is_empty() {
        view["imageTagMutabilityExclusionFilters"] = json!(repository.mutable_tags);
    }
    Ok(view)
}

/// Changes the repository that is meant.
fn with<T>(world: &World, input: &Value, act: impl FnOnce(&mut Repository) -> Result<T, Fault>) -> Result<T, Fault> {
    let name = text(input, "repositoryName").unwrap_or_default();
    let mut state = world.ecr.state();
    act(state.repositories.get_mut(name).ok_or_else(|| no_repository(world, name))?)
}

pub(super) fn create(world: &Arc<World>, input: &Value) -> Answer {
    let name = text(input, "repositoryName").unwrap_or_default();
    let made = Repository {
        mutability: text(input, "imageTagMutability").unwrap_or("MUTABLE").to_owned(),
        mutable_tags: list(input, "imageTagMutabilityExclusionFilters").to_vec(),
        scans: input.pointer("/imageScanningConfiguration/scanOnPush").and_then(Value::as_bool).unwrap_or(false),
        tags: tags::read(input, "tags"),
        ..new(world, name)?
    };
    add(world, made.clone())?;
    Ok(json!({ "repository": view(world, &made)? }))
}

pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let asked = tags::texts(input, "repositoryNames");
    let all: Vec<Repository> = world.ecr.state().repositories.values().cloned().collect();
    if let Some(name) = asked.iter().find(|n| !all.iter().any(|r| r.name == **n)) {
        return Err(no_repository(world, name));
    }
    let found = all.iter().filter(|r| asked.is_empty() || asked.contains(&r.name)).map(|r| view(world, r));
    Ok(json!({ "repositories": found.collect::<Result<Vec<_>, _>>()? }))
}

pub(super) fn delete(world: &Arc<World>, input: &Value) -> Answer {
    let is_forced = flag(input, "force").unwrap_or(false);
    let repository = with(world, input, |repository| {
        if !repository.images.is_empty() && !is_forced {
            return Err(Fault::new(
                "RepositoryNotEmptyException",
                format!(
                    "The repository with name '{}' in registry with id '{}' cannot be deleted because it still contains images",
                    repository.name, world.settings.account
                ),
            ));
        }
        Ok(repository.clone())
    })?;
    world.ecr.state().repositories.remove(&repository.name);
    // Tasks run from copies; what can't be removed is only space.
    let _ = std::fs::remove_dir_all(folder(world, &repository.name));
    Ok(json!({ "repository": view(world, &repository)? }))
}

pub(super) fn check_lifecycle(policy: &str) -> Result<(), Fault> {
    lifecycle::check(policy)
        .map_err(|why| bad(format!("Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: {why}")))
}

pub(super) fn put_lifecycle(world: &Arc<World>, input: &Value) -> Answer {
    let policy = text(input, "lifecyclePolicyText").unwrap_or_default();
    check_lifecycle(policy)?;
    with(world, input, |repository| {
        repository.lifecycle = Some(policy.to_owned());
        Ok(
            json!({ "registryId": world.settings.account, "repositoryName": repository.name, "lifecyclePolicyText": policy }),
        )
    })
}

fn no_lifecycle(world: &World, repository: &Repository) -> Fault {
    let message = format!(
        "Lifecycle policy does not exist for the repository with name '{}' in the registry with id '{}'",
        repository.name, world.settings.account
    );
    Fault::new("LifecyclePolicyNotFoundException", message)
}

pub(super) fn get_lifecycle(world: &Arc<World>, input: &Value) -> Answer {
    with(world, input, |repository| {
        let policy = repository.lifecycle.clone().ok_or_else(|| no_lifecycle(world, repository))?;
        Ok(
            json!({ "registryId": world.settings.account, "repositoryName": repository.name, "lifecyclePolicyText": policy }),
        )
    })
}

pub(super) fn delete_lifecycle(world: &Arc<World>, input: &Value) -> Answer {
    with(world, input, |repository| {
        let policy = repository.lifecycle.take().ok_or_else(|| no_lifecycle(world, repository))?;
        Ok(
            json!({ "registryId": world.settings.account, "repositoryName": repository.name, "lifecyclePolicyText": policy }),
        )
    })
}

pub(super) fn preview(world: &Arc<World>, input: &Value) -> Answer {
    let now = world.clock.now_ms();
    with(world, input, |repository| {
        let mut wanted = repository.clone();
        if let Some(policy) = text(input, "lifecyclePolicyText") {
            check_lifecycle(policy)?;
            wanted.lifecycle = Some(policy.to_owned());
        }
        let policy = wanted.lifecycle.clone().ok_or_else(|| no_lifecycle(world, repository))?;
        let results = lifecycle::expired(&wanted, now).into_iter().map(|e| {
            let image = wanted.images.get(&e.digest);
            json!({
                "imageDigest": e.digest, "imageTags": image.map(|i| &i.tags), "imagePushedAt": image.map(|i| stamp(i.pushed_ms)),
                "action": { "type": "EXPIRE" }, "appliedRulePriority": e.priority,
            })
        });
        let results: Vec<Value> = results.collect();
        Ok(json!({
            "registryId": world.settings.account, "repositoryName": repository.name, "lifecyclePolicyText": policy,
            "status": "COMPLETE", "summary": { "expiringImageTotalCount": results.len() }, "previewResults": results,
        }))
    })
}

pub(super) fn set_policy(world: &Arc<World>, input: &Value) -> Answer {
    let policy = text(input, "policyText").unwrap_or_default();
    with(world, input, |repository| {
        repository.policy = Some(policy.to_owned());
        Ok(json!({ "registryId": world.settings.account, "repositoryName": repository.name, "policyText": policy }))
    })
}

pub(super) fn get_policy(world: &Arc<World>, input: &Value) -> Answer {
    with(world, input, |repository| {
        let missing = || {
            let message =
                format!("Repository policy does not exist for the repository with name '{}'", repository.name);
            Fault::new("RepositoryPolicyNotFoundException", message)
        };
        let policy = repository.policy.clone().ok_or_else(missing)?;
        Ok(json!({ "registryId": world.settings.account, "repositoryName": repository.name, "policyText": policy }))
    })
}

pub(super) fn put_mutability(world: &Arc<World>, input: &Value) -> Answer {
    let mutability = text(input, "imageTagMutability").unwrap_or_default();
    with(world, input, |repository| {
        mutability.clone_into(&mut repository.mutability);
        repository.mutable_tags = list(input, "imageTagMutabilityExclusionFilters").to_vec();
        Ok(
            json!({ "registryId": world.settings.account, "repositoryName": repository.name, "imageTagMutability": mutability }),
        )
    })
}

pub(super) fn put_scanning(world: &Arc<World>, input: &Value) -> Answer {
    let scans = input.pointer("/imageScanningConfiguration/scanOnPush").and_then(Value::as_bool).unwrap_or(false);
    with(world, input, |repository| {
        repository.scans = scans;
        let scanning = json!({ "scanOnPush": scans });
        Ok(json!({
            "registryId": world.settings.account, "repositoryName": repository.name, "imageScanningConfiguration": scanning,
        }))
    })
}

pub(super) fn tags(world: &Arc<World>, operation: &str, input: &Value) -> Answer {
    let arn = text(input, "resourceArn").unwrap_or_default();
    let mut state = world.ecr.state();
    let repository = state.repositories.values_mut().find(|r| r.arn == arn);
    let repository = repository.ok_or_else(|| no_repository(world, arn.rsplit("repository/").next().unwrap_or(arn)))?;
    match operation {
        "TagResource" => repository.tags.extend(tags::read(input, "tags")),
        "UntagResource" => tags::texts(input, "tagKeys").iter().for_each(|key| {
            repository.tags.remove(key);
        }),
        _ => return Ok(json!({ "tags": tags::write(&repository.tags) })),
    }
    Ok(json!({}))
}
