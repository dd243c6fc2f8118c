//! What a handle on a service step says: everything that is needed to follow it, so that whoever finds the handle after a
//! crash needs nothing else. It is journalled, so new members have defaults.

use dbird_core::ReleaseId;
use serde::{Deserialize, Serialize};

use super::document::{ServiceDocument, Traffic};

/// A release of the service under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The ECS service's name.
    pub(crate) service: String,
    /// The candidate's task definition; empty where the service goes away.
    #[serde(default)]
    pub(crate) task_definition: String,
    /// What served before.
    #[serde(default)]
    pub(crate) previous: Option<Previous>,
    /// How the candidate takes over.
    #[serde(flatten)]
    pub(crate) way: Way,
    /// What is wanted; none where the rollout was found under way.
    #[serde(default)]
    pub(crate) document: Option<Box<ServiceDocument>>,
    /// Scaling, if there is any, was suspended for this, and is resumed at its end.
    #[serde(default)]
    pub(crate) suspended: bool,
    /// When it began, in Unix milliseconds of the cloud's clock.
    #[serde(default)]
    pub(crate) began_unix_ms: u64,
}

/// What served before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Previous {
    pub(crate) task_definition: String,
    pub(crate) release: ReleaseId,
}

/// What moves traffic: ARNs of the target groups and of the rules that forward to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) blue: String,
    pub(crate) green: String,
    pub(crate) rule: String,
    pub(crate) test_rule: Option<String>,
}

/// How a candidate takes over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "kebab-case")]
pub(crate) enum Way {
    /// There was nothing before it. What needs the service is made once it is steady.
    First,
    /// By a CodeDeploy deployment.
    Codedeploy {
        /// Its id.
        deployment: String,
    },
    /// By ECS, with both target groups.
    Native {
        /// The ARN of the service deployment.
        deployment: String,
    },
    /// By ECS, task by task in one target group.
    Rolling {
        /// The deployment's id, `ecs-svc/...`.
        deployment: String,
    },
    /// The service goes away, and then what sent requests to it.
    Removing {
        /// Its listeners and target groups, as far as they are known.
        traffic: Option<Traffic>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_of_an_earlier_version_can_be_read() {
        let text = r#"{ "cluster": "bird-dev", "service": "bird", "way": "codedeploy", "deployment": "d-1" }"#;
        let job: Job = serde_json::from_str(text).unwrap();
        assert_eq!(job.way, Way::Codedeploy { deployment: "d-1".to_owned() });
        assert_eq!(serde_json::from_str::<Job>(&serde_json::to_string(&job).unwrap()).unwrap(), job);
    }
}
