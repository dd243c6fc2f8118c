//! CloudFormation's functions: what a value of a template is, once the resources that it refers to are known.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde_json::{Map, Value};

use super::{
    references::{Part, attribute_of, function, parts},
    template::Template,
};
use crate::aws::network::Cidr;

/// What a value is called that only making it can tell.
pub(crate) const UNKNOWN: &str = "{{changeSet:KNOWN_AFTER_APPLY}}";

/// A condition that refers to itself is found at this depth.
const DEPTH_MAX: usize = 64;

/// A resource that is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) physical_id: String,
    pub(crate) attributes: BTreeMap<String, Value>,
}

/// What can be referred to.
pub(crate) struct Scope<'a> {
    pub(crate) template: &'a Template,
    pub(crate) parameters: &'a BTreeMap<String, Value>,
    /// `AWS::Region` and the like.
    pub(crate) pseudo: &'a BTreeMap<String, Value>,
    pub(crate) known: &'a BTreeMap<String, Known>,
    pub(crate) exports: &'a BTreeMap<String, String>,
    /// Nothing has been made yet: a resource that is not known is [`UNKNOWN`] instead of an error.
    pub(crate) ahead: bool,
}

impl Scope<'_> {
    /// What a value is. None for `AWS::NoValue`.
    pub(crate) fn resolve(&self, value: &Value) -> Result<Option<Value>, String> {
        self.value(value, 0)
    }

    /// Whether a condition holds.
    pub(crate) fn condition(&self, name: &str) -> Result<bool, String> {
        self.named_condition(name, 0)
    }

    fn value(&self, value: &Value, depth: usize) -> Result<Option<Value>, String> {
        if depth > DEPTH_MAX {
            return Err("Template format error: functions are nested too deeply".to_owned());
        }
        match value {
            Value::Array(items) => {
                let mut all = Vec::with_capacity(items.len());
                for item in items {
                    all.extend(self.value(item, depth + 1)?);
                }
                Ok(Some(Value::Array(all)))
            }
            Value::Object(members) => match function(members) {
                Some((name, argument)) => self.function(name, argument, depth + 1),
                None => {
                    let mut all = Map::new();
                    for (name, member) in members {
                        if let Some(member) = self.value(member, depth + 1)? {
                            all.insert(name.clone(), member);
                        }
                    }
                    Ok(Some(Value::Object(all)))
                }
            },
            plain => Ok(Some(plain.clone())),
        }
    }

    fn function(&self, name: &str, argument: &Value, depth: usize) -> Result<Option<Value>, String> {
        let known = |value: Value| Ok(Some(value));
        match name {
            "Ref" => match argument.as_str() {
                Some("AWS::NoValue") => Ok(None),
                Some(name) => self.reference(name).map(Some),
                None => Err("Template error: every Ref object must have a single String value.".to_owned()),
            },
            "Fn::GetAtt" => {
                let (logical, attribute) = attribute_of(argument)
                    .ok_or("Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and the resource attribute")?;
                self.attribute(&logical, &attribute).map(Some)
            }
            "Fn::Sub" => self.sub(argument, depth).map(Some),
            "Fn::Join" => {
                let [separator, items] = pair(argument, name)?;
                let separator = self.text(separator, depth, name)?;
                let items = self.items(items, depth, name)?;
                let texts: Result<Vec<String>, String> = items.iter().map(|item| worded(item, name)).collect();
                known(Value::from(texts?.join(&separator)))
            }
            "Fn::Select" => {
                let [index, items] = pair(argument, name)?;
                let index = self.text(index, depth, name)?;
                let resolved = self.need(items, depth, name)?;
                if resolved == UNKNOWN {
                    return known(Value::from(UNKNOWN));
                }
                let items = resolved.as_array().ok_or_else(|| wrong(name, "requires a list"))?;
                let at: usize = index.parse().map_err(|_| wrong(name, "requires a number as its index"))?;
                let found = items.get(at).ok_or_else(|| {
                    format!("Template error: Fn::Select cannot select nonexistent value at index {at}")
                })?;
                known(found.clone())
            }
            "Fn::Split" => {
                let [separator, whole] = pair(argument, name)?;
                let (separator, whole) = (self.text(separator, depth, name)?, self.text(whole, depth, name)?);
                if whole == UNKNOWN {
                    return known(Value::from(UNKNOWN));
                }
                known(whole.split(&separator).map(Value::from).collect())
            }
            "Fn::GetAZs" => {
                let asked = self.text(argument, depth, name)?;
                let own = self.pseudo.get("AWS::Region").and_then(Value::as_str).unwrap_or_default();
                let region = if asked.is_empty() { own } else { asked.as_str() };
                known(["a", "b", "c"].iter().map(|zone| Value::from(format!("{region}{zone}"))).collect())
            }
            "Fn::If" => {
                let Some([condition, yes, no]) = argument.as_array().map(Vec::as_slice) else {
                    return Err(wrong(name, "requires a list argument with three elements"));
                };
                let holds = self.named_condition(condition.as_str().unwrap_or_default(), depth)?;
                self.value(if holds { yes } else { no }, depth)
            }
            "Fn::FindInMap" => {
                let keys = argument.as_array().map(Vec::as_slice).unwrap_or_default();
                let [map, first, second, ..] = keys else { return Err(wrong(name, "requires three elements")) };
                let (map, first, second) =
                    (self.text(map, depth, name)?, self.text(first, depth, name)?, self.text(second, depth, name)?);
                let found = self
                    .template
                    .section("Mappings")
                    .get(&map)
                    .and_then(|m| m.get(&first))
                    .and_then(|m| m.get(&second));
                let found = found
                    .cloned()
                    .ok_or_else(|| format!("Template error: Unable to get mapping for {map}::{first}::{second}"))?;
                known(found)
            }
            "Fn::ImportValue" => {
                let export = self.text(argument, depth, name)?;
                let value = self.exports.get(&export).ok_or_else(|| format!("No export named {export} found."))?;
                known(Value::from(value.clone()))
            }
            "Fn::Base64" => {
                let whole = self.text(argument, depth, name)?;
                known(Value::from(if whole.contains(UNKNOWN) { UNKNOWN.to_owned() } else { base64(whole.as_bytes()) }))
            }
            "Fn::Cidr" => {
                let parts = argument.as_array().map(Vec::as_slice).unwrap_or_default();
                let [block, count, rest @ ..] = parts else {
                    return Err(wrong(name, "requires two or three elements"));
                };
                let (block, count) = (self.text(block, depth, name)?, self.text(count, depth, name)?);
                let bits = match rest.first() {
                    Some(bits) => self.text(bits, depth, name)?,
                    None => "8".to_owned(),
                };
                if block == UNKNOWN {
                    return known(Value::from(UNKNOWN));
                }
                known(ranges(&block, &count, &bits).ok_or_else(|| wrong(name, "can't divide the block like this"))?)
            }
            "Fn::Equals" | "Fn::And" | "Fn::Or" | "Fn::Not" | "Condition" => {
                let mut whole = Map::new();
                whole.insert(name.to_owned(), argument.clone());
                known(Value::Bool(self.holds(&Value::Object(whole), depth)?))
            }
            other => Err(format!("Template format error: Unrecognized function {other}")),
        }
    }

    fn named_condition(&self, name: &str, depth: usize) -> Result<bool, String> {
        let condition = self.template.section("Conditions").get(name);
        let condition = condition.ok_or_else(|| {
            format!("Template format error: Unresolved condition dependency {name} in the Fn::If block of the template")
        })?;
        self.holds(condition, depth + 1)
    }

    fn holds(&self, condition: &Value, depth: usize) -> Result<bool, String> {
        if depth > DEPTH_MAX {
            return Err("Template format error: Circular dependency in conditions".to_owned());
        }
        let Some((name, argument)) = condition.as_object().and_then(function) else {
            return Err("Template format error: every Condition member must be a function.".to_owned());
        };
        let items = argument.as_array().map(Vec::as_slice).unwrap_or_default();
        match (name, items) {
            ("Condition", _) => self.named_condition(argument.as_str().unwrap_or_default(), depth),
            ("Fn::Equals", [left, right]) => {
                let (left, right) = (self.value(left, depth)?, self.value(right, depth)?);
                Ok(left.as_ref().map(plain) == right.as_ref().map(plain))
            }
            ("Fn::Not", [one]) => Ok(!self.holds(one, depth + 1)?),
            ("Fn::And", all) if (2..=10).contains(&all.len()) => {
                all.iter().try_fold(true, |so_far, one| Ok(so_far && self.holds(one, depth + 1)?))
            }
            ("Fn::Or", all) if (2..=10).contains(&all.len()) => {
                all.iter().try_fold(false, |so_far, one| Ok(so_far || self.holds(one, depth + 1)?))
            }
            (name, _) => Err(wrong(name, "has not the arguments that it needs")),
        }
    }

    fn reference(&self, name: &str) -> Result<Value, String> {
        if let Some(value) = self.pseudo.get(name) {
            return Ok(value.clone());
        }
        if let Some(value) = self.parameters.get(name) {
            let list = self.template.section("Parameters")[name]["Type"]
                .as_str()
                .is_some_and(|kind| kind == "CommaDelimitedList" || kind.starts_with("List<"));
            return Ok(match value.as_str() {
                Some(all) if list => all.split(',').map(|one| Value::from(one.trim())).collect(),
                _ => value.clone(),
            });
        }
        match self.known.get(name) {
            Some(known) => Ok(Value::from(known.physical_id.clone())),
            None if self.ahead => Ok(Value::from(UNKNOWN)),
            None => Err(format!("Template error: resource {name} is not there to be referred to")),
        }
    }

    fn attribute(&self, logical: &str, attribute: &str) -> Result<Value, String> {
        let Some(known) = self.known.get(logical) else {
            return match self.ahead {
                true => Ok(Value::from(UNKNOWN)),
                false => Err(format!("Template error: instance of Fn::GetAtt references undefined resource {logical}")),
            };
        };
        known.attributes.get(attribute).cloned().ok_or_else(|| {
            format!("Template error: resource {logical} does not support attribute type {attribute} in Fn::GetAtt")
        })
    }

    fn sub(&self, argument: &Value, depth: usize) -> Result<Value, String> {
        let empty = Map::new();
        let (pattern, own) = match argument {
            Value::String(pattern) => (pattern.as_str(), &empty),
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(pattern), Value::Object(own)] => (pattern.as_str(), own),
                _ => return Err(wrong("Fn::Sub", "requires a string, or a string and a map")),
            },
            _ => return Err(wrong("Fn::Sub", "requires a string, or a string and a map")),
        };
        let mut out = String::new();
        for part in parts(pattern) {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(name) => {
                    let value = match (own.get(name), name.split_once('.')) {
                        (Some(value), _) => self.need(value, depth, "Fn::Sub")?,
                        (None, Some((logical, attribute))) => self.attribute(logical, attribute)?,
                        (None, None) => self.reference(name)?,
                    };
                    out.push_str(&worded(&value, "Fn::Sub")?);
                }
            }
        }
        Ok(Value::from(out))
    }

    fn need(&self, value: &Value, depth: usize, function: &str) -> Result<Value, String> {
        self.value(value, depth + 1)?.ok_or_else(|| wrong(function, "can't have AWS::NoValue as its argument"))
    }

    fn text(&self, value: &Value, depth: usize, function: &str) -> Result<String, String> {
        worded(&self.need(value, depth, function)?, function)
    }

    fn items(&self, value: &Value, depth: usize, function: &str) -> Result<Vec<Value>, String> {
        match self.need(value, depth, function)? {
            Value::Array(items) => Ok(items),
            value if value == UNKNOWN => Ok(vec![value]),
            _ => Err(wrong(function, "requires a list")),
        }
    }
}

/// A scalar as text, so that `"80"` and `80` are the same; anything else as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn pair<'a>(argument: &'a Value, function: &str) -> Result<[&'a Value; 2], String> {
    match argument.as_array().map(Vec::as_slice) {
        Some([first, second]) => Ok([first, second]),
        _ => Err(wrong(function, "requires a list with two elements")),
    }
}

fn worded(value: &Value, function: &str) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(wrong(function, "requires text where it has a list or an object")),
    }
}

fn wrong(function: &str, what: &str) -> String {
    format!("Template error: {function} {what}")
}

fn ranges(block: &str, count: &str, bits: &str) -> Option<Value> {
    let (block, count, bits) = (Cidr::parse(block)?, count.parse::<u32>().ok()?, bits.parse::<u32>().ok()?);
    let size = 1_u64.checked_shl(bits)?;
    let prefix = 32_u32.checked_sub(bits)?;
    if !(1..=256).contains(&count)
        || prefix < u32::from(block.bits)
        || u64::from(count) * size > 1_u64 << (32 - block.bits)
    {
        return None;
    }
    let ranges = (0..u64::from(count)).map(|n| {
        let base = Ipv4Addr::from((u64::from(block.first()) + n * size) as u32);
        Value::from(format!("{base}/{prefix}"))
    });
    Some(ranges.collect())
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let all = three.iter().fold(0_u32, |so_far, byte| so_far << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..4 {
            let letter = LETTERS[(all >> (18 - 6 * n)) as usize & 63];
            out.push(if n <= three.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn functions_are_what_they_are_in_cloudformation() {
        let document = json!({
            "Parameters": { "Name": { "Type": "String" }, "Zones": { "Type": "CommaDelimitedList" } },
            "Mappings": { "Sizes": { "dev": { "Cpu": "256" } } },
            "Conditions": {
                "IsDev": { "Fn::Equals": [{ "Ref": "Name" }, "dev"] },
                "Both": { "Fn::And": [{ "Condition": "IsDev" }, { "Fn::Not": [{ "Fn::Equals": ["a", "b"] }] }] },
                "Never": { "Fn::Or": [{ "Fn::Equals": ["a", "b"] }, { "Fn::Not": [{ "Condition": "IsDev" }] }] },
            },
            "Resources": { "Key": { "Type": "AWS::KMS::Key" } },
        });
        let template = Template::parse(&document.to_string()).unwrap();
        let parameters = BTreeMap::from([("Name".to_owned(), json!("dev")), ("Zones".to_owned(), json!("a, b"))]);
        let pseudo = BTreeMap::from([("AWS::Region".to_owned(), json!("us-east-1"))]);
        let attributes = BTreeMap::from([("Arn".to_owned(), json!("arn:key")), ("A.B".to_owned(), json!("deep"))]);
        let known = BTreeMap::from([("Key".to_owned(), Known { physical_id: "k-1".to_owned(), attributes })]);
        let exports = BTreeMap::from([("shared-vpc".to_owned(), "vpc-1".to_owned())]);
        let scope = Scope {
            template: &template,
            parameters: &parameters,
            pseudo: &pseudo,
            known: &known,
            exports: &exports,
            ahead: false,
        };
        let table: &[(Value, Value)] = &[
            (json!({ "Ref": "Key" }), json!("k-1")),
            (json!({ "Ref": "Name" }), json!("dev")),
            (json!({ "Ref": "Zones" }), json!(["a", "b"])),
            (json!({ "Ref": "AWS::Region" }), json!("us-east-1")),
            (json!({ "Fn::GetAtt": ["Key", "Arn"] }), json!("arn:key")),
            (json!({ "Fn::GetAtt": "Key.A.B" }), json!("deep")),
            (json!({ "Fn::Sub": "${Key}-${Key.Arn}-${AWS::Region}-${!Name}" }), json!("k-1-arn:key-us-east-1-${Name}")),
            (json!({ "Fn::Sub": ["${X}${Name}", { "X": { "Ref": "Key" } }] }), json!("k-1dev")),
            (json!({ "Fn::Join": ["-", ["a", { "Ref": "Name" }, 1]] }), json!("a-dev-1")),
            (json!({ "Fn::Join": [",", { "Ref": "Zones" }] }), json!("a,b")),
            (json!({ "Fn::Select": ["1", { "Fn::Split": ["/", "a/b/c"] }] }), json!("b")),
            (json!({ "Fn::Select": [0, { "Fn::GetAZs": "" }] }), json!("us-east-1a")),
            (json!({ "Fn::If": ["IsDev", 1, 2] }), json!(1)),
            (json!({ "Fn::If": ["Never", 1, 2] }), json!(2)),
            (json!({ "A": { "Fn::If": ["Both", { "Ref": "AWS::NoValue" }, 2] }, "B": 1 }), json!({ "B": 1 })),
            (json!([{ "Ref": "AWS::NoValue" }, 1]), json!([1])),
            (json!({ "Fn::FindInMap": ["Sizes", { "Ref": "Name" }, "Cpu"] }), json!("256")),
            (json!({ "Fn::ImportValue": "shared-vpc" }), json!("vpc-1")),
            (json!({ "Fn::Base64": "hello" }), json!("aGVsbG8=")),
            (json!({ "Fn::Base64": "hell" }), json!("aGVsbA==")),
            (json!({ "Fn::Base64": "hel" }), json!("aGVs")),
            (json!({ "Fn::Cidr": ["10.0.0.0/16", 2, 8] }), json!(["10.0.0.0/24", "10.0.1.0/24"])),
        ];
        for (value, expected) in table {
            assert_eq!(scope.resolve(value).unwrap().unwrap(), *expected, "{value}");
        }
        let refused = [
            json!({ "Ref": "Nothing" }),
            json!({ "Fn::GetAtt": ["Key", "Nothing"] }),
            json!({ "Fn::Select": [3, ["a"]] }),
            json!({ "Fn::ImportValue": "nothing" }),
            json!({ "Fn::FindInMap": ["Sizes", "prod", "Cpu"] }),
            json!({ "Fn::Cidr": ["10.0.0.0/24", 2, 8] }),
            json!({ "Fn::Join": ["-", "a"] }),
            json!({ "Fn::Unheard": 1 }),
            json!({ "Fn::If": ["Nothing", 1, 2] }),
        ];
        for value in refused {
            assert!(scope.resolve(&value).is_err(), "{value}");
        }
        let ahead = Scope { known: &BTreeMap::new(), ahead: true, ..scope };
        assert_eq!(ahead.resolve(&json!({ "Fn::Sub": "a-${Key}" })).unwrap().unwrap(), json!(format!("a-{UNKNOWN}")));
    }
}
