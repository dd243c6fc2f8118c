//! A simulated AWS account in this process, on threads of its own. It begins one, ends one with all that runs in it, and says
//! how a client reaches it; what is deployed there is not its business.

use std::{path::Path, sync::mpsc, thread, time::Duration};

use dbird_aws::Endpoint;
use dbird_core::{Spec, spec::SecretRef};
use dbird_simulator::{Running, Settings};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::aws::SIMULATOR;
use crate::failure::{Failure, Result};

/// The account that is simulated where the configuration names none.
const ACCOUNT: &str = "123456789012";
/// A load balancer's ports below 1024 are so much higher: only root may bind those.
const PORT_OFFSET: u16 = 20_000;
/// Threads of the account: load balancers and tasks should not wait for each other.
const THREADS: usize = 2;
/// Everything that runs there has ended by then, or is left to the machine.
const END_WITHIN: Duration = Duration::from_secs(15);

/// How a client reaches a simulated account.
#[derive(Debug, Clone)]
pub(crate) struct Simulated {
    variables: Vec<(String, String)>,
}

impl Simulated {
    /// The variables that a client's environment needs to have.
    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Its address and who may call it.
    pub(super) fn endpoint(&self) -> Endpoint {
        let text = |name| self.variable(name).unwrap_or_default().to_owned();
        Endpoint {
            url: text("AWS_ENDPOINT_URL"),
            key: text("AWS_ACCESS_KEY_ID"),
            secret: text("AWS_SECRET_ACCESS_KEY"),
        }
    }

    /// What it says of its time.
    pub(super) fn simulator(&self) -> Option<String> {
        self.variable(SIMULATOR).map(str::to_owned)
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A simulated account. When it goes, everything that runs in it goes first.
pub(crate) struct Account {
    runtime: Option<Runtime>,
    running: Option<Running>,
}

impl Account {
    /// Begins an empty one for an environment. `folder` is where its tasks, images and files lie.
    pub(crate) async fn begin(spec: &Spec, folder: &Path, speed: u32, record: Option<&Path>) -> Result<Account> {
        let failed =
            |e: &dyn std::error::Error| Failure::failed("the simulated account could not be started").because(e);
        let runtime =
            Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().map_err(|e| failed(&e))?;
        let mut account = Account { runtime: Some(runtime), running: None };
        let settings = Settings {
            speed: f64::from(speed),
            account: spec.aws.account.clone().unwrap_or_else(|| ACCOUNT.to_owned()),
            region: spec.aws.region.clone(),
            folder: folder.to_owned(),
            // Every task runs under this same program, as it does on the local cloud.
            shim: std::env::current_exe().map_err(|e| failed(&e))?,
            port_offset: PORT_OFFSET,
            podman: false,
            record: record.map(Path::to_owned),
            faults: Vec::new(),
            upstream: None,
        };
        if let Some(runtime) = &account.runtime {
            let started = runtime.spawn(dbird_simulator::start(settings)).await.map_err(|e| failed(&e))?;
            account.running = Some(started.map_err(|e| failed(&e))?);
        }
        Ok(account)
    }

    /// How clients reach it.
    pub(crate) fn simulated(&self) -> Simulated {
        Simulated { variables: self.running.as_ref().map(Running::env).unwrap_or_default() }
    }

    /// From now on these faults happen, and no others.
    pub(crate) fn set_faults(&self, names: &[String]) {
        if let Some(running) = &self.running {
            running.set_faults(names);
        }
    }

    /// Makes the secrets that the service needs, with values that mean nothing. Those that are named by ARN exist under another
    /// name here, which the specification gets.
    pub(crate) async fn make_secrets(&self, spec: &mut Spec) -> Result<()> {
        let Some(running) = &self.running else { return Ok(()) };
        for (variable, secret) in &mut spec.secrets {
            if secret.name.starts_with("arn:") {
                *secret = SecretRef { name: format!("rehearsal-{}", variable.to_lowercase().replace('_', "-")) };
            }
            let made = match secret.name.strip_prefix("ssm:") {
                Some(name) => {
                    let input =
                        json!({ "Name": name, "Type": "SecureString", "Value": "simulated", "Overwrite": true });
                    running.prepare("ssm", "PutParameter", input).await
                }
                None => {
                    let input = json!({ "Name": secret.name, "SecretString": "simulated" });
                    running.prepare("secretsmanager", "CreateSecret", input).await
                }
            };
            match made {
                // Two variables may have one secret.
                Err(why) if !why.starts_with("ResourceExistsException") => {
                    return Err(Failure::failed(format!(
                        "the simulated account does not take the secret of {variable}: {why}"
                    ))
                    .hint("correct its name in [secrets]"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let Some(running) = self.running.take() else { return runtime.shutdown_background() };
        // From a thread of its own: whoever drops it may be in the middle of another runtime.
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            runtime.block_on(running.stop());
            runtime.shutdown_background();
            let _ = ended.send(());
        });
        let _ = end.recv_timeout(END_WITHIN);
    }
}
