//! AWS as a cloud: its provider, state in S3 signed as everything else is, and programs beside a task.

use std::{error::Error, process::Command, sync::Arc};

use async_trait::async_trait;
use dbird_aws::{AwsProvider, Config};
use dbird_core::{ProviderError, Spec, Target};
use dbird_driver::{Keys, Signer, Store, StoreError, open_store_with};

use super::simulated::Simulated;
use crate::{failure::Result, project::Project};

/// What a simulated AWS says of itself.
pub(super) const SIMULATOR: &str = "DBIRD_SIMULATOR";

/// Names a file that the shape of all traffic is appended to; `cargo xtask live` compares two of these.
const SHAPES: &str = "DBIRD_SHAPES";

/// AWS.
pub(crate) struct Aws {
    pub(super) provider: Arc<AwsProvider>,
    pub(super) speed: u32,
    /// Calls go to a simulated AWS.
    pub(super) is_simulated: bool,
    region: String,
    /// Variables that stand before those of the process.
    variables: Vec<(String, String)>,
}

impl Aws {
    pub(super) fn open(project: &Project, spec: &Spec, simulated: Option<&Simulated>) -> Result<Aws> {
        let said = || std::env::var(SIMULATOR).ok().filter(|said| !said.is_empty());
        let simulator = simulated.map_or_else(said, Simulated::simulator);
        let provider = AwsProvider::new(Config {
            project: project.folder.clone(),
            region: spec.aws.region.clone(),
            account: spec.aws.account.clone(),
            network: Some(spec.aws.network.clone()).filter(|name| name != "own"),
            keep: spec.rollout.keep,
            endpoint: simulated.map(Simulated::endpoint),
            simulator: simulator.clone(),
            shapes: std::env::var_os(SHAPES).filter(|path| !path.is_empty()).map(Into::into),
        })?;
        Ok(Aws {
            provider: Arc::new(provider),
            speed: speed(simulator.as_deref()),
            is_simulated: simulator.is_some(),
            region: spec.aws.region.clone(),
            variables: simulated.map(|s| s.variables().to_vec()).unwrap_or_default(),
        })
    }

    pub(super) fn store(
        &self,
        project: &Project,
        spec: &Spec,
        target: &Target,
    ) -> std::result::Result<Arc<dyn Store>, StoreError> {
        let mut variables = self.variables.clone();
        let given = |name: &str| self.variables.iter().any(|(key, _)| key == name);
        let of_process = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(key, _)| !given(key));
        variables.extend(of_process);
        let told = |name: &str| variables.iter().any(|(key, value)| key == name && !value.is_empty());
        if !self.region.is_empty() && !told("AWS_REGION") && !told("AWS_DEFAULT_REGION") {
            variables.push(("AWS_REGION".to_owned(), self.region.clone()));
        }
        let signer: Arc<dyn Signer> = Arc::new(Signs(self.provider.clone()));
        open_store_with(&spec.state_url, &project.folder, spec.cloud, target, &variables, Some(signer))
    }

    pub(super) async fn exec(&self, target: &Target, task: Option<&str>, command: &[String]) -> Result<Command> {
        let session = self.provider.exec(target, task, command).await?;
        let mut exec = Command::new(session.program);
        exec.args(session.args);
        Ok(exec)
    }
}

/// How many times as fast as here time passes in a simulated cloud; what else it says, and whether it is right, the provider
/// looks at.
fn speed(simulator: Option<&str>) -> u32 {
    let said = simulator.unwrap_or_default().split(';').find_map(|part| part.trim().strip_prefix("speed="));
    said.and_then(|speed| speed.parse().ok()).unwrap_or(1)
}

/// Signs as the provider does.
struct Signs(Arc<AwsProvider>);

#[async_trait]
impl Signer for Signs {
    async fn keys(&self) -> std::result::Result<Keys, Box<dyn Error + Send + Sync>> {
        let keys = self.0.credentials().await.map_err(|e: ProviderError| e.causes.join(": "))?;
        Ok(Keys { id: keys.key, secret: keys.secret, session: keys.session })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_simulator_is_faster() {
        for (said, wanted) in
            [(None, 1), (Some("speed=100;origin=5"), 100), (Some("origin=5"), 1), (Some("speed=x"), 1)]
        {
            assert_eq!(speed(said), wanted, "{said:?}");
        }
    }
}
