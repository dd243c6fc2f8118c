//! Dashboards: kept and told as they were given. Nobody draws them here.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::aws::{Answer, Fault, World, stamp, tags::texts, text};

/// Dashboards in an account.
const DASHBOARDS_MAX: usize = 500;

#[derive(Debug, Clone)]
pub(super) struct Dashboard {
    pub(super) body: String,
    changed_ms: u64,
}

fn arn(world: &World, name: &str) -> String {
    format!("arn:aws:cloudwatch::{}:dashboard/{name}", world.settings.account)
}

/// A body must be a JSON object with widgets.
pub(super) fn put(world: &Arc<World>, input: &Value) -> Answer {
    let name = text(input, "DashboardName").unwrap_or_default();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err(Fault::new("InvalidParameterInput", "The value for the DashboardName parameter is not valid."));
    }
    let body = text(input, "DashboardBody").unwrap_or_default();
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    if !parsed.is_some_and(|body| body.get("widgets").is_some_and(Value::is_array)) {
        let said = "The field DashboardBody must be a valid JSON object with widgets";
        return Err(Fault::new("InvalidParameterInput", said));
    }
    let mut inside = world.cloudwatch.lock();
    if inside.dashboards.len() >= DASHBOARDS_MAX {
        return Err(Fault::new("LimitExceeded", "The account has the most dashboards that it may have."));
    }
    let dashboard = Dashboard { body: body.to_owned(), changed_ms: world.clock.now_ms() };
    inside.dashboards.insert(name.to_owned(), dashboard);
    Ok(json!({ "DashboardValidationMessages": [] }))
}

fn missing(name: &str) -> Fault {
    Fault::new("ResourceNotFound", format!("Dashboard {name} does not exist")).with_status(404)
}

pub(super) fn get(world: &Arc<World>, input: &Value) -> Answer {
    let name = text(input, "DashboardName").unwrap_or_default();
    let inside = world.cloudwatch.lock();
    let dashboard = inside.dashboards.get(name).ok_or_else(|| missing(name))?;
    Ok(json!({ "DashboardArn": arn(world, name), "DashboardName": name, "DashboardBody": dashboard.body }))
}

pub(super) fn list(world: &Arc<World>, input: &Value) -> Answer {
    let prefix = text(input, "DashboardNamePrefix").unwrap_or_default();
    let inside = world.cloudwatch.lock();
    let told = inside.dashboards.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(name, dashboard)| {
        json!({
            "DashboardName": name, "DashboardArn": arn(world, name), "LastModified": stamp(dashboard.changed_ms),
            "Size": dashboard.body.len(),
        })
    });
    Ok(json!({ "DashboardEntries": told.collect::<Vec<_>>() }))
}

pub(super) fn delete(world: &Arc<World>, input: &Value) -> Answer {
    let mut inside = world.cloudwatch.lock();
    let names = texts(input, "DashboardNames");
    if let Some(name) = names.iter().find(|name| !inside.dashboards.contains_key(*name)) {
        return Err(missing(name));
    }
    names.iter().for_each(|name| drop(inside.dashboards.remove(name)));
    Ok(json!({}))
}
