//! Clusters: names that services and tasks belong to. It decides nothing but whether one is there and may go.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{State, names};
use crate::aws::{Answer, World, list as members, text};

/// A cluster.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) tags: Vec<Value>,
    pub(super) settings: Vec<Value>,
    pub(super) providers: Vec<Value>,
    pub(super) strategy: Vec<Value>,
}

impl State {
    pub(super) fn cluster(&self, name: &str) -> Result<&Cluster, crate::aws::Fault> {
        self.clusters.get(names::last(name)).ok_or_else(names::no_cluster)
    }

    fn cluster_view(&self, cluster: &Cluster) -> Value {
        let tasks = |running: bool| {
            self.tasks
                .values()
                .filter(|t| t.cluster == cluster.name && t.is_running() == running && !t.is_over())
                .count()
        };
        let services = self.services.values().filter(|s| s.cluster == cluster.name && s.status != "INACTIVE").count();
        json!({
            "clusterArn": cluster.arn, "clusterName": cluster.name, "status": "ACTIVE",
            "registeredContainerInstancesCount": 0, "runningTasksCount": tasks(true), "pendingTasksCount": tasks(false),
            "activeServicesCount": services, "statistics": [], "tags": cluster.tags, "settings": cluster.settings,
            "capacityProviders": cluster.providers, "defaultCapacityProviderStrategy": cluster.strategy,
        })
    }
}

pub(super) fn create(world: &Arc<World>, input: &Value) -> Answer {
    let name = text(input, "clusterName").unwrap_or("default").to_owned();
    let settings = match members(input, "settings") {
        [] => vec![json!({ "name": "containerInsights", "value": "disabled" })],
        some => some.to_vec(),
    };
    let cluster = Cluster {
        arn: world.arn("ecs", &format!("cluster/{name}")),
        tags: members(input, "tags").to_vec(),
        settings,
        providers: members(input, "capacityProviders").to_vec(),
        strategy: members(input, "defaultCapacityProviderStrategy").to_vec(),
        name: name.clone(),
    };
    let mut state = world.ecs.state();
    // A second call with the same name gives the cluster that is there.
    let cluster = state.clusters.entry(name).or_insert(cluster).clone();
    Ok(json!({ "cluster": state.cluster_view(&cluster) }))
}

pub(super) fn describe(world: &Arc<World>, input: &Value) -> Answer {
    let state = world.ecs.state();
    let asked: Vec<&str> = match members(input, "clusters") {
        [] => vec!["default"],
        some => some.iter().filter_map(Value::as_str).collect(),
    };
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in asked {
        match state.cluster(name) {
            Ok(cluster) => found.push(state.cluster_view(cluster)),
            Err(_) => failures.push(json!({
                "arn": world.arn("ecs", &format!("cluster/{}", names::last(name))), "reason": "MISSING",
            })),
        }
    }
    Ok(json!({ "clusters": found, "failures": failures }))
}

pub(super) fn list(world: &Arc<World>) -> Answer {
    let state = world.ecs.state();
    Ok(json!({ "clusterArns": state.clusters.values().map(|c| c.arn.clone()).collect::<Vec<_>>() }))
}

pub(super) fn delete(world: &Arc<World>, input: &Value) -> Answer {
    let mut state = world.ecs.state();
    let cluster = state.cluster(names::cluster(input))?.clone();
    if state.services.values().any(|s| s.cluster == cluster.name && s.status != "INACTIVE") {
        let message = "The Cluster cannot be deleted while Services are active.";
        return Err(crate::aws::Fault::new("ClusterContainsServicesException", message));
    }
    if state.tasks.values().any(|t| t.cluster == cluster.name && !t.is_over()) {
        let message = "The Cluster cannot be deleted while Tasks are active.";
        return Err(crate::aws::Fault::new("ClusterContainsTasksException", message));
    }
    let mut view = state.cluster_view(&cluster);
    view["status"] = json!("INACTIVE");
    state.clusters.remove(&cluster.name);
    Ok(json!({ "cluster": view }))
}
