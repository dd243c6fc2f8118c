//! Declared tables: from one list of keys, the reader that finds every fault, the writer, the merge and the JSON Schema. What
//! the keys are is said in `file.rs`; here is only how a declaration works.

use std::marker::PhantomData;

use serde_json::{Map as JsonMap, Value as Json};
use toml::{Spanned, Value, de::DeValue};

use super::{
    faults::{Draft, Place},
    reader::Reader,
    slot::{Entry, Found, Map, Origin, Slot, Table, Tables},
};

/// More keys of the user's own than this are refused in one table.
pub(crate) const MAP_KEYS_MAX: usize = 256;

pub(crate) type Node<'i> = Spanned<DeValue<'i>>;

/// What one key may hold.
pub(crate) trait Rule {
    type Slot: Slot;

    /// Reads what was written; whatever is wrong with it goes to the reader.
    fn read(&self, key: Place, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Self::Slot;

    /// What reads back as this slot; nothing for an absent or faulty one.
    fn write(&self, slot: &Self::Slot) -> Option<Value>;

    /// A default as it would be written.
    fn write_default(&self, value: &<Self::Slot as Slot>::Value) -> Option<Value>;

    fn schema(&self) -> Json;

    fn required(&self) -> bool {
        false
    }

    /// Adds the names of this key and of those below it.
    fn list(&self, path: String, out: &mut Vec<String>) {
        out.push(path);
    }

    /// Adds every required key that is missing here, with the header of the table that should have it.
    fn missing(&self, slot: &Self::Slot, path: &str, header: Option<Place>, out: &mut Vec<Missing>) {
        if self.required() && slot.is_absent() {
            out.push(Missing { path: path.to_owned(), header });
        }
    }
}

/// A required key that no layer set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) path: String,
    pub(crate) header: Option<Place>,
}

impl Missing {
    pub(crate) fn draft(&self) -> Draft {
        let (table, key) = self.path.rsplit_once('.').unwrap_or(("", &self.path));
        match table {
            "" => Draft::error(format!("the required key `{key}` is missing")),
            _ => Draft::error(format!("`[{table}]` lacks the required key `{key}`")),
        }
    }
}

/// One value without keys of its own.
pub(crate) trait Leaf {
    type Value: Clone;

    fn read(&self, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Option<Self::Value>;
    fn write(&self, value: &Self::Value) -> Value;
    fn schema(&self) -> Json;

    fn required(&self) -> bool {
        false
    }
}

impl<L: Leaf> Rule for L {
    type Slot = Entry<L::Value>;

    fn read(&self, key: Place, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Self::Slot {
        let origin = Origin { key, value: reader.place(node) };
        match Leaf::read(self, node, reader) {
            Some(value) => Entry::Set(value, origin),
            None => Entry::Faulty(origin),
        }
    }

    fn write(&self, slot: &Self::Slot) -> Option<Value> {
        slot.get().map(|value| Leaf::write(self, value))
    }

    fn write_default(&self, value: &L::Value) -> Option<Value> {
        Some(Leaf::write(self, value))
    }

    fn schema(&self) -> Json {
        Leaf::schema(self)
    }

    fn required(&self) -> bool {
        Leaf::required(self)
    }
}

/// A set of declared keys; made by [`declare!`].
pub(crate) trait Declared: Default {
    /// The names of its keys, in the order of their declaration.
    fn names() -> &'static [&'static str];
    /// Reads one key; false where there is none of this name.
    fn read(&mut self, name: &str, key: Place, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> bool;
    /// The key is absent so far in this layer.
    fn lacks(&self, name: &str) -> bool;
    fn merge(&mut self, over: Self);
    fn find(&self, path: &[&str]) -> Found;
    fn write(&self) -> toml::Table;
    fn missing(&self, path: &str, header: Option<Place>, out: &mut Vec<Missing>);
    /// Adds the names of its keys and of those below them.
    fn list(path: &str, out: &mut Vec<String>);
    /// The JSON Schema of each key.
    fn properties() -> JsonMap<String, Json>;
    /// The names of its required keys.
    fn required() -> Vec<&'static str>;
}

/// The JSON Schema of a declared table. Only where a table is complete in one layer can its required keys be demanded.
pub(crate) fn object<T: Declared>(complete: bool) -> Json {
    let mut schema = serde_json::json!({
        "type": "object", "additionalProperties": false, "properties": T::properties(),
    });
    if complete && !T::required().is_empty() {
        schema["required"] = T::required().into();
    }
    schema
}

/// A table with declared keys.
#[derive(Debug)]
pub(crate) struct TableRule<T> {
    required: bool,
    keys: PhantomData<T>,
}

/// A table that may be left out; its required keys are demanded only where it is there.
pub(crate) fn table<T: Declared>() -> TableRule<T> {
    TableRule { required: false, keys: PhantomData }
}

impl<T> TableRule<T> {
    /// A table whose required keys are always demanded.
    pub(crate) fn always(self) -> Self {
        TableRule { required: true, ..self }
    }
}

impl<T: Declared + Clone> Rule for TableRule<T> {
    type Slot = Table<T>;

    fn read(&self, key: Place, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Table<T> {
        let origin = Some(Origin { key, value: reader.place(node) });
        let DeValue::Table(entries) = node.get_ref() else {
            reader.expected("a table", node, None);
            return Table { origin, faulty: true, keys: T::default() };
        };
        Table { origin, faulty: false, keys: reader.table(entries) }
    }

    fn write(&self, slot: &Table<T>) -> Option<Value> {
        (slot.origin.is_some() && !slot.faulty).then(|| Value::Table(slot.keys.write()))
    }

    fn write_default(&self, keys: &T) -> Option<Value> {
        Some(Value::Table(keys.write()))
    }

    fn schema(&self) -> Json {
        object::<T>(false)
    }

    fn list(&self, path: String, out: &mut Vec<String>) {
        T::list(&path, out);
        out.push(path);
    }

    fn missing(&self, slot: &Table<T>, path: &str, header: Option<Place>, out: &mut Vec<Missing>) {
        if slot.faulty || (slot.is_absent() && !self.required) {
            return;
        }
        slot.keys.missing(path, slot.origin.map(|o| o.value).or(header), out);
    }
}

/// A table whose keys are the user's own.
#[derive(Debug)]
pub(crate) struct MapRule<R> {
    value: R,
    /// What keys look like, as a regular expression and in words.
    pattern: &'static str,
    name: fn(&str) -> Result<(), &'static str>,
}

/// A table whose keys are the user's own, as many as [`MAP_KEYS_MAX`].
pub(crate) fn map<R: Rule>(value: R, pattern: &'static str, name: fn(&str) -> Result<(), &'static str>) -> MapRule<R> {
    MapRule { value, pattern, name }
}

impl<R: Rule> Rule for MapRule<R>
where
    R::Slot: Clone,
{
    type Slot = Map<R::Slot>;

    fn read(&self, key: Place, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Self::Slot {
        let origin = Some(Origin { key, value: reader.place(node) });
        let DeValue::Table(entries) = node.get_ref() else {
            reader.expected("a table", node, None);
            return Map { origin, faulty: true, ..Map::default() };
        };
        let mut map = Map { origin, ..Map::default() };
        if entries.len() > MAP_KEYS_MAX {
            let draft = Draft::error(format!("`{}` has more than {MAP_KEYS_MAX} keys", reader.key()));
            reader.add(reader.place(node), draft);
            map.faulty = true;
            return map;
        }
        for (name, node) in entries {
            let place = reader.place(name);
            reader.path.push(name.get_ref().to_string());
            if let Err(why) = (self.name)(name.get_ref()) {
                reader.add(place, Draft::error(format!("`{}` can't be a key here", reader.key())).help(why));
            } else {
                map.entries.insert(name.get_ref().to_string(), self.value.read(place, node, reader));
            }
            reader.path.pop();
        }
        map
    }

    fn write(&self, slot: &Self::Slot) -> Option<Value> {
        let entries = slot.entries.iter().filter_map(|(k, v)| Some((k.clone(), self.value.write(v)?)));
        (slot.origin.is_some() && !slot.faulty).then(|| Value::Table(entries.collect()))
    }

    fn write_default(&self, _: &<Self::Slot as Slot>::Value) -> Option<Value> {
        Some(Value::Table(toml::Table::new()))
    }

    fn schema(&self) -> Json {
        serde_json::json!({
            "type": "object", "maxProperties": MAP_KEYS_MAX, "propertyNames": { "pattern": self.pattern },
            "additionalProperties": self.value.schema(),
        })
    }

    fn list(&self, path: String, out: &mut Vec<String>) {
        self.value.list(format!("{path}.*"), out);
        out.push(path);
    }

    fn missing(&self, slot: &Self::Slot, path: &str, header: Option<Place>, out: &mut Vec<Missing>) {
        for (key, value) in &slot.entries {
            self.value.missing(value, &format!("{path}.{key}"), header, out);
        }
    }
}

/// A list of tables, each complete in itself.
#[derive(Debug)]
pub(crate) struct TablesRule<T> {
    items_max: usize,
    keys: PhantomData<T>,
}

/// A list of at most so many tables.
pub(crate) fn tables<T: Declared>(items_max: usize) -> TablesRule<T> {
    TablesRule { items_max, keys: PhantomData }
}

impl<T: Declared + Clone> Rule for TablesRule<T> {
    type Slot = Tables<T>;

    fn read(&self, key: Place, node: &Node<'_>, reader: &mut Reader<'_, '_>) -> Tables<T> {
        let origin = Origin { key, value: reader.place(node) };
        let mut tables = Tables { origin: Some(origin), faulty: false, items: Vec::new() };
        let DeValue::Array(items) = node.get_ref() else {
            reader.expected("a list of tables", node, None);
            return Tables { faulty: true, ..tables };
        };
        if items.len() > self.items_max {
            let draft = Draft::error(format!("`{}` has more than {} items", reader.key(), self.items_max));
            reader.add(reader.place(node), draft);
            return Tables { faulty: true, ..tables };
        }
        for (index, node) in items.iter().enumerate() {
            reader.path.push(index.to_string());
            let item = table::<T>().always();
            let keys = item.read(reader.place(node), node, reader);
            let mut missing = Vec::new();
            item.missing(&keys, &reader.key(), None, &mut missing);
            for missing in missing {
                reader.add(reader.place(node), missing.draft());
                tables.faulty = true;
            }
            tables.items.push(keys);
            reader.path.pop();
        }
        tables
    }

    fn write(&self, slot: &Tables<T>) -> Option<Value> {
        let items = slot.items.iter().map(|item| Value::Table(item.keys.write()));
        (slot.origin.is_some() && !slot.faulty).then(|| Value::Array(items.collect()))
    }

    fn write_default(&self, items: &Vec<T>) -> Option<Value> {
        Some(Value::Array(items.iter().map(|item| Value::Table(item.write())).collect()))
    }

    fn schema(&self) -> Json {
        serde_json::json!({ "type": "array", "maxItems": self.items_max, "items": object::<T>(true) })
    }

    fn list(&self, path: String, out: &mut Vec<String>) {
        T::list(&format!("{path}[]"), out);
        out.push(path);
    }
}
