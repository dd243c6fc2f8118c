//! What is wrong with the merged whole, told by the keys that it was read from. Where those keys stand in the layers is
//! looked up here; what is wrong is decided by policies and contradictions.

use super::{
    faults::{Draft, Place},
    file::Root,
    slot::{Found, Origin},
    table::Declared,
};

/// Something that is wrong with values that are right one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The key that it is told at.
    pub(crate) key: String,
    /// The other way of saying that key, where this is told if the first is absent.
    pub(crate) else_at: Option<String>,
    /// Point at the key itself, not at its value.
    pub(crate) at_key: bool,
    /// Other keys that it was read from: where one of them is faulty itself, nothing is known.
    pub(crate) reads: &'static [&'static str],
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
    pub(crate) help: Option<String>,
}

impl Finding {
    pub(crate) fn at(key: impl Into<String>, message: impl Into<String>) -> Self {
        let (key, message) = (key.into(), message.into());
        Finding { key, else_at: None, at_key: false, reads: &[], message, suggestion: None, help: None }
    }

    pub(crate) fn at_key(self) -> Self {
        Finding { at_key: true, ..self }
    }

    pub(crate) fn else_at(self, key: impl Into<String>) -> Self {
        Finding { else_at: Some(key.into()), ..self }
    }

    pub(crate) fn reads(self, reads: &'static [&'static str]) -> Self {
        Finding { reads, ..self }
    }

    pub(crate) fn suggest(self, suggestion: impl Into<String>) -> Self {
        Finding { suggestion: Some(suggestion.into()), ..self }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Finding { help: Some(help.into()), ..self }
    }

    /// Where it is told, unless it rests on a key that is faulty or missing itself, or that stands perhaps in a part of a
    /// layer that could not be parsed.
    pub(crate) fn place(&self, root: &Root, missing: &[String], whole: bool) -> Option<Place> {
        let told = [Some(self.key.as_str()), self.else_at.as_deref()];
        let keys = told.into_iter().flatten().chain(self.reads.iter().copied());
        for key in keys {
            let path: Vec<&str> = key.split('.').collect();
            let unknown = match root.find(&path) {
                Found::Faulty => true,
                Found::Absent => !whole || missing.iter().any(|m| m == key),
                Found::At(_) => false,
            };
            if unknown {
                return None;
            }
        }
        let exact = |key: &&str| nearest(root, key).is_some_and(|(_, exact)| exact);
        let key = told.into_iter().flatten().find(exact).unwrap_or(&self.key);
        Some(match nearest(root, key) {
            Some((origin, true)) if self.at_key => origin.key,
            Some((origin, _)) => origin.value,
            None => Place::whole(0),
        })
    }

    pub(crate) fn draft(self) -> Draft {
        Draft { help: self.help, ..Draft::error(self.message).suggest(self.suggestion) }
    }
}

/// Where a key stands, and true; or else the nearest table around it, and false.
fn nearest(root: &Root, key: &str) -> Option<(Origin, bool)> {
    let path: Vec<&str> = key.split('.').collect();
    (1..=path.len()).rev().find_map(|n| match root.find(&path[..n]) {
        Found::At(origin) => Some((origin, n == path.len())),
        _ => None,
    })
}
