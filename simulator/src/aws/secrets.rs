//! Secrets Manager: secrets by name or ARN, each with its current and its previous value. It never puts a value in a log or in
//! `Debug`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::{
    Answer, Call, Fault, World,
    cloudformation::kinds::{Kind, Made, Place, Replaces},
    flag, number, stamp,
    tags::{self, Tags},
    text,
};

/// Secrets in an account.
const SECRETS_MAX: usize = 10_000;

/// The secrets, by ARN.
#[derive(Default)]
pub(crate) struct Secrets {
    all: Mutex<BTreeMap<String, Secret>>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Secret {
    arn: String,
    name: String,
    description: String,
    key: Option<String>,
    tags: Tags,
    created_ms: u64,
    changed_ms: u64,
    /// When it was asked to go.
    leaving_ms: Option<u64>,
    /// The newest first: the version's id and its value.
    versions: Vec<(String, String)>,
    token: Option<String>,
}

impl Secrets {
    /// The whole ARN of a secret that is named so: what permissions are about, however it was asked for.
    pub(crate) fn arn(&self, id_or_arn: &str) -> Option<String> {
        self.with(|all| find(all, id_or_arn).map(|secret| secret.arn.clone()))
    }

    /// The current value. An ARN may be followed by a JSON key, a stage and a version, as in a task definition.
    pub(crate) fn value(&self, id_or_arn: &str) -> Option<String> {
        let parts: Vec<&str> = id_or_arn.split(':').collect();
        let (id, key) = match parts.as_slice() {
            [head @ .., key, _stage, _version] if head.len() == 7 && parts[0] == "arn" => (head.join(":"), Some(*key)),
            _ => (id_or_arn.to_owned(), None),
        };
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = find(&all, &id)?;
        let value = secret.versions.first()?.1.clone();
        match key.filter(|key| !key.is_empty()) {
            None => Some(value),
            Some(key) => match serde_json::from_str::<Value>(&value).ok()?.get(key)? {
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            },
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Secret>) -> T) -> T {
        act(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// By name, by ARN, or by an ARN without its last six letters.
fn find<'a>(all: &'a BTreeMap<String, Secret>, id: &str) -> Option<&'a Secret> {
    let partial = |secret: &&Secret| secret.arn.rsplit_once('-').is_some_and(|(head, _)| head == id);
    let found = all.get(id).or_else(|| all.values().find(|secret| secret.name == id));
    found.or_else(|| all.values().find(partial)).filter(|secret| secret.leaving_ms.is_none())
}

fn missing() -> Fault {
    Fault::new("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let input = &call.input;
    let now_ms = world.clock.now_ms();
    if call.operation == "CreateSecret" {
        return create(world, input).map(|secret| named(&secret));
    }
    world.secrets.with(|all| {
        if call.operation == "ListSecrets" {
            let told = all.values().filter(|secret| secret.leaving_ms.is_none()).map(describe);
            return Ok(json!({ "SecretList": told.collect::<Vec<_>>() }));
        }
        let id = text(input, "SecretId").unwrap_or_default();
        let leaving =
            || all.values().find(|secret| (secret.arn == id || secret.name == id) && secret.leaving_ms.is_some());
        let known = find(all, id).or_else(|| match call.operation.as_str() {
            "DescribeSecret" | "RestoreSecret" | "DeleteSecret" => leaving(),
            _ => None,
        });
        let Some(secret) = known.cloned() else {
            return match leaving() {
                Some(_) => Err(Fault::new(
                    "InvalidRequestException",
                    "You can't perform this operation on the secret because it was marked for deletion.",
                )),
                None => Err(missing()),
            };
        };
        let Some(mine) = all.get_mut(&secret.arn) else { return Err(missing()) };
        match call.operation.as_str() {
            "DescribeSecret" => Ok(describe(mine)),
            "GetSecretValue" => get(mine, input),
            "PutSecretValue" | "UpdateSecret" => {
                if let Some(description) = text(input, "Description") {
                    mine.description = description.to_owned();
                }
                if let Some(value) = text(input, "SecretString") {
                    put(mine, value, text(input, "ClientRequestToken"), now_ms);
                }
                let mut told = named(mine);
                told["VersionStages"] = json!(["AWSCURRENT"]);
                Ok(told)
            }
            "DeleteSecret" => {
                let days = number(input, "RecoveryWindowInDays").unwrap_or(30);
                let gone_ms = now_ms + u64::try_from(days).unwrap_or_default() * 86_400_000;
                if flag(input, "ForceDeleteWithoutRecovery").unwrap_or_default() {
                    all.remove(&secret.arn);
                } else {
                    mine.leaving_ms = Some(gone_ms);
                }
                Ok(json!({ "ARN": secret.arn, "Name": secret.name, "DeletionDate": stamp(gone_ms) }))
            }
            "RestoreSecret" => {
                mine.leaving_ms = None;
                Ok(json!({ "ARN": secret.arn, "Name": secret.name }))
            }
            "TagResource" => {
                mine.tags.extend(tags::read(input, "Tags"));
                Ok(json!({}))
            }
            "UntagResource" => {
                tags::texts(input, "TagKeys").iter().for_each(|key| drop(mine.tags.remove(key)));
                Ok(json!({}))
            }
            "GetResourcePolicy" => Ok(json!({ "ARN": secret.arn, "Name": secret.name })),
            _ => Err(Fault::unknown(&call.service, &call.operation)),
        }
    })
}

fn create(world: &Arc<World>, input: &Value) -> Result<Secret, Fault> {
    let name = text(input, "Name").unwrap_or_default();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte)) {
        return Err(Fault::new(
            "ValidationException",
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!",
        ));
    }
    let tail: String = std::iter::repeat_with(fastrand::alphanumeric).take(6).collect();
    let now_ms = world.clock.now_ms();
    let mut secret = Secret {
        arn: world.arn("secretsmanager", &format!("secret:{name}-{tail}")),
        name: name.to_owned(),
        description: text(input, "Description").unwrap_or_default().to_owned(),
        key: text(input, "KmsKeyId").map(str::to_owned),
        tags: tags::read(input, "Tags"),
        created_ms: now_ms,
        changed_ms: now_ms,
        leaving_ms: None,
        versions: Vec::new(),
        token: text(input, "ClientRequestToken").map(str::to_owned),
    };
    if let Some(value) = text(input, "SecretString") {
        let token = secret.token.clone();
        put(&mut secret, value, token.as_deref(), now_ms);
    }
    world.secrets.with(|all| {
        if let Some(known) = all.values().find(|known| known.name == name) {
            if known.token.is_some() && known.token == secret.token {
                return Ok(known.clone());
            }
            let said = format!("The operation failed because the secret {name} already exists.");
            return Err(Fault::new("ResourceExistsException", said));
        }
        if all.len() >= SECRETS_MAX {
            return Err(Fault::new(
                "LimitExceededException",
                "The request failed because it would exceed one of the Secrets Manager quotas.",
            ));
        }
        all.insert(secret.arn.clone(), secret.clone());
        Ok(secret)
    })
}

/// Puts a value before the others; the one before it is kept, older ones are not. The same token again does nothing.
fn put(secret: &mut Secret, value: &str, token: Option<&str>, now_ms: u64) {
    let version = token.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    if secret.versions.iter().any(|(known, _)| *known == version) {
        return;
    }
    secret.versions.insert(0, (version, value.to_owned()));
    secret.versions.truncate(2);
    secret.changed_ms = now_ms;
}

fn named(secret: &Secret) -> Value {
    let mut told = json!({ "ARN": secret.arn, "Name": secret.name });
    if let Some((version, _)) = secret.versions.first() {
        told["VersionId"] = json!(version);
    }
    told
}

fn describe(secret: &Secret) -> Value {
    let stages = secret.versions.iter().zip(["AWSCURRENT", "AWSPREVIOUS"]);
    let stages: serde_json::Map<String, Value> =
        stages.map(|((version, _), stage)| (version.clone(), json!([stage]))).collect();
    let mut told = json!({
        "ARN": secret.arn, "Name": secret.name, "Description": secret.description, "Tags": tags::write(&secret.tags),
        "CreatedDate": stamp(secret.created_ms), "LastChangedDate": stamp(secret.changed_ms),
        "VersionIdsToStages": stages,
    });
    if let Some(key) = &secret.key {
        told["KmsKeyId"] = json!(key);
    }
    if let Some(leaving_ms) = secret.leaving_ms {
        told["DeletedDate"] = stamp(leaving_ms);
    }
    told
}

fn get(secret: &Secret, input: &Value) -> Answer {
    let stage = text(input, "VersionStage").unwrap_or("AWSCURRENT");
    let version = match text(input, "VersionId") {
        Some(id) => secret.versions.iter().find(|(version, _)| version == id),
        None => secret.versions.get(usize::from(stage == "AWSPREVIOUS")),
    };
    let Some((version, value)) = version else {
        let said = format!("Secrets Manager can't find the specified secret value for staging label: {stage}");
        return Err(Fault::new("ResourceNotFoundException", said));
    };
    Ok(json!({
        "ARN": secret.arn, "Name": secret.name, "VersionId": version, "SecretString": value, "VersionStages": [stage],
        "CreatedDate": stamp(secret.changed_ms),
    }))
}

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&SecretKind];

struct SecretKind;

impl SecretKind {
    fn made(arn: &str) -> Made {
        let attributes = BTreeMap::from([("Id".to_owned(), json!(arn))]);
        Made { physical_id: arn.to_owned(), attributes, takes_ms: 1_000 }
    }
}

impl Kind for SecretKind {
    fn name(&self) -> &'static str {
        "AWS::SecretsManager::Secret"
    }

    fn properties(&self) -> &'static [&'static str] {
        &["Name", "Description", "KmsKeyId", "SecretString", "GenerateSecretString", "ReplicaRegions", "Tags"]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let tail: String = std::iter::repeat_with(fastrand::alphanumeric).take(12).collect();
        let mut input = properties.clone();
        if text(properties, "Name").is_none() {
            input["Name"] = json!(format!("{}-{tail}", place.logical_id));
        }
        if let Some(wanted) = properties.get("GenerateSecretString") {
            let length = number(wanted, "PasswordLength").and_then(|n| usize::try_from(n).ok()).unwrap_or(32).min(4096);
            let made: String = std::iter::repeat_with(fastrand::alphanumeric).take(length).collect();
            input["SecretString"] = match (text(wanted, "SecretStringTemplate"), text(wanted, "GenerateStringKey")) {
                (Some(template), Some(key)) => {
                    let mut whole: Value = serde_json::from_str(template)
                        .map_err(|_| Fault::new("InvalidRequest", "The secret string template is no JSON object."))?;
                    whole[key] = json!(made);
                    json!(whole.to_string())
                }
                _ => json!(made),
            };
        }
        input["Tags"] = tags::write(&tags::over(&tags::read(properties, "Tags"), &place.tags));
        create(world, &input).map(|secret| Self::made(&secret.arn))
    }

    fn update(
        &self,
        world: &Arc<World>,
        arn: &str,
        place: &Place,
        before: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        let now_ms = world.clock.now_ms();
        world.secrets.with(|all| {
            let secret = all.get_mut(arn).ok_or_else(missing)?;
            secret.description = text(after, "Description").unwrap_or_default().to_owned();
            secret.key = text(after, "KmsKeyId").map(str::to_owned);
            secret.tags = tags::over(&tags::read(after, "Tags"), &place.tags);
            if before.get("SecretString") != after.get("SecretString")
                && let Some(value) = text(after, "SecretString")
            {
                put(secret, value, None, now_ms);
            }
            Ok(Self::made(arn))
        })
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "Name" { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, arn: &str, _properties: &Value) -> Result<(), Fault> {
        world.secrets.with(|all| drop(all.remove(arn)));
        Ok(())
    }

    fn read(&self, world: &Arc<World>, arn: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        world.secrets.with(|all| {
            let secret = all.get(arn)?;
            let properties = json!({ "Name": secret.name, "Description": secret.description });
            Some((properties, Self::made(arn).attributes))
        })
    }

    fn import_by(&self) -> Option<&'static str> {
        Some("Id")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::elb::tests::{made, world};

    #[tokio::test]
    async fn values_by_every_name() {
        let world = world(1.0);
        let arn = made(
            &world,
            "AWS::SecretsManager::Secret",
            json!({ "Name": "bird/key", "SecretString": r#"{"user":"u","port":5}"# }),
        );
        let value = |id: &str| world.secrets.value(id);
        let text = r#"{"user":"u","port":5}"#;
        let whole = Some(text.to_owned());
        let partial = arn.rsplit_once('-').unwrap().0;
        for (id, expected) in [
            ("bird/key".to_owned(), whole.clone()),
            (arn.clone(), whole.clone()),
            (partial.to_owned(), whole.clone()),
            (format!("{arn}:user::"), Some("u".to_owned())),
            (format!("{arn}:port::"), Some("5".to_owned())),
            (format!("{arn}:none::"), None),
            ("bird".to_owned(), None),
        ] {
            assert_eq!(value(&id), expected, "{id}");
        }
        let api = async |operation: &str, input: Value| {
            call(&world, &Call { service: "secretsmanager".into(), operation: operation.into(), input }).await
        };
        api("PutSecretValue", json!({ "SecretId": "bird/key", "SecretString": "new" })).await.unwrap();
        assert_eq!(value(&arn), Some("new".to_owned()));
        let before = api("GetSecretValue", json!({ "SecretId": arn, "VersionStage": "AWSPREVIOUS" })).await.unwrap();
        assert_eq!(before["SecretString"], text);
        let again = api("CreateSecret", json!({ "Name": "bird/key" })).await;
        assert_eq!(again.unwrap_err().code, "ResourceExistsException");
        api("DeleteSecret", json!({ "SecretId": arn })).await.unwrap();
        assert_eq!(value(&arn), None);
        assert_eq!(
            api("GetSecretValue", json!({ "SecretId": arn })).await.unwrap_err().code,
            "InvalidRequestException"
        );
        assert_eq!(
            api("GetSecretValue", json!({ "SecretId": "x" })).await.unwrap_err().code,
            "ResourceNotFoundException"
        );
        assert!(!format!("{:?}", world.secrets).contains("new"));
    }
}
