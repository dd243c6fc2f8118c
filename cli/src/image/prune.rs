//! Takes images away that no release can need any more. An image that any live release, or any of the last ten releases of
//! any environment names stays; where that can't be found out for certain, everything stays.

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use dbird_core::{Cloud, Digest, Provider as _, Target};
use dbird_driver::{Operator, Who};

use super::{FOLDER, Layout};
use crate::{output::Output, project::Project};

/// Fewer images than this are not worth looking at.
const IMAGES_KEPT: usize = 20;
/// An image that was used more recently may be on its way to a release, in this command or in another.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// Releases of an environment whose images stay, whatever `keep` says.
const RELEASES_KEPT: usize = 10;

/// Prunes the project's images. Failing to is no failure.
pub(crate) async fn prune(project: &Project, out: &Output) {
    let Some(layout) = Layout::open(&project.folder.join(FOLDER)) else { return };
    let listed = layout.listed();
    let idle: Vec<Digest> = listed.iter().filter(|d| layout.idle_since(d).is_some_and(|i| i > IDLE)).cloned().collect();
    if listed.len() <= IMAGES_KEPT || idle.is_empty() {
        return;
    }
    let Some(needed) = needed(project, out).await else { return };
    let surplus: Vec<Digest> = idle.into_iter().filter(|d| !needed.contains(d)).collect();
    match layout.remove(&surplus, &needed) {
        Ok(removed) => tracing::debug!(removed, "took images away that no release needs"),
        Err(error) => tracing::info!(%error, "could not take old images away"),
    }
}

/// Every image that some release needs; none where something could not be read.
async fn needed(project: &Project, out: &Output) -> Option<BTreeSet<Digest>> {
    let mut needed = BTreeSet::new();
    let environments = project.environments().ok()?;
    // What runs here without a file of its own can't be asked for its history.
    let running = fs::read_dir(project.folder.join(".dbird/local")).ok();
    for entry in running.into_iter().flatten() {
        let name = entry.ok()?.file_name();
        if !environments.iter().any(|e| name == e.as_str()) {
            return None;
        }
    }
    for environment in environments {
        let spec = project.resolve(&environment, Cloud::Local, &[], out).ok()?.spec?;
        let target = Target { service: spec.service.name.clone(), environment };
        let provider = Arc::new(dbird_local::LocalProvider::new(dbird_local::Config::new(project.folder.clone())));
        let observed = provider.observe(&target).await.ok()?;
        needed.extend(observed.releases.into_iter().map(|r| r.image));
        let store = dbird_driver::open_store(&spec.state_url, &project.folder, spec.cloud, &target).ok()?;
        let nobody =
            Who { actor: String::new(), host: String::new(), command: "prune".to_owned(), version: String::new() };
        let operator = Operator::new(provider, store, target, nobody);
        let kept = RELEASES_KEPT.max(spec.rollout.keep as usize);
        let history = operator.history(kept).await.ok()?;
        needed.extend(history.into_iter().filter_map(|r| r.image).map(|i| i.digest));
    }
    Some(needed)
}
