//! What `plan` and `deploy` have in common before there is a plan: which image.

use dbird_core::{Cloud, ImageRef, Target, spec::Runtime};

use super::Context;
use crate::{
    clouds::Reached,
    failure::{Failure, Result},
    image::{self, Base, ImageArgument, ImageError, Layout},
    interrupt::Interrupts,
    output::Event,
    session::Session,
};

/// Which image, if not the one that the project builds.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageArgs {
    /// Take this image instead of building one: REGISTRY/REPOSITORY@sha256:DIGEST or oci:FOLDER@sha256:DIGEST
    #[arg(long, value_name = "REF@DIGEST", conflicts_with = "from")]
    pub(crate) image: Option<ImageArgument>,
    /// Take the very image that runs in that environment
    #[arg(long, value_name = "ENV")]
    pub(crate) from: Option<String>,
}

impl ImageArgs {
    /// The image: the named one, another environment's, or a new one.
    pub(crate) async fn make(&self, cx: &Context, session: &Session, interrupts: &Interrupts) -> Result<ImageRef> {
        let project = &cx.project()?.folder;
        let service = &session.spec.service;
        let image = match (&self.image, &self.from) {
            (Some(argument), _) => tokio::select! {
                image = argument.take(project, &service.name) => image?,
                () = interrupts.first() => return Err(ImageError::Interrupted.into()),
            },
            (None, Some(from)) => running_in(cx, session, from).await?,
            (None, None) => return build(cx, session, interrupts).await,
        };
        let (repository, digest) = (image.repository.clone(), image.digest.to_string());
        cx.out.event(Event::Image { repository, digest, reused: true, took_ms: 0 });
        Ok(image)
    }
}

/// The image of another environment's serving release.
async fn running_in(cx: &Context, session: &Session, from: &str) -> Result<ImageRef> {
    let project = cx.project()?;
    let name = project.environment(Some(from))?;
    let other = project.resolve(&name, session.spec.cloud, &[], &cx.out)?.spec;
    let service = other.as_ref().map_or_else(|| session.spec.service.name.clone(), |s| s.service.name.clone());
    let provider = match &other {
        Some(other) => Reached::open(project, other, cx.simulated())?.provider(),
        None => session.provider.clone(),
    };
    let observed = provider.observe(&Target { service, environment: name.clone() }).await?;
    let current = observed.current().ok_or_else(|| {
        Failure::usage(format!("nothing runs in {name}, so there is no image to take from it"))
            .hint(format!("`dbird status -e {name}` shows what is there; without --from, the image is built"))
    })?;
    let layout = Layout::create(&project.folder.join(image::FOLDER))?;
    // Elsewhere the cloud's own registry may have it though the project does not.
    if session.cloud.runs_from_project() || layout.holds(&current.image) {
        layout.check(&current.image)?;
        layout.touch(&current.image);
    }
    Ok(ImageRef { repository: format!("oci:{}", image::FOLDER), digest: current.image.clone() })
}

/// Runs the build command and packs what it leaves behind.
async fn build(cx: &Context, session: &Session, interrupts: &Interrupts) -> Result<ImageRef> {
    let project = cx.project()?.folder.clone();
    let build = session.spec.service.build.clone().ok_or(ImageError::NoBuild)?;
    let base = tokio::select! {
        base = Base::take(&project, &build) => base?,
        () = interrupts.first() => return Err(ImageError::Interrupted.into()),
    };
    // Asked while the build runs, so that it costs nothing.
    let target = tokio::task::spawn_blocking({
        let (project, build) = (project.clone(), build.clone());
        move || image::cargo_target(&project, &build)
    });
    image::run_build(&project, &build.command, &cx.out, interrupts).await?;
    let (target, spec) = (target.await.ok().flatten(), session.spec.clone());
    // A simulated cloud runs it as a process of this machine, as the local one does.
    let alone = match spec.cloud {
        Cloud::Local => spec.local.runtime == Runtime::Podman,
        Cloud::Aws | Cloud::Azure => !session.cloud.is_simulated(),
    };
    let packing =
        tokio::task::spawn_blocking(move || image::pack(&project, &spec, &build, &base, alone, target.as_deref()));
    let made = tokio::select! {
        made = packing => made.map_err(|e| Failure::failed("packing the image went wrong").because(&e))??,
        () = interrupts.first() => return Err(ImageError::Interrupted.into()),
    };
    let (repository, digest) = (made.image.repository.clone(), made.image.digest.to_string());
    cx.out.event(Event::Image { repository, digest, reused: made.reused, took_ms: made.took_ms });
    Ok(made.image)
}
