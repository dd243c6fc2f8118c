//! What callers ask of the images of a repository. It decides what is refused; scans find nothing.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{Image, Repository, bad, folder, manifest, no_repository};
use crate::aws::{Answer, Fault, World, list as members, stamp, tags, text};

fn with<T>(world: &World, input: &Value, act: impl FnOnce(&mut Repository) -> Result<T, Fault>) -> Result<T, Fault> {
    let name = text(input, "repositoryName").unwrap_or_default();
    let mut state = world.ecr.state();
    act(state.repositories.get_mut(name).ok_or_else(|| no_repository(world, name))?)
}

/// The image that an identifier means.
fn meant<'a>(repository: &'a Repository, id: &Value) -> Result<&'a Image, (&'static str, String)> {
    let (digest, tag) = (text(id, "imageDigest"), text(id, "imageTag"));
    let missing = || ("ImageNotFound", "Requested image not found".to_owned());
    let found = match (digest, tag) {
        (None, None) => {
            return Err((
                "MissingDigestAndTag",
                "Invalid request parameters: both digest and tag are missing".to_owned(),
            ));
        }
        (Some(digest), _) if manifest::blob(std::path::Path::new(""), digest).is_none() => {
            return Err(("InvalidImageDigest", format!("Invalid request parameters: image digest {digest}")));
        }
        (Some(digest), _) => repository.images.get(digest),
        (None, Some(tag)) => repository.find(tag).and_then(|d| repository.images.get(&d)),
    };
    let found = found.ok_or_else(missing)?;
    match tag {
        Some(tag) if !found.tags.contains(tag) => {
            Err(("ImageTagDoesNotMatchDigest", format!("Tag {tag} is not that of the image")))
        }
        _ => Ok(found),
    }
}

pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let status = input.pointer("/filter/tagStatus").and_then(Value::as_str);
    with(world, input, |repository| {
        let ids = members(input, "imageIds");
        let asked: Result<Vec<&Image>, _> =
            ids.iter().map(|id| meant(repository, id).map_err(|_| not_found(repository, id))).collect();
        let asked = asked?;
        let all: Vec<&Image> = if ids.is_empty() { repository.images.values().collect() } else { asked };
        let is_meant = |image: &&Image| match status {
            Some("TAGGED") => !image.tags.is_empty(),
            Some("UNTAGGED") => image.tags.is_empty(),
            _ => true,
        };
        let views = all.into_iter().filter(is_meant).map(|image| {
            let mut view = json!({
                "registryId": world.settings.account, "repositoryName": repository.name, "imageDigest": image.digest,
                "imageSizeInBytes": image.bytes, "imagePushedAt": stamp(image.pushed_ms),
                "imageManifestMediaType": image.media_type, "imageStatus": "ACTIVE",
                "artifactMediaType": "application/vnd.oci.image.config.v1+json",
            });
            if !image.tags.is_empty() {
                view["imageTags"] = json!(image.tags);
            }
            if let Some(at) = image.pulled_ms {
                view["lastRecordedPullTime"] = stamp(at);
            }
            if repository.scans {
                view["imageScanStatus"] =
                    json!({ "status": "COMPLETE", "description": "The scan was completed successfully." });
                view["imageScanFindingsSummary"] =
                    json!({ "imageScanCompletedAt": stamp(image.pushed_ms), "findingSeverityCounts": {} });
            }
            view
        });
        Ok(json!({ "imageDetails": views.collect::<Vec<_>>() }))
    })
}

fn not_found(repository: &Repository, id: &Value) -> Fault {
    let message = format!(
        "The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist within the repository with name '{}'",
        text(id, "imageDigest").unwrap_or("null"),
        text(id, "imageTag").unwrap_or("null"),
        repository.name
    );
    Fault::new("ImageNotFoundException", message)
}

/// An image's identifiers: one for each tag, or one without.
fn ids(image: &Image) -> Vec<Value> {
    if image.tags.is_empty() {
        return vec![json!({ "imageDigest": image.digest })];
    }
    image.tags.iter().map(|tag| json!({ "imageDigest": image.digest, "imageTag": tag })).collect()
}

pub(super) fn list(world: &Arc<World>, input: &Value) -> Answer {
    let status = input.pointer("/filter/tagStatus").and_then(Value::as_str);
    with(world, input, |repository| {
        let is_meant = |id: &Value| match status {
            Some("TAGGED") => id.get("imageTag").is_some(),
            Some("UNTAGGED") => id.get("imageTag").is_none(),
            _ => true,
        };
        let all: Vec<Value> = repository.images.values().flat_map(ids).filter(is_meant).collect();
        Ok(json!({ "imageIds": all }))
    })
}

fn failure(id: &Value, (code, reason): (&str, String)) -> Value {
    json!({ "imageId": id, "failureCode": code, "failureReason": reason })
}

pub(super) fn get(world: &Arc<World>, input: &Value) -> Answer {
    with(world, input, |repository| {
        let (mut images, mut failures) = (Vec::new(), Vec::new());
        for id in members(input, "imageIds") {
            let read = meant(repository, id).and_then(|image| {
                let path = manifest::blob(&folder(world, &repository.name), &image.digest);
                let bytes = path.and_then(|p| std::fs::read_to_string(p).ok());
                bytes.map(|b| (image, b)).ok_or(("ImageNotFound", "Requested image not found".to_owned()))
            });
            match read {
                Err(why) => failures.push(failure(id, why)),
                Ok((image, text)) => {
                    let mut whole = id.clone();
                    whole["imageDigest"] = json!(image.digest);
                    images.push(json!({
                        "registryId": world.settings.account, "repositoryName": repository.name, "imageId": whole,
                        "imageManifest": text, "imageManifestMediaType": image.media_type,
                    }));
                }
            }
        }
        Ok(json!({ "images": images, "failures": failures }))
    })
}

pub(super) fn delete(world: &Arc<World>, input: &Value) -> Answer {
    with(world, input, |repository| {
        let (mut gone, mut failures) = (Vec::new(), Vec::new());
        for id in members(input, "imageIds") {
            match meant(repository, id).map(|i| i.digest.clone()) {
                Err(why) => failures.push(failure(id, why)),
                Ok(digest) => {
                    let tag = text(id, "imageTag").filter(|_| text(id, "imageDigest").is_none());
                    let Some(image) = repository.images.get_mut(&digest) else { continue };
                    match tag {
                        // By tag, only the tag goes while there are others.
                        Some(tag) if image.tags.len() > 1 => {
                            image.tags.remove(tag);
                            gone.push(json!({ "imageDigest": digest, "imageTag": tag }));
                        }
                        _ => {
                            gone.extend(ids(image));
                            repository.images.remove(&digest);
                        }
                    }
                }
            }
        }
        Ok(json!({ "imageIds": gone, "failures": failures }))
    })
}

/// Writes down a manifest and gives it a tag, if it is to have one. For the API and for the registry.
pub(super) fn accept(
    world: &Arc<World>,
    name: &str,
    bytes: &[u8],
    told: Option<&str>,
    tag: Option<&str>,
) -> Result<Image, Fault> {
    let place = folder(world, name);
    let digest = manifest::digest(bytes);
    let (media_type, needs, size) = manifest::needs(bytes, told).map_err(bad)?;
    let missing: Vec<&String> =
        needs.iter().filter(|d| manifest::blob(&place, d).is_none_or(|p| !p.is_file())).collect();
    if !missing.is_empty() {
        let message = format!("The layers {missing:?} required by the image do not exist in the repository '{name}'.");
        return Err(Fault::new("LayersNotFoundException", message));
    }
    let now = world.clock.now_ms();
    let mut state = world.ecr.state();
    let repository = state.repositories.get_mut(name).ok_or_else(|| no_repository(world, name))?;
    if let Some(tag) = tag
        && repository.find(tag).is_some_and(|holder| holder != digest)
        && !repository.may_move(tag)
    {
        // Says why, before anything is written.
        repository.tag(tag, &digest)?;
    }
    let path = manifest::blob(&place, &digest).ok_or_else(|| bad("the digest is none"))?;
    std::fs::write(&path, bytes)
        .map_err(|why| Fault::new("ServerException", format!("{}: {why}", path.display())).with_status(500))?;
    repository.images.entry(digest.clone()).or_insert_with(|| Image {
        digest: digest.clone(),
        media_type,
        tags: BTreeSet::new(),
        bytes: size + bytes.len() as u64,
        pushed_ms: now,
        pulled_ms: None,
    });
    if let Some(tag) = tag {
        repository.tag(tag, &digest)?;
    }
    repository.images.get(&digest).cloned().ok_or_else(|| no_repository(world, name))
}

pub(super) fn put(world: &Arc<World>, input: &Value) -> Answer {
    let name = text(input, "repositoryName").unwrap_or_default();
    let bytes = text(input, "imageManifest").unwrap_or_default();
    let tag = text(input, "imageTag");
    let digest = manifest::digest(bytes.as_bytes());
    if text(input, "imageDigest").is_some_and(|d| d != digest) {
        return Err(Fault::new("ImageDigestDoesNotMatchException", format!("The image's digest is {digest}.")));
    }
    let is_there =
        with(world, input, |r| Ok(r.images.get(&digest).is_some_and(|i| tag.is_none_or(|t| i.tags.contains(t)))))?;
    if is_there {
        let message = format!("Image with digest '{digest}' and tag '{}' already exists", tag.unwrap_or("null"));
        return Err(Fault::new("ImageAlreadyExistsException", message));
    }
    let image = accept(world, name, bytes.as_bytes(), text(input, "imageManifestMediaType"), tag)?;
    let mut id = json!({ "imageDigest": image.digest });
    if let Some(tag) = tag {
        id["imageTag"] = json!(tag);
    }
    Ok(json!({ "image": {
        "registryId": world.settings.account, "repositoryName": name, "imageId": id, "imageManifest": bytes,
        "imageManifestMediaType": image.media_type,
    } }))
}

pub(super) fn findings(world: &Arc<World>, input: &Value) -> Answer {
    let id = input.get("imageId").cloned().unwrap_or_default();
    with(world, input, |repository| {
        let image = meant(repository, &id).map_err(|_| not_found(repository, &id))?;
        Ok(json!({
            "registryId": world.settings.account, "repositoryName": repository.name, "imageId": id,
            "imageScanStatus": { "status": "COMPLETE", "description": "The scan was completed successfully." },
            "imageScanFindings": {
                "imageScanCompletedAt": stamp(image.pushed_ms), "findingSeverityCounts": {}, "findings": [],
            },
        }))
    })
}

pub(super) fn scan(world: &Arc<World>, input: &Value) -> Answer {
    let id = input.get("imageId").cloned().unwrap_or_default();
    with(world, input, |repository| {
        meant(repository, &id).map_err(|_| not_found(repository, &id))?;
        Ok(json!({
            "registryId": world.settings.account, "repositoryName": repository.name, "imageId": id,
            "imageScanStatus": { "status": "IN_PROGRESS" },
        }))
    })
}

pub(super) fn layers(world: &Arc<World>, input: &Value) -> Answer {
    with(world, input, |repository| {
        let place = folder(world, &repository.name);
        let layers = tags::texts(input, "layerDigests").into_iter().map(|digest| {
            let size = manifest::blob(&place, &digest).and_then(|p| std::fs::metadata(p).ok()).map(|m| m.len());
            json!({
                "layerDigest": digest, "layerSize": size.unwrap_or(0),
                "layerAvailability": if size.is_some() { "AVAILABLE" } else { "UNAVAILABLE" },
            })
        });
        Ok(json!({ "layers": layers.collect::<Vec<_>>(), "failures": [] }))
    })
}
