//! Reads one layer's tree, key by key, and never stops at a fault: a wrong value hides nothing but itself. What a key may
//! hold is the business of its rule.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    faults::{Draft, Place, Sink},
    suggestions,
    table::{Declared, Node},
};

/// A key that was renamed: accepted for one version, with a warning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rename {
    /// The table that holds it, `rollout`.
    pub(crate) table: &'static str,
    pub(crate) old: &'static str,
    pub(crate) new: &'static str,
}

/// Reads one layer.
#[derive(Debug)]
pub(crate) struct Reader<'r, 's> {
    pub(crate) layer: u16,
    pub(crate) text: &'r str,
    /// What was typed on the command line has no quotes: any value is its own text where text is wanted.
    pub(crate) bare: bool,
    pub(crate) renames: &'r [Rename],
    /// Lines (as spans) that already have a syntax error; nothing else is said of them.
    pub(crate) broken: &'r [Range<usize>],
    pub(crate) path: Vec<String>,
    pub(crate) sink: &'r mut Sink<'s>,
}

impl Reader<'_, '_> {
    pub(crate) fn place<T>(&self, node: &Spanned<T>) -> Place {
        Place::of(self.layer, node.span())
    }

    /// The key that is being read, `scale.steps.0.for`.
    pub(crate) fn key(&self) -> String {
        self.path.iter().map(|part| shown(part)).collect::<Vec<_>>().join(".")
    }

    pub(crate) fn add(&mut self, place: Place, draft: Draft) {
        let (start, end) = (place.start as usize, place.end as usize);
        // A value that the parser had to make up stands at 0..0.
        let broken = self.broken.iter().any(|line| start <= line.end && line.start <= end);
        if !(broken || (!self.broken.is_empty() && end == 0)) {
            self.sink.add(place, draft);
        }
    }

    /// Something else was wanted here.
    pub(crate) fn expected(&mut self, wanted: &str, node: &Node<'_>, suggestion: Option<String>) {
        let found = match node.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let draft = Draft::error(format!("`{}` takes {wanted}, not {found}", self.key())).suggest(suggestion);
        self.add(self.place(node), draft);
    }

    /// Reads the keys of a table.
    pub(crate) fn table<T: Declared>(&mut self, entries: &DeTable<'_>) -> T {
        let mut keys = T::default();
        let mut renamed = Vec::new();
        for (name, node) in entries {
            let place = self.place(name);
            self.path.push(name.get_ref().to_string());
            if !keys.read(name.get_ref(), place, node, self) {
                match self.rename_of(name.get_ref()) {
                    Some(rename) => renamed.push((rename, place, node)),
                    None => self.unknown(T::names(), name.get_ref(), place),
                }
            }
            self.path.pop();
        }
        for (Rename { old, new, .. }, place, node) in renamed {
            self.path.push(old.to_owned());
            if keys.lacks(new) {
                let warning = Draft::warning(format!("`{}` is now called `{new}`", self.key()))
                    .suggest(new.to_owned())
                    .help("the old name is accepted for this version only");
                self.add(place, warning);
                keys.read(new, place, node, self);
            } else {
                self.add(place, Draft::error(format!("`{}` is the old name of `{new}`, and both are set", self.key())));
            }
            self.path.pop();
        }
        keys
    }

    fn rename_of(&self, name: &str) -> Option<Rename> {
        let table = self.table_name();
        self.renames.iter().find(|r| r.old == name && r.table == table).copied()
    }

    /// The table that holds the key that is being read.
    fn table_name(&self) -> String {
        self.path[..self.path.len().saturating_sub(1)].join(".")
    }

    fn unknown(&mut self, names: &[&'static str], name: &str, place: Place) {
        // Nobody reads what is only counted.
        if self.sink.is_full() {
            return self.sink.count();
        }
        let table = self.table_name();
        let within = if table.is_empty() { "at the top".to_owned() } else { format!("in `[{table}]`") };
        let elsewhere = || super::file::table_with(name).map(|table| format!("{table}.{name}"));
        let suggestion = suggestions::nearest(name, names.iter().copied()).map(str::to_owned).or_else(elsewhere);
        let draft = Draft::error(format!("there is no key `{}` {within}", shown(name)))
            .suggest(suggestion)
            .help(format!("allowed here: {}", names.join(", ")));
        self.add(place, draft);
    }
}

/// A key as it can be shown: somebody's own keys may be long, or hold what a terminal would obey.
fn shown(part: &str) -> String {
    const CHARS_MAX: usize = 64;
    let escaped: String = part.escape_debug().take(CHARS_MAX).collect();
    if escaped.len() < part.len() && part.chars().nth(CHARS_MAX).is_some() { escaped + "..." } else { escaped }
}
