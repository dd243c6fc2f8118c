//! Systems Manager's parameters. It never puts a value in a log or in `Debug`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::{
    Answer, Call, Fault, World,
    cloudformation::kinds::{Kind, Made, Place, Replaces},
    flag, list, stamp,
    tags::{self, Tags},
    text,
};

/// Parameters in a region.
const PARAMETERS_MAX: usize = 10_000;
/// A value's length.
const VALUE_BYTES_MAX: usize = 4096;

/// The parameters, by name.
#[derive(Default)]
pub(crate) struct Ssm {
    all: Mutex<BTreeMap<String, Parameter>>,
}

impl std::fmt::Debug for Ssm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssm").finish_non_exhaustive()
    }
}

struct Parameter {
    kind: String,
    value: String,
    description: String,
    version: u64,
    changed_ms: u64,
    tags: Tags,
}

impl Ssm {
    /// The value of a parameter, by name or ARN.
    pub(crate) fn value(&self, name_or_arn: &str) -> Option<String> {
        self.with(|all| find(all, name_or_arn).map(|(_, parameter)| parameter.value.clone()))
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Parameter>) -> T) -> T {
        act(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn find<'a>(all: &'a BTreeMap<String, Parameter>, name_or_arn: &str) -> Option<(&'a String, &'a Parameter)> {
    let bare = match name_or_arn.split_once(":parameter/") {
        Some((_, name)) => name,
        None => return all.get_key_value(name_or_arn),
    };
    all.get_key_value(bare).or_else(|| all.get_key_value(&format!("/{bare}")))
}

fn missing(name: &str) -> Fault {
    Fault::new("ParameterNotFound", format!("Parameter {name} not found."))
}

/// Answers a call.
pub(crate) async fn call(world: &Arc<World>, call: &Call) -> Answer {
    let input = &call.input;
    let name = text(input, "Name").unwrap_or_default();
    let open = flag(input, "WithDecryption").unwrap_or_default();
    let told = |name: &str, parameter: &Parameter| describe(world, name, parameter, open);
    match call.operation.as_str() {
        "PutParameter" => put(world, input).map(|version| json!({ "Version": version, "Tier": "Standard" })),
        "GetParameter" => world.ssm.with(|all| {
            let (name, parameter) = find(all, name).ok_or_else(|| missing(name))?;
            Ok(json!({ "Parameter": told(name, parameter) }))
        }),
        "GetParameters" => world.ssm.with(|all| {
            let (mut found, mut invalid) = (Vec::new(), Vec::new());
            for name in tags::texts(input, "Names") {
                match find(all, &name) {
                    Some((name, parameter)) => found.push(told(name, parameter)),
                    None => invalid.push(name),
                }
            }
            Ok(json!({ "Parameters": found, "InvalidParameters": invalid }))
        }),
        "GetParametersByPath" => world.ssm.with(|all| {
            let path = format!("{}/", text(input, "Path").unwrap_or_default().trim_end_matches('/'));
            let deep = flag(input, "Recursive").unwrap_or_default();
            let below = |name: &str| name.strip_prefix(&path).is_some_and(|rest| deep || !rest.contains('/'));
            let found: Vec<Value> =
                all.iter().filter(|(name, _)| below(name)).map(|(name, one)| told(name, one)).collect();
            Ok(json!({ "Parameters": found }))
        }),
        "DescribeParameters" => world.ssm.with(|all| {
            let filters = list(input, "ParameterFilters");
            let wanted = |name: &str| {
                filters.iter().filter(|filter| text(filter, "Key") == Some("Name")).all(|filter| {
                    let values = tags::texts(filter, "Values");
                    match text(filter, "Option").unwrap_or("Equals") {
                        "BeginsWith" => values.iter().any(|value| name.starts_with(value.as_str())),
                        "Contains" => values.iter().any(|value| name.contains(value.as_str())),
                        _ => values.iter().any(|value| name == value),
                    }
                })
            };
            let mut found: Vec<Value> =
                all.iter().filter(|(name, _)| wanted(name)).map(|(name, one)| told(name, one)).collect();
            for one in found.iter_mut().filter_map(Value::as_object_mut) {
                one.remove("Value");
            }
            Ok(json!({ "Parameters": found }))
        }),
        "DeleteParameter" => world.ssm.with(|all| all.remove(name).map(|_| json!({})).ok_or_else(|| missing(name))),
        "AddTagsToResource" | "RemoveTagsFromResource" | "ListTagsForResource" => world.ssm.with(|all| {
            let id = text(input, "ResourceId").unwrap_or_default();
            let invalid = || Fault::new("InvalidResourceId", format!("The resource ID {id} is not valid."));
            let parameter = all.get_mut(id).ok_or_else(invalid)?;
            parameter.tags.extend(tags::read(input, "Tags"));
            tags::texts(input, "TagKeys").iter().for_each(|key| drop(parameter.tags.remove(key)));
            match call.operation.as_str() {
                "ListTagsForResource" => Ok(json!({ "TagList": tags::write(&parameter.tags) })),
                _ => Ok(json!({})),
            }
        }),
        _ => Err(Fault::unknown(&call.service, &call.operation)),
    }
}

fn put(world: &Arc<World>, input: &Value) -> Result<u64, Fault> {
    let name = text(input, "Name").unwrap_or_default();
    let value = text(input, "Value").unwrap_or_default();
    let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte));
    if name.is_empty() || !valid || (name.contains('/') && !name.starts_with('/')) {
        return Err(Fault::new("ValidationException", format!("Parameter name '{name}' is not valid.")));
    }
    if value.is_empty() || value.len() > VALUE_BYTES_MAX {
        return Err(Fault::new(
            "ValidationException",
            format!("The value must have between 1 and {VALUE_BYTES_MAX} characters."),
        ));
    }
    let now_ms = world.clock.now_ms();
    world.ssm.with(|all| {
        let count = all.len();
        if let Some(known) = all.get_mut(name) {
            if !flag(input, "Overwrite").unwrap_or_default() {
                let said = "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.";
                return Err(Fault::new("ParameterAlreadyExists", said));
            }
            known.value = value.to_owned();
            known.version += 1;
            known.changed_ms = now_ms;
            if let Some(kind) = text(input, "Type") {
                known.kind = kind.to_owned();
            }
            if let Some(description) = text(input, "Description") {
                known.description = description.to_owned();
            }
            return Ok(known.version);
        }
        if count >= PARAMETERS_MAX {
            return Err(Fault::new("ParameterLimitExceeded", "The account has the most parameters that it may have."));
        }
        let kind = text(input, "Type").unwrap_or("String");
        if !["String", "StringList", "SecureString"].contains(&kind) {
            return Err(Fault::new("UnsupportedParameterType", format!("The parameter type '{kind}' is not supported.")));
        }
        let parameter = Parameter {
            kind: kind.to_owned(),
            value: value.to_owned(),
            description: text(input, "Description").unwrap_or_default().to_owned(),
            version: 1,
            changed_ms: now_ms,
            tags: tags::read(input, "Tags"),
        };
        all.insert(name.to_owned(), parameter);
        Ok(1)
    })
}

fn describe(world: &World, name: &str, parameter: &Parameter, open: bool) -> Value {
    let closed = parameter.kind == "SecureString" && !open;
    json!({
        "Name": name, "Type": parameter.kind, "Version": parameter.version, "DataType": "text",
        "Value": if closed { "ciphertext" } else { &parameter.value }, "LastModifiedDate": stamp(parameter.changed_ms),
        "ARN": world.arn("ssm", &format!("parameter/{}", name.trim_start_matches('/'))),
    })
}

/// Every kind of resource of this service that a stack can hold.
pub(crate) static KINDS: &[&dyn Kind] = &[&ParameterKind];

struct ParameterKind;

impl ParameterKind {
    fn made(name: &str, properties: &Value) -> Made {
        let attribute = |key: &str| (key.to_owned(), properties.get(key).cloned().unwrap_or_default());
        let attributes = BTreeMap::from([attribute("Type"), attribute("Value")]);
        Made { physical_id: name.to_owned(), attributes, takes_ms: 1_000 }
    }
}

impl Kind for ParameterKind {
    fn name(&self) -> &'static str {
        "AWS::SSM::Parameter"
    }

    fn properties(&self) -> &'static [&'static str] {
        &["Name", "Type", "Value", "Description", "AllowedPattern", "DataType", "Policies", "Tier", "Tags"]
    }

    fn required(&self) -> &'static [&'static str] {
        &["Type", "Value"]
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        let tail: String = std::iter::repeat_with(fastrand::alphanumeric).take(12).collect();
        let given = format!("CFN-{}-{tail}", place.logical_id);
        let name = text(properties, "Name").unwrap_or(&given);
        let mut input = properties.clone();
        input["Name"] = json!(name);
        put(world, &input)?;
        self.update(world, name, place, &Value::Null, &input)
    }

    fn update(
        &self,
        world: &Arc<World>,
        name: &str,
        place: &Place,
        before: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        if !before.is_null() {
            let mut input = after.clone();
            input["Name"] = json!(name);
            input["Overwrite"] = json!(true);
            put(world, &input)?;
        }
        // Here tags are one object, not a list.
        let own = after.get("Tags").and_then(Value::as_object);
        let own = own.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        let own: Tags = own.collect();
        world.ssm.with(|all| {
            let parameter = all.get_mut(name).ok_or_else(|| missing(name))?;
            parameter.tags = tags::over(&own, &place.tags);
            Ok(Self::made(name, after))
        })
    }

    fn replaces(&self, property: &str) -> Replaces {
        if property == "Name" { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, name: &str, _properties: &Value) -> Result<(), Fault> {
        world.ssm.with(|all| drop(all.remove(name)));
        Ok(())
    }

    fn read(&self, world: &Arc<World>, name: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        world.ssm.with(|all| {
            let parameter = all.get(name)?;
            let properties = json!({ "Name": name, "Type": parameter.kind, "Value": parameter.value });
            let made = Self::made(name, &properties);
            Some((properties, made.attributes))
        })
    }

    fn import_by(&self) -> Option<&'static str> {
        Some("Name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::elb::tests::{made, world};

    #[tokio::test]
    async fn parameters_by_every_name() {
        let world = world(1.0);
        made(&world, "AWS::SSM::Parameter", json!({ "Name": "/bird/a", "Type": "String", "Value": "1" }));
        let api = async |operation: &str, input: Value| {
            call(&world, &Call { service: "ssm".into(), operation: operation.into(), input }).await
        };
        api("PutParameter", json!({ "Name": "plain", "Type": "SecureString", "Value": "hush" })).await.unwrap();
        for (id, expected) in [
            ("/bird/a".to_owned(), Some("1")),
            (world.arn("ssm", "parameter/bird/a"), Some("1")),
            (world.arn("ssm", "parameter/plain"), Some("hush")),
            ("/bird".to_owned(), None),
        ] {
            assert_eq!(world.ssm.value(&id).as_deref(), expected, "{id}");
        }
        let closed = api("GetParameter", json!({ "Name": "plain" })).await.unwrap();
        assert_eq!(closed["Parameter"]["Value"], "ciphertext");
        let open = api("GetParameters", json!({ "Names": ["plain", "none"], "WithDecryption": true })).await.unwrap();
        assert_eq!((&open["Parameters"][0]["Value"], &open["InvalidParameters"]), (&json!("hush"), &json!(["none"])));
        let again = api("PutParameter", json!({ "Name": "plain", "Value": "x" })).await;
        assert_eq!(again.unwrap_err().code, "ParameterAlreadyExists");
        let over = api("PutParameter", json!({ "Name": "plain", "Value": "x", "Overwrite": true })).await.unwrap();
        assert_eq!(over["Version"], 2);
        let below = api("GetParametersByPath", json!({ "Path": "/bird" })).await.unwrap();
        assert_eq!(below["Parameters"].as_array().unwrap().len(), 1);
        assert_eq!(api("GetParameter", json!({ "Name": "none" })).await.unwrap_err().code, "ParameterNotFound");
    }
}
