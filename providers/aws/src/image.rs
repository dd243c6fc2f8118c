//! The image where tasks can be started from it: pushed to the environment's repository, and named there by a tag for each
//! release, which keeps it from being cleaned up. It decides which of those tags are old.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_ecr::types::ImageIdentifier;
use dbird_core::provider::{ErrorKind, ProgressEvent, Result};
use dbird_core::{Action, Digest, Handle, Phase, Progress, ProviderError, ReleaseId, Target, Work};
use dbird_registry::{Credentials, Password, Place, Pushed, RegistryError, Source};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::AwsProvider;
use crate::clock::unix_ms;
use crate::config::base;
use crate::error::{Adding, Answer, code, fault};
use crate::token::Token;

/// A poll waits so long for news.
const WAIT: Duration = Duration::from_millis(900);
/// A request removes no more tags than this.
const BATCH: usize = 100;
/// A repository has no more pages of images than this.
const PAGES_MAX: usize = 50;

/// An image on its way, as a handle remembers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The repository's address.
    repository: String,
    /// The layout's folder, as the document names it.
    source: String,
    /// The manifest's digest.
    digest: String,
    /// The tag that this release gives it.
    tag: String,
}

impl Job {
    fn of(target: &Target, work: &Work) -> Result<Job> {
        let text = |key: &str| {
            work.body[key].as_str().map(str::to_owned).ok_or_else(|| {
                let what = if key == "digest" { "no image was built".to_owned() } else { format!("there is no {key}") };
                fault(ErrorKind::Invalid, "apply image", "", what)
                    .hint("build the image: run the deploy without `--image`, or `dbird image build`")
            })
        };
        let digest: Digest =
            text("digest")?.parse().map_err(|why: String| fault(ErrorKind::Invalid, "apply image", "", why))?;
        let tag = format!("{}{}", prefix(target), work.release);
        Ok(Job { repository: text("repository")?, source: text("source")?, digest: digest.to_string(), tag })
    }

    fn outputs(&self) -> BTreeMap<String, Value> {
        let reference = format!("{}@{}", self.repository, self.digest);
        BTreeMap::from([("reference".to_owned(), json!(reference)), ("digest".to_owned(), json!(self.digest))])
    }
}

/// What all tags of an environment's releases begin with.
fn prefix(target: &Target) -> String {
    format!("release-{}-", target.environment)
}

/// What was seen of images.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    under_way: Mutex<HashMap<String, Arc<Push>>>,
    cleaned: Mutex<HashSet<ReleaseId>>,
}

/// A push that runs beside the polls.
#[derive(Debug, Default)]
struct Push {
    so_far: Mutex<Pushed>,
    ended: Mutex<Option<std::result::Result<Pushed, ProviderError>>>,
    news: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to push the image; for one that is there already it only says where.
pub(crate) fn apply(target: &Target, work: &Work) -> Result<Token> {
    if work.action == Action::Delete {
        return Ok(Token::Done { outputs: BTreeMap::new(), said: "it goes with its repository".to_owned() });
    }
    let job = Job::of(target, work)?;
    if work.action == Action::Adopt {
        return Ok(Token::Done { outputs: job.outputs(), said: String::new() });
    }
    Ok(Token::Image(job))
}

/// How the push stands. It is begun by the first poll, and again by the first after a crash.
pub(crate) async fn poll(aws: &AwsProvider, _: &Target, handle: &Handle, job: &Job) -> Result<Progress> {
    let known = lock(&aws.images.under_way).get(&handle.token).cloned();
    let push = match known {
        Some(push) => push,
        None => begin(aws, handle, job).await?,
    };
    if lock(&push.ended).is_none() {
        // Whether news came or not is seen below.
        let _ = timeout(WAIT, push.news.notified()).await;
    }
    let ended = lock(&push.ended).clone();
    let so_far = *lock(&push.so_far);
    match ended {
        None => Ok(Progress { waiting_for: told(so_far), ..Progress::in_phase(Phase::Working) }),
        Some(Ok(done)) => {
            let text = match done.blobs_sent {
                0 => format!("{} was there, and is called {}", job.digest, job.tag),
                _ => format!("{} was pushed as {} ({})", job.digest, job.tag, told(done)),
            };
            let events = vec![ProgressEvent { at_unix_ms: unix_ms(), text }];
            Ok(Progress { outputs: job.outputs(), events, ..Progress::in_phase(Phase::Finished) })
        }
        Some(Err(error)) => {
            // The next poll begins anew: what has arrived stays.
            lock(&aws.images.under_way).remove(&handle.token);
            Err(error)
        }
    }
}

fn told(so_far: Pushed) -> String {
    let mib = so_far.bytes as f64 / f64::from(1 << 20);
    format!("{} parts sent, {mib:.1} MiB, {} were there", so_far.blobs_sent, so_far.blobs_there)
}

async fn begin(aws: &AwsProvider, handle: &Handle, job: &Job) -> Result<Arc<Push>> {
    let place = place(&job.repository)?;
    let credentials = credentials(aws, &place).await?;
    let folder = job.source.strip_prefix("oci:").unwrap_or(&job.source);
    let layout: PathBuf = aws.config.project.join(folder);
    let source = Source { layout, digest: job.digest.clone() };
    let push = Arc::new(Push::default());
    // Two polls at once begin one push.
    match lock(&aws.images.under_way).entry(handle.token.clone()) {
        Entry::Occupied(other) => return Ok(other.get().clone()),
        Entry::Vacant(free) => free.insert(push.clone()),
    };
    let (running, tags) = (push.clone(), vec![job.tag.clone()]);
    let runtime = tokio::runtime::Handle::current();
    // Reading and hashing a large image would hold up whatever else runs.
    tokio::task::spawn_blocking(move || {
        let hear = |so_far: Pushed| *lock(&running.so_far) = so_far;
        let ended = runtime.block_on(push_or_tag(&source, &place, &tags, &credentials, &hear));
        *lock(&running.ended) = Some(ended.map_err(|error| refused(&error, &place)));
        running.news.notify_one();
    });
    Ok(push)
}

fn place(repository: &str) -> Result<Place> {
    Place::parse(repository).map_err(|error| {
        fault(ErrorKind::Invalid, "push the image", repository, error.to_string())
            .hint("correct `repository` in [cloud.aws]")
    })
}

/// Pushes the image; one that is not on this machine may be in the repository all the same.
async fn push_or_tag(
    source: &Source,
    place: &Place,
    tags: &[String],
    credentials: &Credentials,
    hear: &(dyn Fn(Pushed) + Send + Sync),
) -> std::result::Result<Pushed, RegistryError> {
    match dbird_registry::push(source, place, tags, credentials, hear).await {
        Err(absent @ (RegistryError::Layout { .. } | RegistryError::Io { .. })) => {
            match dbird_registry::tag(place, &source.digest, tags, credentials).await {
                Ok(()) => Ok(Pushed::default()),
                Err(RegistryError::NotFound { .. }) => Err(absent),
                Err(other) => Err(other),
            }
        }
        pushed => pushed,
    }
}

/// The password that ECR gives for twelve hours.
async fn credentials(aws: &AwsProvider, place: &Place) -> Result<Credentials> {
    if !place.registry.contains(".dkr.ecr.") && !place.plain_http {
        return Ok(Credentials::None);
    }
    let answer = aws.clients.ecr().await.get_authorization_token().send().await;
    let token = answer.or_fault("get a password for the repository", &place.registry)?;
    let given = token.authorization_data.unwrap_or_default().into_iter().next().and_then(|d| d.authorization_token);
    let text = given.as_deref().and_then(|t| aws_smithy_types::base64::decode(t).ok());
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    match text.split_once(':') {
        Some((user, password)) => Ok(Credentials::Basic { user: user.to_owned(), password: Password::new(password) }),
        None => Err(fault(ErrorKind::Internal, "get a password for the repository", &place.registry, "ECR gave none")),
    }
}

fn refused(error: &RegistryError, place: &Place) -> ProviderError {
    let retry = error.is_retryable();
    let kind = if retry { ErrorKind::Unavailable } else { ErrorKind::Invalid };
    let mut fault =
        fault(kind, "push the image", format!("{}/{}", place.registry, place.repository), error.to_string())
            .hint(error.hint());
    if let Some(source) = std::error::Error::source(error) {
        fault = fault.because(source);
    }
    fault.retry = retry;
    fault
}

/// Takes the tags of old releases off the repository once a release serves. What that costs nobody waits for: it is tried
/// once, and the next release does what this one could not.
pub(crate) async fn forget_old(aws: &AwsProvider, target: &Target, handle: &Handle) {
    if aws.config.keep == 0 || handle.release.0 <= u64::from(aws.config.keep) {
        return;
    }
    if lock(&aws.images.cleaned).insert(handle.release)
        && let Err(error) = forget(aws, target).await
    {
        tracing::warn!(%error, "old images are not cleaned up");
    }
}

async fn forget(aws: &AwsProvider, target: &Target) -> Result<()> {
    let client = aws.clients.ecr().await;
    let name = base(target);
    let mut tags = Vec::new();
    let mut page = None;
    for _ in 0..PAGES_MAX {
        let answer = client.describe_images().repository_name(&name).set_next_token(page.take()).send().await;
        let answer = match answer {
            // The images lie in a repository that is not the environment's own.
            Err(error) if code(&error) == "RepositoryNotFoundException" => return Ok(()),
            answer => answer.or_fault("read the images", &name)?,
        };
        tags.extend(
            answer.image_details.unwrap_or_default().into_iter().flat_map(|i| i.image_tags.unwrap_or_default()),
        );
        match answer.next_token {
            None => break,
            next => page = next,
        }
    }
    for batch in old(&tags, &prefix(target), aws.config.keep).chunks(BATCH) {
        let ids = batch.iter().map(|tag| ImageIdentifier::builder().image_tag(tag).build()).collect();
        let answer = client.batch_delete_image().repository_name(&name).set_image_ids(Some(ids)).send().await;
        answer.or_fault("clean up old images", &name)?;
    }
    Ok(())
}

/// The tags with this prefix beyond the newest so many.
fn old(tags: &[String], prefix: &str, keep: u32) -> Vec<String> {
    let mut releases: Vec<(u64, &String)> =
        tags.iter().filter_map(|tag| Some((tag.strip_prefix(prefix)?.parse::<ReleaseId>().ok()?.0, tag))).collect();
    releases.sort_unstable_by(|a, b| b.cmp(a));
    releases.into_iter().skip(keep as usize).map(|(_, tag)| tag.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_tags_of_this_environment_go() {
        let tags: Vec<String> = ["r9", "r10", "r2", "r1"].map(|r| format!("release-dev-{r}")).to_vec();
        let others = ["release-prod-r1", "release-dev-x", "latest"].map(str::to_owned);
        let all: Vec<String> = tags.iter().chain(&others).cloned().collect();
        assert_eq!(old(&all, "release-dev-", 2), ["release-dev-r2", "release-dev-r1"]);
        assert!(old(&all, "release-dev-", 4).is_empty());
    }

    #[test]
    fn a_repository_names_its_registry() {
        let ecr = place("123456789012.dkr.ecr.us-east-1.amazonaws.com/bird-dev").unwrap();
        assert_eq!((ecr.repository.as_str(), ecr.plain_http), ("bird-dev", false));
        assert!(place("127.0.0.1:5000/bird-dev").unwrap().plain_http);
        assert_eq!(place("bird").unwrap_err().kind, ErrorKind::Invalid);
    }
}
