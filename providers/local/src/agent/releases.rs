//! From a release's document to copies that run. It decides what a copy is given and which tasks of an earlier agent are
//! taken over; when a release runs is decided by the course of a rollout.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dataplane::files::{self, Lasting};
use dataplane::image::{self, Unpacked};
use dataplane::runtime::{Port, Recipe, Runtime};
use dataplane::supervise::{Copy, Health, Slot};
use dataplane::task::{Found, Task};
use dataplane::volume::Mount;
use dataplane::{Secret, podman};
use dbird_core::provider::ErrorKind;
use dbird_core::{Digest, ProviderError, ReleaseId, spec};

use super::keeper::Keeper;
use super::log;
use super::state::ReleaseRecord;
use crate::document::{ImageDocument, ServiceDocument};
use crate::fault::{self, Adding};

/// Tasks that nobody wants are killed after this long.
pub(super) const EVICTION: Duration = Duration::from_secs(10);

/// Values of secret variables.
pub(super) type Secrets = BTreeMap<String, Secret>;

/// Tasks that were found running: release -> copy -> task.
pub(super) type FoundTasks = BTreeMap<String, BTreeMap<u32, Task>>;

/// The store that an image document names, as a folder of this machine.
pub(super) fn store(
    project: &Path,
    repository: &str,
    digest: &Digest,
    operation: &str,
) -> Result<std::path::PathBuf, ProviderError> {
    let document = ImageDocument { repository: repository.to_owned(), digest: digest.clone() };
    let layout = document.layout().map_err(|why| fault::fault(ErrorKind::Invalid, operation, repository, why))?;
    Ok(project.join(layout))
}

impl Keeper {
    /// Everything that a release's tasks are started with. Blocks while an image is unpacked or given to podman.
    pub(super) fn recipe(
        &self,
        body: &ServiceDocument,
        secrets: Secrets,
        operation: &str,
    ) -> Result<Recipe, ProviderError> {
        let image = body.image.as_ref().ok_or_else(|| {
            fault::fault(ErrorKind::Invalid, operation, &body.name, "field `image`: no image is given")
                .hint("build one, or deploy with `--image`")
        })?;
        let store = store(&self.options.project, &image.repository, &image.digest, operation)?;
        let unpacked: Unpacked = image::unpack(&store, image.digest.as_str(), &self.paths.images())
            .map_err(|error| fault::image(operation, &error))?;
        let runtime = match body.runtime {
            spec::Runtime::Process => Runtime::Process,
            spec::Runtime::Podman => {
                Runtime::Podman { image: podman::load(&unpacked).map_err(|error| fault::runtime(operation, &error))? }
            }
        };
        let mut mounts = Vec::new();
        for mount in &body.mounts {
            let folder = self.paths.data().join(&mount.name);
            files::make_folder(&folder).map_err(|error| {
                fault::disk(operation, folder.display().to_string(), "can't make a data folder", &error)
            })?;
            mounts.push(Mount { path: mount.path.clone(), folder });
        }
        let mut env = body.env.clone();
        // The front door takes no more requests to it by then, so nobody needs time to notice.
        env.entry("DRAIN_DELAY_MS".to_owned()).or_insert_with(|| "0".to_owned());
        Ok(Recipe {
            runtime,
            image: unpacked,
            argv: None,
            env,
            secrets,
            port: Some(Port { inside: body.port, env: body.port_env.clone() }),
            mounts,
            stop_grace_ms: body.stop_grace_ms,
            timeout_ms: None,
        })
    }

    /// As [`recipe`](Self::recipe), without keeping everything else waiting.
    pub(super) async fn recipe_soon(
        self: &Arc<Self>,
        body: ServiceDocument,
        secrets: Secrets,
        operation: &'static str,
    ) -> Result<Recipe, ProviderError> {
        let keeper = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || keeper.recipe(&body, secrets, operation)).await;
        made.unwrap_or_else(|error| {
            Err(fault::fault(ErrorKind::Internal, operation, "", "preparing the image broke off").because(&error))
        })
    }

    /// The values of a release's secrets, as its apply brought them.
    pub(super) fn secrets_of(&self, release: ReleaseId, operation: &str) -> Result<Secrets, ProviderError> {
        let path = self.paths.secrets(release);
        let read = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Secrets::new()),
            bytes => bytes.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)),
        };
        read.map_err(|error| {
            fault::disk(operation, path.display().to_string(), "can't read the release's secrets", &error)
        })
    }

    /// Keeps them for restarts, in a file of its own that only this user can read.
    pub(super) fn keep_secrets(&self, release: ReleaseId, secrets: &Secrets) -> io::Result<()> {
        if secrets.is_empty() {
            return Ok(());
        }
        let path = self.paths.secrets(release);
        files::make_folder(path.parent().unwrap_or(&path))?;
        files::replace(&path, &serde_json::to_vec(secrets)?, Lasting::PowerCut)
    }

    /// Starts those of a release's copies that are wanted and not there, or goes on with what was found running of them.
    /// With `only_found` no new one begins. What was found and is not wanted is stopped.
    pub(super) fn start(
        self: &Arc<Self>,
        release: ReleaseId,
        body: &ServiceDocument,
        recipe: Recipe,
        mut found: BTreeMap<u32, Task>,
        only_found: bool,
    ) {
        let health = &body.health;
        let copy = Copy {
            recipe: Arc::new(recipe),
            group: release.to_string(),
            slot: 0,
            health: Health {
                live: health.live.clone(),
                ready: health.ready.clone(),
                interval: Duration::from_millis(health.interval_ms),
                timeout: Duration::from_millis(health.timeout_ms),
                healthy_after: health.healthy_after,
                unhealthy_after: health.unhealthy_after,
            },
            tasks: self.paths.tasks(),
            program: self.program(),
            container_prefix: self.container_prefix(),
        };
        // Looked at and filled without a pause in between, so that there are never two of one copy.
        let missing = self.missing(release);
        let slots = missing.into_iter().filter(|slot| !only_found || found.contains_key(slot)).collect::<Vec<_>>();
        let slots =
            slots.into_iter().map(|slot| (slot, Slot::start(Copy { slot, ..copy.clone() }, found.remove(&slot))));
        self.attend(release, slots.collect());
        found.into_values().for_each(|task| self.evict(task));
    }

    /// The copies of a release that are wanted and not there.
    pub(super) fn missing(&self, release: ReleaseId) -> Vec<u32> {
        let inner = self.lock();
        let wanted = inner.state.releases.get(&release).map_or(0, ReleaseRecord::wanted);
        let live = inner.live.get(&release);
        (0..wanted).filter(|number| !live.is_some_and(|live| live.has(*number))).collect()
    }

    /// Starts what is missing of a release, from what is written about it.
    pub(super) async fn raise(self: &Arc<Self>, release: ReleaseId) -> Result<(), ProviderError> {
        let known = self.read(|state| state.releases.contains_key(&release));
        if known && self.missing(release).is_empty() {
            return Ok(());
        }
        self.raise_with(release, BTreeMap::new(), false).await
    }

    pub(super) async fn raise_with(
        self: &Arc<Self>,
        release: ReleaseId,
        found: BTreeMap<u32, Task>,
        only_found: bool,
    ) -> Result<(), ProviderError> {
        const OPERATION: &str = "start again";
        let body =
            self.read(|state| state.releases.get(&release).map(|record| record.body.clone())).ok_or_else(|| {
                fault::fault(ErrorKind::NotFound, OPERATION, release.to_string(), "there is no such release")
            })?;
        let secrets = self.secrets_of(release, OPERATION)?;
        let recipe = self.recipe_soon(body.clone(), secrets, OPERATION).await?;
        self.start(release, &body, recipe, found, only_found);
        Ok(())
    }

    /// What containers of this environment are called; other projects' have other names.
    pub(super) fn container_prefix(&self) -> String {
        let digest = Digest::of(self.paths.folder.as_os_str().as_encoded_bytes());
        format!("dbird-{}-{}-", self.options.environment, &digest.hex()[..8])
    }

    /// Every task in the tasks' folder that still runs, taken over from an earlier agent.
    pub(super) async fn find_tasks(&self) -> (FoundTasks, Vec<Task>) {
        let tasks = self.paths.tasks();
        let mut services = FoundTasks::new();
        let mut others = Vec::new();
        for name in files::names(&tasks).unwrap_or_default() {
            match Task::adopt(&tasks.join(&name)).await {
                Ok(Found::Running(task)) => match task.record().slot {
                    Some(slot) => {
                        let copies = services.entry(task.record().group.clone()).or_default();
                        // Two of one copy can't be; should they, the later one is right.
                        if let Some(earlier) = copies.insert(slot, task) {
                            others.push(earlier);
                        }
                    }
                    None => others.push(task),
                },
                Ok(Found::Ended(..)) => {}
                Err(error) => log(format_args!("{}", dataplane::supervise::with_causes(&error))),
            }
        }
        (services, others)
    }

    /// Stops a task that nobody wants.
    pub(super) fn evict(self: &Arc<Self>, mut task: Task) {
        self.lock().evicted += 1;
        let keeper = Arc::downgrade(self);
        tokio::spawn(async move {
            task.stop();
            if tokio::time::timeout(EVICTION, task.ended()).await.is_err() {
                task.kill();
                task.ended().await;
            }
            if let Some(keeper) = keeper.upgrade() {
                keeper.lock().evicted -= 1;
                keeper.bump();
            }
        });
    }

    /// Waits until those have ended.
    pub(super) async fn evicted(&self) {
        self.until(|inner| (inner.evicted == 0).then_some(())).await;
    }

    /// Removes what no release needs any more: unpacked images, secrets.
    pub(super) fn tidy(&self) {
        let (images, releases) = self.read(|state| {
            let mut images: std::collections::BTreeSet<String> = state
                .releases
                .values()
                .filter_map(|record| record.body.image.as_ref())
                .map(|image| image.digest.as_str().to_owned())
                .collect();
            // An image step that was applied for the release to come.
            images.extend(
                state.documents.values().filter_map(|step| step.body.get("digest")?.as_str().map(str::to_owned)),
            );
            (images, state.releases.keys().map(|release| format!("{release}.json")).collect::<Vec<_>>())
        });
        let unneeded = image::collect(&self.paths.images(), &images);
        let secrets = self.paths.folder.join("secrets");
        let forgotten = files::names(&secrets).and_then(|names| {
            names
                .iter()
                .filter(|name| !releases.contains(name))
                .try_for_each(|name| fs::remove_file(secrets.join(name)))
        });
        for error in [unneeded, forgotten].into_iter().filter_map(Result::err) {
            log(format_args!("can't tidy up: {error}"));
        }
    }
}
