//! Which function a value is, and what it refers to. Nothing is evaluated here but the conditions that choose a branch.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::intrinsics::Scope;

/// The names of resources and parameters that a value refers to, in the branches that conditions choose.
pub(crate) fn find(scope: &Scope<'_>, value: &Value, found: &mut BTreeSet<String>) -> Result<(), String> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| find(scope, item, found)),
        Value::Object(members) => match function(members) {
            Some(("Ref", Value::String(name))) => {
                if !name.starts_with("AWS::") {
                    found.insert(name.clone());
                }
                Ok(())
            }
            Some(("Fn::GetAtt", argument)) => {
                found.extend(attribute_of(argument).map(|(logical, _)| logical));
                Ok(())
            }
            Some(("Fn::If", Value::Array(branches))) if branches.len() == 3 => {
                let holds = scope.condition(branches[0].as_str().unwrap_or_default())?;
                find(scope, if holds { &branches[1] } else { &branches[2] }, found)
            }
            Some(("Fn::Sub", argument)) => {
                let pattern = argument.as_str().or_else(|| argument.get(0)?.as_str()).unwrap_or_default();
                let own = argument.get(1);
                for part in parts(pattern) {
                    if let Part::Name(name) = part
                        && !name.starts_with("AWS::")
                        && own.and_then(|own| own.get(name)).is_none()
                    {
                        found.insert(name.split('.').next().unwrap_or(name).to_owned());
                    }
                }
                own.map_or(Ok(()), |own| find(scope, own, found))
            }
            Some((_, argument)) => find(scope, argument, found),
            None => members.values().try_for_each(|member| find(scope, member, found)),
        },
        _ => Ok(()),
    }
}

/// The function that an object of one member is, with its argument.
pub(crate) fn function(members: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (name, argument) = members.iter().next().filter(|_| members.len() == 1)?;
    let is = name == "Ref" || name.starts_with("Fn::") || (name == "Condition" && argument.is_string());
    is.then_some((name.as_str(), argument))
}

/// The resource and the attribute that `Fn::GetAtt` names.
pub(crate) fn attribute_of(argument: &Value) -> Option<(String, String)> {
    match argument {
        Value::String(both) => {
            both.split_once('.').map(|(logical, attribute)| (logical.to_owned(), attribute.to_owned()))
        }
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(logical), Value::String(attribute)] => Some((logical.clone(), attribute.clone())),
            _ => None,
        },
        _ => None,
    }
}

/// A piece of a `Fn::Sub`.
pub(crate) enum Part<'a> {
    /// Text as it is.
    Text(&'a str),
    /// What stands for something else.
    Name(&'a str),
}

/// The pieces of a `Fn::Sub`: `${Name}`, and `${!Literal}` for the text itself.
pub(crate) fn parts(pattern: &str) -> Vec<Part<'_>> {
    let mut all = Vec::new();
    let mut rest = pattern;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let Some(end) = from.find('}') else { break };
        all.push(Part::Text(before));
        let name = &from[2..end];
        match name.strip_prefix('!') {
            Some(literal) => all.extend([Part::Text("${"), Part::Text(literal), Part::Text("}")]),
            None => all.push(Part::Name(name.trim())),
        }
        rest = &from[end + 1..];
    }
    all.push(Part::Text(rest));
    all
}
