//! The query protocol's requests: `Tags.member.1.Key=a&Tags.member.1.Value=b` becomes `{"Tags": [{"Key": "a", ..}]}`. Every leaf
//! stays text; what it means is for the service to say.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Deeper names than this are refused; AWS's own go to seven or so.
const DEPTH_MAX: usize = 24;

/// A node of the names' tree.
#[derive(Debug, Default)]
struct Node {
    text: Option<String>,
    below: BTreeMap<String, Node>,
}

/// The operation and its input; the operation is empty where none is named.
pub(crate) fn decode(form: &[u8]) -> (String, Value) {
    let mut root = Node::default();
    let mut operation = String::new();
    for (name, value) in url::form_urlencoded::parse(form) {
        match name.as_ref() {
            "Action" => operation = value.into_owned(),
            "Version" => {}
            _ => {
                let mut node = &mut root;
                for part in name.split('.').take(DEPTH_MAX) {
                    node = node.below.entry(part.to_owned()).or_default();
                }
                node.text = Some(value.into_owned());
            }
        }
    }
    let input = if root.below.is_empty() { Value::Object(Map::new()) } else { root.value() };
    (operation, input)
}

impl Node {
    fn value(self) -> Value {
        if self.below.is_empty() {
            return Value::String(self.text.unwrap_or_default());
        }
        if self.below.len() == 1 {
            let mut below = self.below;
            if let Some((name, only)) = below.pop_first() {
                match name.as_str() {
                    "member" => return only.listed(),
                    "entry" => return only.mapped(),
                    _ => {
                        let mut one = Map::new();
                        one.insert(name, only.value());
                        return Value::Object(one);
                    }
                }
            }
            return Value::Null;
        }
        Value::Object(self.below.into_iter().map(|(name, node)| (name, node.value())).collect())
    }

    /// Its numbered children in the numbers' order.
    fn numbered(self) -> Vec<Node> {
        let mut all: Vec<(u64, Node)> =
            self.below.into_iter().filter_map(|(name, node)| Some((name.parse().ok()?, node))).collect();
        all.sort_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, node)| node).collect()
    }

    fn listed(self) -> Value {
        Value::Array(self.numbered().into_iter().map(Node::value).collect())
    }

    fn mapped(self) -> Value {
        let pairs = self.numbered().into_iter().filter_map(|mut node| {
            let key = node.below.remove("key")?.text?;
            Some((key, node.below.remove("value").unwrap_or_default().value()))
        });
        Value::Object(pairs.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_lists_maps_and_members() {
        let table: &[(&str, &str, Value)] = &[
            ("Action=GetCallerIdentity&Version=2011-06-15", "GetCallerIdentity", serde_json::json!({})),
            ("Action=A&Name=a%20b&Flag=true", "A", serde_json::json!({ "Name": "a b", "Flag": "true" })),
            (
                "Action=A&Tags.member.2.Key=b&Tags.member.1.Key=a&Tags.member.10.Key=j",
                "A",
                serde_json::json!({ "Tags": [{ "Key": "a" }, { "Key": "b" }, { "Key": "j" }] }),
            ),
            ("Action=A&Names.member.1=x&Names.member.2=y", "A", serde_json::json!({ "Names": ["x", "y"] })),
            ("Action=A&Names=", "A", serde_json::json!({ "Names": "" })),
            (
                "Action=A&Id.entry.1.key=FileSystemId&Id.entry.1.value=fs-1",
                "A",
                serde_json::json!({ "Id": { "FileSystemId": "fs-1" } }),
            ),
            (
                "Action=A&Actions.member.1.ForwardConfig.TargetGroups.member.1.Weight=10",
                "A",
                serde_json::json!({ "Actions": [{ "ForwardConfig": { "TargetGroups": [{ "Weight": "10" }] } }] }),
            ),
        ];
        for (form, operation, input) in table {
            assert_eq!(decode(form.as_bytes()), ((*operation).to_owned(), input.clone()), "{form}");
        }
    }
}
