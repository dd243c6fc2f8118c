//! What CodeDeploy stands on: ECS's task sets, the load balancer's rules and CloudWatch's alarms. It decides nothing; a test
//! puts its own in their place.

use std::{any::Any, future::Future, sync::Arc};

use super::CodeDeploy;
use crate::{Clock, aws::Fault};

/// A service as CodeDeploy needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) arn: String,
    /// Its deployments are made by CodeDeploy.
    pub(crate) is_ours: bool,
    pub(crate) sets: Vec<Set>,
}

/// One of its task sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) id: String,
    pub(crate) target_group: String,
    pub(crate) is_primary: bool,
}

/// How a task set is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tasks {
    pub(crate) desired: u32,
    pub(crate) pending: u32,
    pub(crate) running: u32,
    /// As many run as should, and all are healthy.
    pub(crate) is_steady: bool,
}

/// The rest of the account.
pub(crate) trait Ground: Send + Sync + 'static {
    fn clock(&self) -> Clock;
    fn own(&self) -> &CodeDeploy;
    fn has_fault(&self, name: &str) -> bool;
    /// What is returned is dropped when the deployment has ended.
    fn begin(self: &Arc<Self>, what: &str) -> Box<dyn Any + Send>;

    fn service(self: &Arc<Self>, cluster: &str, service: &str) -> Option<Service>;
    fn tasks(self: &Arc<Self>, set: &str) -> Tasks;
    fn create_set(
        self: &Arc<Self>,
        place: (&str, &str),
        definition: &str,
        target_group: &str,
        deployment: &str,
    ) -> Result<String, Fault>;
    fn set_primary(self: &Arc<Self>, set: &str);
    fn delete_set(self: &Arc<Self>, set: &str);

    /// A target group's ARN by its name.
    fn target_group(self: &Arc<Self>, name: &str) -> impl Future<Output = Option<String>> + Send;
    /// What of a listener (rules, or itself for its default action) forwards to a target group.
    fn forwarding(self: &Arc<Self>, listener: &str, target_group: &str) -> Vec<String>;
    fn forward(self: &Arc<Self>, rule: &str, weights: Vec<(String, u32)>) -> Result<(), Fault>;

    /// An alarm's state; none where there is no such alarm.
    fn alarm(self: &Arc<Self>, name: &str) -> impl Future<Output = Option<String>> + Send;
}
