//! Data that an earlier stack left behind when it was deleted: found by its tags and its name, and how a change set names
//! it to take it over. Removing it is asked for by name only.

use aws_sdk_efs::types::{FileSystemDescription, LifeCycleState};
use dbird_core::Target;
use dbird_core::provider::{ErrorKind, Result};
use serde_json::Value;

use crate::AwsProvider;
use crate::config::base;
use crate::error::{Adding, Answer, code, fault};
use crate::stack::change_set::Import;

/// An account has no more pages of file systems than this.
const PAGES_MAX: usize = 100;

/// A file system that carries the environment's tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// Its id.
    pub(crate) id: String,
    /// How many mount targets it has.
    pub(crate) mounts: i32,
}

/// The environment's file system, by its tags; none where there is none.
pub(crate) async fn file_system(aws: &AwsProvider, target: &Target) -> Result<Option<FileSystem>> {
    let mut found = Vec::new();
    let mut page = None;
    for _ in 0..PAGES_MAX {
        let client = aws.clients.efs().await;
        let answer = client.describe_file_systems().set_marker(page.take()).send().await;
        let answer = answer.or_fault("look for a file system", "")?;
        found.extend(answer.file_systems.unwrap_or_default().into_iter().filter(|f| is_of(f, target)));
        match answer.next_marker {
            None => break,
            next => page = next,
        }
    }
    let mut ids: Vec<FileSystem> =
        found.into_iter().map(|f| FileSystem { mounts: f.number_of_mount_targets, id: f.file_system_id }).collect();
    match ids.len() {
        0 | 1 => Ok(ids.pop()),
        _ => {
            let names: Vec<&str> = ids.iter().map(|f| f.id.as_str()).collect();
            let what = format!("{} file systems carry the tags of this environment", ids.len());
            Err(fault(ErrorKind::Conflict, "look for a file system", names.join(", "), what).hint(
                "take the tags `dbird:service` and `dbird:environment` off those that are not this environment's data",
            ))
        }
    }
}

fn is_of(system: &FileSystemDescription, target: &Target) -> bool {
    let has = |key: &str, value: &str| system.tags().iter().any(|t| t.key() == key && t.value() == value);
    let going = matches!(system.life_cycle_state(), LifeCycleState::Deleting | LifeCycleState::Deleted);
    !going && has("dbird:service", &target.service) && has("dbird:environment", &target.environment)
}

/// The access point of a file system that carries the environment's tags, or the only one.
async fn access_point(aws: &AwsProvider, file_system: &str) -> Result<Option<String>> {
    let client = aws.clients.efs().await;
    let answer = client.describe_access_points().file_system_id(file_system).send().await;
    let points = answer.or_fault("look for an access point", file_system)?.access_points.unwrap_or_default();
    let tagged = points.iter().find(|p| p.tags().iter().any(|t| t.key() == "dbird:service"));
    Ok(tagged.or(points.first().filter(|_| points.len() == 1)).and_then(|p| p.access_point_id().map(str::to_owned)))
}

/// The environment's image repository, by its name and its tags: its address; none where there is none, or somebody else's.
pub(crate) async fn repository(aws: &AwsProvider, target: &Target) -> Result<Option<String>> {
    let name = base(target);
    let answer = aws.clients.ecr().await.describe_repositories().repository_names(&name).send().await;
    match answer {
        Err(error) if code(&error) == "RepositoryNotFoundException" => Ok(None),
        answer => {
            let found = answer.or_fault("look for the image repository", &name)?.repositories.unwrap_or_default();
            let Some(found) = found.into_iter().next() else { return Ok(None) };
            let client = aws.clients.ecr().await;
            let tags = client.list_tags_for_resource().set_resource_arn(found.repository_arn).send().await;
            let tags = tags.or_fault("read the tags of the image repository", name)?.tags.unwrap_or_default();
            let has = |key: &str, value: &str| tags.iter().any(|tag| tag.key() == key && tag.value() == value);
            let own = has("dbird:service", &target.service) && has("dbird:environment", &target.environment);
            Ok(found.repository_uri.filter(|_| own))
        }
    }
}

/// How a change set names those resources of a part of a template that exist already.
pub(crate) async fn imports(aws: &AwsProvider, target: &Target, part: &Value) -> Result<Vec<Import>> {
    let mut imports = Vec::new();
    for (logical, resource) in part["Resources"].as_object().into_iter().flatten() {
        let kind = resource["Type"].as_str().unwrap_or_default();
        let identifier = match kind {
            "AWS::EFS::FileSystem" => file_system(aws, target).await?.map(|f| ("FileSystemId", f.id)),
            "AWS::EFS::AccessPoint" => match file_system(aws, target).await? {
                Some(system) => access_point(aws, &system.id).await?.map(|id| ("AccessPointId", id)),
                None => None,
            },
            "AWS::ECR::Repository" => repository(aws, target).await?.map(|_| ("RepositoryName", base(target))),
            _ => None,
        };
        let Some((property, value)) = identifier else { continue };
        let identifier = (property.to_owned(), value);
        imports.push(Import { logical: logical.clone(), kind: kind.to_owned(), identifier });
    }
    Ok(imports)
}

/// Deletes the environment's file system for good. What is not there is deleted already.
pub(crate) async fn delete_file_system(aws: &AwsProvider, target: &Target) -> Result<String> {
    let Some(system) = file_system(aws, target).await? else { return Ok("there was no file system".to_owned()) };
    if system.mounts > 0 {
        let what = "the file system is still mounted";
        return Err(fault(ErrorKind::Conflict, "delete the file system", &system.id, what)
            .retry()
            .hint("its mount targets go with the stack: run the same command again in a minute"));
    }
    let client = aws.clients.efs().await;
    let answer = client.describe_access_points().file_system_id(&system.id).send().await;
    for point in answer.or_fault("look for access points", &system.id)?.access_points.unwrap_or_default() {
        let id = point.access_point_id.unwrap_or_default();
        match client.delete_access_point().access_point_id(&id).send().await {
            Err(error) if code(&error) == "AccessPointNotFound" => {}
            answer => answer.or_fault("delete the access point", id).map(drop)?,
        }
    }
    match client.delete_file_system().file_system_id(&system.id).send().await {
        Err(error) if code(&error) == "FileSystemNotFound" => {}
        answer => answer.or_fault("delete the file system", &system.id).map(drop)?,
    }
    Ok(format!("{} was deleted", system.id))
}

/// Deletes the environment's image repository with all its images. What is not there is deleted already.
pub(crate) async fn delete_repository(aws: &AwsProvider, target: &Target) -> Result<String> {
    let name = base(target);
    if repository(aws, target).await?.is_none() {
        return Ok("there was no repository".to_owned());
    }
    match aws.clients.ecr().await.delete_repository().repository_name(&name).force(true).send().await {
        Err(error) if code(&error) == "RepositoryNotFoundException" => Ok("there was no repository".to_owned()),
        answer => answer.or_fault("delete the image repository", &name).map(|_| format!("{name} was deleted")),
    }
}
