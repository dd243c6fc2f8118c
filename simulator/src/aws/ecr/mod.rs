//! ECR: repositories of images, what is told of them, and the registry that images are pushed to. It decides which image has
//! which tag and which one expires; layers are the registry's, and what runs is unpacked from the very same folders.
//!
//! The registry speaks plain HTTP on a loopback port of its own: a repository's URI is `127.0.0.1:PORT/NAME`. Lifecycle rules are
//! followed once a simulated day, and whenever `/_simulator/ecr` is asked.

mod images;
mod kind;
mod lifecycle;
mod manifest;
mod registry;
mod repositories;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use serde_json::{Value, json};

pub(crate) use kind::KINDS;

use super::{Answer, Call, Fault, World, tags::Tags};

/// The folder below the simulator's in which each repository has its own.
const FOLDER: &str = "ecr";
/// Lifecycle rules are followed so often.
const DAY_MS: u64 = 24 * 3_600_000;

/// An image of a repository.
#[derive(Debug, Clone)]
struct Image {
    digest: String,
    media_type: String,
    tags: BTreeSet<String>,
    bytes: u64,
    pushed_ms: u64,
    pulled_ms: Option<u64>,
}

/// A repository.
#[derive(Debug, Clone)]
struct Repository {
    name: String,
    arn: String,
    created_ms: u64,
    tags: Tags,
    mutability: String,
    mutable_tags: Vec<Value>,
    scans: bool,
    encryption: Value,
    lifecycle: Option<String>,
    policy: Option<String>,
    images: BTreeMap<String, Image>,
}

#[derive(Debug, Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    expired_ms: u64,
}

/// The registry of the account.
#[derive(Debug, Default)]
pub(crate) struct Ecr {
    state: Mutex<State>,
    address: OnceLock<Result<SocketAddr, String>>,
    token: OnceLock<String>,
}

fn no_repository(world: &World, name: &str) -> Fault {
    let account = &world.settings.account;
    let message = format!("The repository with name '{name}' does not exist in the registry with id '{account}'");
    Fault::new("RepositoryNotFoundException", message)
}

fn bad(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameterException", message)
}

impl Ecr {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the registry answers. It begins to when it is first asked for.
    fn address(world: &Arc<World>) -> Result<SocketAddr, Fault> {
        let address = world.ecr.address.get_or_init(|| registry::begin(world).map_err(|why| why.to_string()));
        address.clone().map_err(|why| {
            Fault::new("ServerException", format!("the registry has no address: {why}")).with_status(500)
        })
    }

    /// The password that every client is given, as it is sent: `AWS:...` in base 64.
    fn token(&self) -> &str {
        self.token.get_or_init(|| base64(format!("AWS:{:032x}", fastrand::u128(..)).as_bytes()))
    }

    /// The folder in which an image lies as an OCI layout, and the digest of its manifest for this machine.
    ///
    /// # Errors
    /// In the words in which Fargate says that it can't be pulled.
    pub(crate) fn layout(world: &Arc<World>, image: &str) -> Result<(PathBuf, String), String> {
        let cant = |why: &str| {
            format!(
                "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref {image}: {why}"
            )
        };
        let (host, rest) =
            image.split_once('/').ok_or_else(|| cant("the simulator pulls from the account's own registry only"))?;
        let own = Self::address(world).map_err(|fault| cant(&fault.message))?.to_string();
        let named = format!("{}.dkr.ecr.{}.amazonaws.com", world.settings.account, world.settings.region);
        if host != own && host != named {
            return Err(cant("the simulator pulls from the account's own registry only"));
        }
        let missing = || cant(&format!("{image}: not found"));
        let (name, reference) = match rest.split_once('@') {
            Some((name, digest)) => (name.split(':').next().unwrap_or(name), digest),
            None => rest.rsplit_once(':').unwrap_or((rest, "latest")),
        };
        let digest = {
            let now = world.clock.now_ms();
            let mut state = world.ecr.state();
            let repository = state.repositories.get_mut(name).ok_or_else(missing)?;
            let digest = repository.find(reference).ok_or_else(missing)?;
            if let Some(image) = repository.images.get_mut(&digest) {
                image.pulled_ms = Some(now);
            }
            digest
        };
        let folder = folder(world, name);
        let digest =
            manifest::for_this_machine(&folder, &digest).ok_or_else(|| cant("no image for linux/amd64 in it"))?;
        Ok((folder, digest))
    }

    /// Follows the lifecycle rules now; what was expired, by repository.
    pub(crate) fn expire(world: &Arc<World>) -> Value {
        let now = world.clock.now_ms();
        let mut state = world.ecr.state();
        state.expired_ms = now;
        let mut all = BTreeMap::new();
        for repository in state.repositories.values_mut() {
            let gone: Vec<String> = lifecycle::expired(repository, now).into_iter().map(|e| e.digest).collect();
            repository.images.retain(|digest, _| !gone.contains(digest));
            all.insert(repository.name.clone(), gone);
        }
        json!({ "expired": all })
    }
}

impl Repository {
    /// The digest of the image with this tag or digest.
    fn find(&self, reference: &str) -> Option<String> {
        if reference.starts_with("sha256:") {
            return self.images.contains_key(reference).then(|| reference.to_owned());
        }
        self.images.values().find(|i| i.tags.contains(reference)).map(|i| i.digest.clone())
    }

    /// Whether a tag of another image may be moved.
    fn may_move(&self, tag: &str) -> bool {
        let is_excluded = self
            .mutable_tags
            .iter()
            .filter_map(|f| super::text(f, "filter"))
            .any(|filter| lifecycle::matches(filter, tag));
        match self.mutability.as_str() {
            "IMMUTABLE" => false,
            "IMMUTABLE_WITH_EXCLUSION" => is_excluded,
            "MUTABLE_WITH_EXCLUSION" => !is_excluded,
            _ => true,
        }
    }

    /// Gives a tag to an image, which must be there.
    fn tag(&mut self, tag: &str, digest: &str) -> Result<(), Fault> {
        let holder = self.find(tag);
        if holder.as_deref().is_some_and(|h| h != digest) && !self.may_move(tag) {
            return Err(Fault::new(
                "ImageTagAlreadyExistsException",
                format!(
                    "The image tag '{tag}' already exists in the '{}' repository and cannot be overwritten because the tag is \
                     immutable.",
                    self.name
                ),
            ));
        }
        for image in self.images.values_mut() {
            if image.digest == digest {
                image.tags.insert(tag.to_owned());
            } else {
                image.tags.remove(tag);
            }
        }
        Ok(())
    }
}

fn folder(world: &World, name: &str) -> PathBuf {
    world.settings.folder.join(FOLDER).join(name)
}

/// Bytes in base 64.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let all = three.iter().enumerate().fold(0u32, |all, (at, byte)| all | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let letter = LETTERS[(all >> (18 - 6 * at) & 63) as usize];
            text.push(if at > three.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let now = world.clock.now_ms();
    if now.saturating_sub(world.ecr.state().expired_ms.max(world.clock.origin_unix_ms())) > DAY_MS {
        Ecr::expire(world);
    }
    let input = &call.input;
    match call.operation.as_str() {
        "GetAuthorizationToken" => {
            let address = Ecr::address(world)?;
            let data = json!({
                "authorizationToken": world.ecr.token(), "expiresAt": super::stamp(now + DAY_MS / 2),
                "proxyEndpoint": format!("http://{address}"),
            });
            Ok(json!({ "authorizationData": [data] }))
        }
        "CreateRepository" => repositories::create(world, input),
        "DescribeRepositories" => repositories::describe(world, input),
        "DeleteRepository" => repositories::delete(world, input),
        "PutLifecyclePolicy" => repositories::put_lifecycle(world, input),
        "GetLifecyclePolicy" => repositories::get_lifecycle(world, input),
        "DeleteLifecyclePolicy" => repositories::delete_lifecycle(world, input),
        "StartLifecyclePolicyPreview" | "GetLifecyclePolicyPreview" => repositories::preview(world, input),
        "SetRepositoryPolicy" => repositories::set_policy(world, input),
        "GetRepositoryPolicy" => repositories::get_policy(world, input),
        "PutImageTagMutability" => repositories::put_mutability(world, input),
        "PutImageScanningConfiguration" => repositories::put_scanning(world, input),
        "ListTagsForResource" | "TagResource" | "UntagResource" => repositories::tags(world, &call.operation, input),
        "DescribeImages" => images::describe(world, input),
        "ListImages" => images::list(world, input),
        "BatchGetImage" => images::get(world, input),
        "BatchDeleteImage" => images::delete(world, input),
        "PutImage" => images::put(world, input),
        "DescribeImageScanFindings" => images::findings(world, input),
        "StartImageScan" => images::scan(world, input),
        "BatchCheckLayerAvailability" => images::layers(world, input),
        other => Err(Fault::unknown("ecr", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_is_padded() {
        for (bytes, expected) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("AWS:x", "QVdTOng=")] {
            assert_eq!(base64(bytes.as_bytes()), expected, "{bytes}");
        }
    }
}
