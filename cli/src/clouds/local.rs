//! This machine as a cloud: the agent's provider.

use std::sync::Arc;

use dbird_local::{Config, LocalProvider};

use crate::project::Project;

/// This machine.
pub(crate) struct Local {
    pub(super) provider: Arc<LocalProvider>,
}

impl Local {
    pub(super) fn open(project: &Project) -> Local {
        Local { provider: Arc::new(LocalProvider::new(Config::new(project.folder.clone()))) }
    }
}
