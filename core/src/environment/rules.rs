//! What values that aren't text may be: numbers in a range, durations, choices, flags, lists. Each rule reads a value, writes
//! it back and describes itself to editors.

use std::{fmt::Debug, marker::PhantomData};

use schemars::{JsonSchema, SchemaGenerator};
use serde::{
    Serialize,
    de::{
        DeserializeOwned, IntoDeserializer,
        value::{Error as WordError, StrDeserializer},
    },
};
use serde_json::{Value as Json, json};
use toml::{Value, de::DeValue};

use super::{
    duration,
    faults::Draft,
    reader::Reader,
    suggestions,
    table::{Leaf, Node},
    texts::{Text, argument},
};

/// A value that has to be there, in some layer.
#[derive(Debug)]
pub(crate) struct Required<L>(L);

pub(crate) fn required<L: Leaf>(leaf: L) -> Required<L> {
    Required(leaf)
}

impl<L: Leaf> Leaf for Required<L> {
    type Value = L::Value;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<L::Value> {
        self.0.read(node, reader)
    }

    fn write(&self, value: &L::Value) -> Value {
        self.0.write(value)
    }

    fn schema(&self) -> Json {
        self.0.schema()
    }

    fn required(&self) -> bool {
        true
    }
}

/// `true` or `false`.
#[derive(Debug)]
pub(crate) struct Flag;

pub(crate) fn flag() -> Flag {
    Flag
}

impl Leaf for Flag {
    type Value = bool;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<bool> {
        if let DeValue::Boolean(value) = node.get_ref() {
            return Some(*value);
        }
        let suggestion = match node.get_ref() {
            DeValue::String(s) if matches!(&**s, "true" | "yes" | "on" | "allowed") => Some("true".to_owned()),
            DeValue::String(s) if matches!(&**s, "false" | "no" | "off" | "none") => Some("false".to_owned()),
            _ => None,
        };
        reader.expected("true or false", node, suggestion);
        None
    }

    fn write(&self, value: &bool) -> Value {
        Value::Boolean(*value)
    }

    fn schema(&self) -> Json {
        json!({ "type": "boolean" })
    }
}

/// A whole number within bounds.
#[derive(Debug)]
pub(crate) struct Whole<N> {
    min: i64,
    max: i64,
    number: PhantomData<N>,
}

pub(crate) fn whole<N>(min: i64, max: i64) -> Whole<N> {
    Whole { min, max, number: PhantomData }
}

impl<N: TryFrom<i64> + TryInto<i64> + Copy> Leaf for Whole<N> {
    type Value = N;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<N> {
        let DeValue::Integer(written) = node.get_ref() else {
            let suggestion = match node.get_ref() {
                DeValue::String(s) => s.trim().parse::<i64>().ok().map(|n| n.to_string()),
                _ => None,
            };
            reader.expected("a whole number", node, suggestion);
            return None;
        };
        let number = i64::from_str_radix(written.as_str(), written.radix()).ok();
        match number.filter(|n| (self.min..=self.max).contains(n)).and_then(|n| N::try_from(n).ok()) {
            Some(value) => Some(value),
            None => {
                let draft = Draft::error(format!("`{}` must be from {} to {}", reader.key(), self.min, self.max));
                let near = number.filter(|n| *n > self.max && self.min < self.max).map(|_| self.max.to_string());
                reader.add(reader.place(node), draft.suggest(near));
                None
            }
        }
    }

    fn write(&self, value: &N) -> Value {
        Value::Integer((*value).try_into().unwrap_or(i64::MAX))
    }

    fn schema(&self) -> Json {
        json!({ "type": "integer", "minimum": self.min, "maximum": self.max })
    }
}

/// One of some whole numbers.
#[derive(Debug)]
pub(crate) struct Among(&'static [i64]);

pub(crate) fn among(numbers: &'static [i64]) -> Among {
    Among(numbers)
}

impl Leaf for Among {
    type Value = u32;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<u32> {
        let (first, last) = (self.0.first().copied().unwrap_or_default(), self.0.last().copied().unwrap_or_default());
        let number = whole::<i64>(first, last).read(node, reader)?;
        if self.0.contains(&number) {
            return u32::try_from(number).ok();
        }
        // Rather kept longer than was asked for.
        let near = self.0.iter().find(|n| **n > number).map(ToString::to_string);
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        let draft = Draft::error(format!("`{}` takes {}", reader.key(), suggestions::one_of(&names)));
        reader.add(reader.place(node), draft.suggest(near));
        None
    }

    fn write(&self, value: &u32) -> Value {
        Value::Integer(i64::from(*value))
    }

    fn schema(&self) -> Json {
        json!({ "type": "integer", "enum": self.0 })
    }
}

/// A number within bounds; a whole one may be written without a point.
#[derive(Debug)]
pub(crate) struct Decimal {
    min: f64,
    max: f64,
}

pub(crate) fn decimal(min: f64, max: f64) -> Decimal {
    Decimal { min, max }
}

impl Leaf for Decimal {
    type Value = f64;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<f64> {
        let number = match node.get_ref() {
            DeValue::Float(written) => written.as_str().parse::<f64>().ok(),
            DeValue::Integer(written) => i64::from_str_radix(written.as_str(), written.radix()).ok().map(|n| n as f64),
            other => {
                let suggestion = match other {
                    DeValue::String(s) => s.trim().parse::<f64>().ok().map(|n| n.to_string()),
                    _ => None,
                };
                reader.expected("a number", node, suggestion);
                return None;
            }
        };
        // NaN is in no range.
        let value = number.filter(|n| (self.min..=self.max).contains(n));
        if value.is_none() {
            let draft = Draft::error(format!("`{}` must be from {} to {}", reader.key(), self.min, self.max));
            reader.add(reader.place(node), draft);
        }
        value
    }

    fn write(&self, value: &f64) -> Value {
        Value::Float(*value)
    }

    fn schema(&self) -> Json {
        json!({ "type": "number", "minimum": self.min, "maximum": self.max })
    }
}

/// A time, as text with units; in milliseconds once read.
#[derive(Debug)]
pub(crate) struct Duration {
    min_ms: u64,
    max_ms: u64,
}

pub(crate) fn duration(min_ms: u64, max_ms: u64) -> Duration {
    Duration { min_ms, max_ms }
}

impl Leaf for Duration {
    type Value = u64;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<u64> {
        let written = match node.get_ref() {
            DeValue::String(written) => written,
            other => {
                let suggestion = match other {
                    DeValue::Integer(n) => Some(format!("\"{}s\"", n.as_str())),
                    _ => None,
                };
                reader.expected("a time with a unit", node, suggestion);
                return None;
            }
        };
        let place = reader.place(node);
        match duration::parse(written) {
            Ok(ms) if (self.min_ms..=self.max_ms).contains(&ms) => return Some(ms),
            Ok(_) => {
                let (min, max) = (duration::text(self.min_ms), duration::text(self.max_ms));
                reader.add(place, Draft::error(format!("`{}` must be from {min} to {max}", reader.key())));
            }
            Err(suggestion) => {
                let draft = Draft::error(format!("`{}` takes a time with a unit", reader.key()))
                    .suggest(suggestion.map(|s| format!("\"{s}\"")))
                    .help("write times as 250ms, 30s, 5m, 1h30m or 7d");
                reader.add(place, draft);
            }
        }
        None
    }

    fn write(&self, value: &u64) -> Value {
        Value::String(duration::text(*value))
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": duration::PATTERN, "examples": ["30s", "5m", "1h30m", "250ms"] })
    }
}

/// One of the names of an enum, as serde spells them.
#[derive(Debug)]
pub(crate) struct Choice<E>(PhantomData<E>);

pub(crate) fn choice<E>() -> Choice<E> {
    Choice(PhantomData)
}

/// The names of an enum with what they mean.
fn names<E: JsonSchema>() -> Vec<(String, String)> {
    let schema = E::json_schema(&mut SchemaGenerator::default()).to_value();
    let text = |v: Option<&Json>| v.and_then(Json::as_str).unwrap_or_default().to_owned();
    let options = |key: &str| schema.get(key).and_then(Json::as_array).cloned().unwrap_or_default();
    let described = options("oneOf").into_iter().flat_map(|option| match option.get("const") {
        Some(name) => vec![(text(Some(name)), text(option.get("description")))],
        None => option["enum"].as_array().into_iter().flatten().map(|n| (text(Some(n)), String::new())).collect(),
    });
    described.chain(options("enum").iter().map(|name| (text(Some(name)), String::new()))).collect()
}

impl<E: DeserializeOwned + Serialize + JsonSchema + Clone> Leaf for Choice<E> {
    type Value = E;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<E> {
        let all = || names::<E>().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let DeValue::String(written) = node.get_ref() else {
            reader.expected(&suggestions::one_of(&quoted(&all())), node, None);
            return None;
        };
        let word: StrDeserializer<'_, WordError> = (**written).into_deserializer();
        if let Ok(value) = E::deserialize(word) {
            return Some(value);
        }
        not_among(&all(), written, node, reader);
        None
    }

    fn write(&self, value: &E) -> Value {
        Value::try_from(value).unwrap_or(Value::String(String::new()))
    }

    fn schema(&self) -> Json {
        let (names, docs): (Vec<_>, Vec<_>) = names::<E>().into_iter().unzip();
        json!({ "type": "string", "enum": names, "x-taplo": { "docs": { "enumValues": docs } } })
    }
}

/// One of some words.
#[derive(Debug)]
pub(crate) struct Word(&'static [&'static str]);

pub(crate) fn word(words: &'static [&'static str]) -> Word {
    Word(words)
}

impl Leaf for Word {
    type Value = String;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<String> {
        let all: Vec<String> = self.0.iter().map(|w| (*w).to_owned()).collect();
        let DeValue::String(written) = node.get_ref() else {
            reader.expected(&suggestions::one_of(&quoted(&all)), node, None);
            return None;
        };
        if self.0.contains(&&**written) {
            return Some(written.to_string());
        }
        not_among(&all, written, node, reader);
        None
    }

    fn write(&self, value: &String) -> Value {
        Value::String(value.clone())
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "enum": self.0 })
    }
}

fn quoted(names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("\"{name}\"")).collect()
}

fn not_among(all: &[String], written: &str, node: &Node<'_>, reader: &mut Reader<'_, '_>) {
    let suggestion = suggestions::nearest(written, all.iter().map(String::as_str)).map(|name| format!("\"{name}\""));
    let draft = Draft::error(format!("`{}` takes {}", reader.key(), suggestions::one_of(&quoted(all))));
    reader.add(reader.place(node), draft.suggest(suggestion));
}

/// A list of values, each by the same rule.
#[derive(Debug)]
pub(crate) struct List<L> {
    item: L,
    items_max: usize,
    empty: bool,
}

/// A list of at most so many values, which may be empty.
pub(crate) fn list<L: Leaf>(item: L, items_max: usize) -> List<L> {
    List { item, items_max, empty: true }
}

/// A list of at least one and at most so many values.
pub(crate) fn some<L: Leaf>(item: L, items_max: usize) -> List<L> {
    List { item, items_max, empty: false }
}

/// A program and its arguments.
pub(crate) fn command() -> List<Text> {
    some(argument(), 256)
}

impl<L: Leaf> Leaf for List<L> {
    type Value = Vec<L::Value>;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Vec<L::Value>> {
        let DeValue::Array(items) = node.get_ref() else {
            let suggestion = match node.get_ref() {
                DeValue::String(s) if self.empty => Some(Value::Array(vec![Value::String(s.to_string())]).to_string()),
                DeValue::String(s) => {
                    Some(Value::Array(s.split_whitespace().map(|w| Value::String(w.to_owned())).collect()).to_string())
                }
                _ => None,
            };
            reader.expected("a list", node, suggestion);
            return None;
        };
        let wrong = if items.len() > self.items_max {
            Some(format!("has more than {} items", self.items_max))
        } else if items.is_empty() && !self.empty {
            Some("is empty".to_owned())
        } else {
            None
        };
        if let Some(wrong) = wrong {
            reader.add(reader.place(node), Draft::error(format!("`{}` {wrong}", reader.key())));
            return None;
        }
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            reader.path.push(index.to_string());
            values.extend(self.item.read(item, reader));
            reader.path.pop();
        }
        (values.len() == items.len()).then_some(values)
    }

    fn write(&self, values: &Vec<L::Value>) -> Value {
        Value::Array(values.iter().map(|value| self.item.write(value)).collect())
    }

    fn schema(&self) -> Json {
        let min = usize::from(!self.empty);
        json!({ "type": "array", "minItems": min, "maxItems": self.items_max, "items": self.item.schema() })
    }
}
