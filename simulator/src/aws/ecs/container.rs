//! From a container's definition to the command that runs it: image, volumes, secrets, ports. It decides what is wrong with them
//! in the words in which Fargate says so; it starts nothing.

use std::{collections::BTreeMap, sync::Arc};

use dataplane::{
    Secret, image, podman,
    runtime::{Port, Recipe, Runtime},
    shim::Launch,
    volume::Mount,
};
use serde_json::{Value, json};

use super::{balance, definition::Definition, task::Task};
use crate::aws::{World, efs::Efs, flag, list, number, text};

/// The folder below the simulator's where images are unpacked.
const IMAGES: &str = "images";
/// Where nothing says how long a container may take to stop.
const STOP_S: u64 = 30;

/// All that is needed to start one container.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) is_essential: bool,
    pub(super) digest: Option<String>,
    /// None for the container of an image that can't be had: it is told as running, and nothing runs.
    pub(super) launch: Option<Launch>,
    pub(super) podman_name: Option<String>,
    /// Group and stream of its log.
    pub(super) log: Option<(String, String)>,
}

/// What a task needs besides its definition, read out while the state was locked.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) definition: Definition,
    pub(super) overrides: Value,
    pub(super) platform: String,
    pub(super) subnet: String,
}

impl Wanted {
    pub(super) fn of(task: &Task, definition: &Definition) -> Self {
        Wanted {
            id: task.id.clone(),
            definition: definition.clone(),
            overrides: task.overrides.clone(),
            platform: task.platform.clone(),
            subnet: task.subnet(),
        }
    }

    fn override_of(&self, container: &str) -> Value {
        let all = list(&self.overrides, "containerOverrides");
        all.iter().find(|o| text(o, "name") == Some(container)).cloned().unwrap_or(json!({}))
    }

    fn execution_role(&self) -> Option<&str> {
        text(&self.overrides, "executionRoleArn").or_else(|| text(&self.definition.body, "executionRoleArn"))
    }
}

/// The roles, which must be there.
pub(super) fn roles(world: &Arc<World>, wanted: &Wanted) -> Result<(), String> {
    let task = text(&wanted.overrides, "taskRoleArn").or_else(|| text(&wanted.definition.body, "taskRoleArn"));
    for role in [wanted.execution_role(), task].into_iter().flatten().filter(|r| !r.is_empty()) {
        if !balance::has_role(world, role) {
            return Err(format!(
                "ECS was unable to assume the role '{role}' that was provided for this task. Please verify that the role being \
                 passed has the proper trust relationship and permissions and that your IAM user has permissions to pass this \
                 role."
            ));
        }
    }
    Ok(())
}

/// Every container's port and the port that it has on this machine.
pub(super) fn ports(definition: &Definition) -> Option<BTreeMap<u16, u16>> {
    let mut ports = BTreeMap::new();
    for mapping in definition.containers().iter().flat_map(|c| list(c, "portMappings")) {
        let inside = number(mapping, "containerPort").and_then(|n| u16::try_from(n).ok())?;
        ports.insert(inside, dataplane::port::free()?);
    }
    Some(ports)
}

/// A value with a container's port in it given the port on this machine.
fn moved(value: &str, ports: &BTreeMap<u16, u16>) -> Option<String> {
    let (host, port) =
        value.rsplit_once(':').map_or(("", value), |(_, port)| (&value[..value.len() - port.len()], port));
    let outside = ports.get(&port.parse().ok()?)?;
    let here = ["", ":", "localhost:", "127.0.0.1:", "0.0.0.0:", "[::]:", "http://localhost:", "http://127.0.0.1:"];
    here.contains(&host).then(|| format!("{host}{outside}"))
}

/// Pulls, mounts and reads whatever a container needs. Blocks while an image is unpacked.
pub(super) fn prepare(
    world: &Arc<World>,
    wanted: &Wanted,
    container: &Value,
    ports: &mut BTreeMap<u16, u16>,
) -> Result<Ready, String> {
    let name = text(container, "name").unwrap_or_default().to_owned();
    let is_essential = flag(container, "essential").unwrap_or(true);
    let reference = text(container, "image").unwrap_or_default();
    let secrets = secrets(world, wanted, container)?;
    let log = log(world, wanted, container, &name)?;
    let mounts = mounts(world, wanted, container)?;
    let (layout, digest) = match pull(world, wanted, reference) {
        Ok(found) => found,
        // Nothing is fetched from the internet; what isn't essential is only told of.
        Err(_) if !is_essential && !is_own(world, reference) => {
            return Ok(Ready { name, is_essential, digest: None, launch: None, podman_name: None, log });
        }
        Err(why) => return Err(why),
    };
    let unpacked = image::unpack(&layout, &digest, &world.settings.folder.join(IMAGES))
        .map_err(|why| format!("CannotPullContainerError: failed to extract image {reference}: {why}"))?;
    let create = |why: &dyn std::fmt::Display| format!("CannotStartContainerError: container {name}: {why}");
    let runtime = if world.settings.podman {
        Runtime::Podman { image: podman::load(&unpacked).map_err(|why| create(&why))? }
    } else {
        Runtime::Process
    };
    let given = wanted.override_of(&name);
    let pairs = |from: &Value| -> BTreeMap<String, String> {
        let all = list(from, "environment").iter();
        all.filter_map(|e| Some((text(e, "name")?.to_owned(), text(e, "value")?.to_owned()))).collect()
    };
    let mut env = pairs(container);
    env.extend(pairs(&given));
    let words = |from: &Value, member: &str| -> Option<Vec<String>> {
        let words: Vec<String> = list(from, member).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        (!words.is_empty()).then_some(words)
    };
    let entry = words(container, "entryPoint");
    let command = words(&given, "command").or_else(|| words(container, "command"));
    let argv = match (&entry, command) {
        (None, None) => None,
        (entry, command) => {
            let start = entry.clone().unwrap_or_else(|| unpacked.config.entrypoint.clone());
            Some(start.into_iter().chain(command.unwrap_or_default()).collect())
        }
    };
    let own: Vec<u16> = list(container, "portMappings")
        .iter()
        .filter_map(|p| number(p, "containerPort").and_then(|n| u16::try_from(n).ok()))
        .collect();
    let recipe = Recipe {
        runtime,
        image: unpacked,
        argv,
        env,
        secrets,
        port: own.first().map(|inside| Port { inside: *inside, env: None }),
        mounts,
        // A process needs the time that it needs, however fast the simulated one passes.
        stop_grace_ms: number(container, "stopTimeout").and_then(|s| u64::try_from(s).ok()).unwrap_or(STOP_S) * 1000,
        timeout_ms: None,
    };
    let podman_name = world.settings.podman.then(|| format!("dbird-simulator-{}-{name}", wanted.id));
    let outside = own.first().and_then(|inside| ports.get(inside)).copied();
    let mut launch =
        recipe.launch(podman_name.as_deref().unwrap_or(&wanted.id), outside).map_err(|why| create(&why))?;
    if podman_name.is_none() {
        retell(&mut launch, ports, &own);
    }
    Ok(Ready { name, is_essential, digest: Some(digest), launch: Some(launch), podman_name, log })
}

/// Tells a process the ports of this machine. One that nothing tells its port listens on its own.
fn retell(launch: &mut Launch, ports: &mut BTreeMap<u16, u16>, own: &[u16]) {
    let values = || launch.env.values().map(Secret::reveal).chain(launch.args.iter().map(String::as_str));
    for inside in own {
        let only = BTreeMap::from([(*inside, *inside)]);
        if !values().any(|value| moved(value, &only).is_some()) {
            ports.insert(*inside, *inside);
        }
    }
    for value in launch.env.values_mut() {
        if let Some(other) = moved(value.reveal(), ports) {
            *value = Secret::new(other);
        }
    }
    for value in &mut launch.args {
        if let Some(other) = moved(value, ports) {
            *value = other;
        }
    }
}

fn is_own(world: &World, reference: &str) -> bool {
    reference.starts_with("127.0.0.1:") || reference.starts_with(&format!("{}.dkr.ecr.", world.settings.account))
}

fn pull(world: &Arc<World>, wanted: &Wanted, reference: &str) -> Result<(std::path::PathBuf, String), String> {
    if world.faults.has("image-pull-fails") {
        return Err(format!(
            "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref {reference}: \
             {reference}: not found"
        ));
    }
    let found = balance::layout(world, reference)?;
    if let Some(role) = wanted.execution_role().filter(|_| is_own(world, reference)) {
        let name = reference.split_once('/').map_or(reference, |(_, rest)| rest);
        let name = name.split(['@', ':']).next().unwrap_or(name);
        let arn = world.arn("ecr", &format!("repository/{name}"));
        if !balance::allows(world, role, "ecr:BatchGetImage", &arn) {
            return Err(format!(
                "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref {reference}: \
                 pulling from host failed with status code [manifests]: 403 Forbidden: {role} may not ecr:BatchGetImage on {arn}"
            ));
        }
    }
    Ok(found)
}

fn secrets(world: &Arc<World>, wanted: &Wanted, container: &Value) -> Result<BTreeMap<String, Secret>, String> {
    const SAYS: &str =
        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed:";
    let mut values = BTreeMap::new();
    for secret in list(container, "secrets") {
        let (Some(name), Some(from)) = (text(secret, "name"), text(secret, "valueFrom")) else { continue };
        let role = wanted.execution_role().unwrap_or_default();
        let is_manager = from.contains(":secretsmanager:");
        // `arn:aws:secretsmanager:region:account:secret:name:key:stage:version`
        let parts: Vec<&str> = from.split(':').collect();
        let (id, key) = match parts.as_slice() {
            [_, _, _, _, _, _, _, key, ..] if is_manager => {
                (parts[..7].join(":"), Some(*key).filter(|k| !k.is_empty()))
            }
            _ => (from.to_owned(), None),
        };
        let (from_where, action, resource) = if is_manager {
            ("asm", "secretsmanager:GetSecretValue", balance::secret_arn(world, &id).unwrap_or_else(|| id.clone()))
        } else if from.starts_with("arn:") {
            ("ssm", "ssm:GetParameters", id.clone())
        } else {
            ("ssm", "ssm:GetParameters", world.arn("ssm", &format!("parameter/{}", from.trim_start_matches('/'))))
        };
        if !balance::allows(world, role, action, &resource) {
            return Err(format!(
                "{SAYS} unable to retrieve secret from {from_where}: AccessDeniedException: {role} is not authorized to perform: \
                 {action} on resource: {resource} because no identity-based policy allows the {action} action"
            ));
        }
        let value = if is_manager { balance::secret(world, &id) } else { balance::parameter(world, &id) };
        let value = value.ok_or_else(|| match from_where {
            "asm" => format!(
                "{SAYS} unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch secret {id} \
                 from secrets manager: ResourceNotFoundException: Secrets Manager can't find the specified secret value for \
                 staging label: AWSCURRENT"
            ),
            _ => format!("{SAYS} unable to retrieve secrets from ssm: service call has been retried 1 time(s): invalid ssm parameters: {id}"),
        })?;
        let value = match key {
            None => value,
            Some(key) => serde_json::from_str::<Value>(&value)
                .ok()
                .and_then(|all| text(&all, key).map(str::to_owned))
                .ok_or_else(|| format!("{SAYS} unable to retrieve secret from asm: retrieved secret from Secrets Manager did not contain json key {key}"))?,
        };
        values.insert(name.to_owned(), Secret::new(value));
    }
    Ok(values)
}

fn log(world: &Arc<World>, wanted: &Wanted, container: &Value, name: &str) -> Result<Option<(String, String)>, String> {
    let Some(options) = container.pointer("/logConfiguration/options") else { return Ok(None) };
    let Some(group) = text(options, "awslogs-group") else { return Ok(None) };
    let prefix = text(options, "awslogs-stream-prefix").unwrap_or("ecs");
    if !balance::has_log_group(world, group) {
        return Err(
            "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: failed to create \
             Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist. : exit status 1"
                .to_owned(),
        );
    }
    Ok(Some((group.to_owned(), format!("{prefix}/{name}/{}", wanted.id))))
}

fn mounts(world: &Arc<World>, wanted: &Wanted, container: &Value) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for mount in list(container, "mountPoints") {
        let (source, path) =
            (text(mount, "sourceVolume").unwrap_or_default(), text(mount, "containerPath").unwrap_or_default());
        let volumes = list(&wanted.definition.body, "volumes");
        let Some(volume) = volumes.iter().find(|v| text(v, "name") == Some(source)) else { continue };
        let folder = match volume.get("efsVolumeConfiguration").filter(|e| !e.is_null()) {
            Some(efs) => shared(world, wanted, efs)?,
            // A volume of the task's own, gone with it.
            None => {
                let folder = world.settings.folder.join("scratch").join(&wanted.id).join(source);
                std::fs::create_dir_all(&folder)
                    .map_err(|why| format!("CannotCreateVolumeError: {}: {why}", folder.display()))?;
                folder
            }
        };
        mounts.push(Mount { path: path.to_owned(), folder });
    }
    Ok(mounts)
}

/// A volume of a shared file system.
fn shared(world: &Arc<World>, wanted: &Wanted, efs: &Value) -> Result<std::path::PathBuf, String> {
    let id = text(efs, "fileSystemId").unwrap_or_default();
    if matches!(wanted.platform.as_str(), "1.0.0" | "1.1.0" | "1.2.0" | "1.3.0") {
        return Err(format!(
            "ResourceInitializationError: EFS volumes need platform version 1.4.0, not {}",
            wanted.platform
        ));
    }
    if !world.efs.mountable(id, &wanted.subnet) {
        return Err(format!(
            "ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: stderr: Failed to resolve \
             \"{id}.efs.{}.amazonaws.com\" - check that your file system ID is correct, and ensure that the VPC has an EFS mount \
             target for this file system ID. : unsuccessful EFS utils command execution; code: 1",
            world.settings.region
        ));
    }
    let point = efs.pointer("/authorizationConfig/accessPointId").and_then(Value::as_str);
    let folder = Efs::folder(world, id, point)?;
    let root = text(efs, "rootDirectory").unwrap_or("/").trim_matches('/');
    Ok(if root.is_empty() { folder } else { folder.join(root) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_port_of_a_container_is_told_anew() {
        let ports = BTreeMap::from([(8080, 41000), (9090, 42000)]);
        for (value, expected) in [
            ("8080", Some("41000")),
            (":9090", Some(":42000")),
            ("0.0.0.0:8080", Some("0.0.0.0:41000")),
            ("http://localhost:8080", Some("http://localhost:41000")),
            ("example.org:8080", None),
            ("80800", None),
            ("8081", None),
            ("8080s", None),
            ("", None),
        ] {
            assert_eq!(moved(value, &ports).as_deref(), expected, "{value}");
        }
    }
}
