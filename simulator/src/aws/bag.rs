//! Kinds of resources that are no more than their properties: checked when they are made, kept, and given back. Nothing in the
//! simulator acts on them unless another service looks them up here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;

use super::{
    Fault, World,
    cloudformation::kinds::{Kind, Made, Place, Replaces},
};

/// A kind of resource that is kept as it was described.
pub(crate) struct Bag {
    pub(crate) name: &'static str,
    pub(crate) properties: &'static [&'static str],
    pub(crate) required: &'static [&'static str],
    /// The properties whose change makes it anew.
    pub(crate) renewed_by: &'static [&'static str],
    /// How much simulated time making one takes.
    pub(crate) takes_ms: u64,
    /// By what it can be imported.
    pub(crate) import_by: Option<&'static str>,
    /// Where the account keeps these.
    pub(crate) home: fn(&World) -> &Bags,
    /// Says what is wrong with these properties.
    pub(crate) check: fn(&World, &Value) -> Result<(), Fault>,
    /// What `Ref` gives, and what `GetAtt` does, of a new one.
    pub(crate) made: fn(&World, &Place, &Value) -> (String, Attributes),
}

/// What `GetAtt` gives, by attribute.
pub(crate) type Attributes = Vec<(&'static str, Value)>;

/// One that is there.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) id: String,
    pub(crate) properties: Value,
    pub(crate) attributes: BTreeMap<String, Value>,
}

/// Those that are there, by kind and id.
#[derive(Debug, Default)]
pub(crate) struct Bags {
    held: Mutex<BTreeMap<(&'static str, String), Held>>,
}

impl Bags {
    /// The one of this kind with this id.
    pub(crate) fn get(&self, kind: &str, id: &str) -> Option<Held> {
        self.all(kind).into_iter().find(|held| held.id == id)
    }

    /// All of this kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<Held> {
        self.with(|held| held.iter().filter(|((name, _), _)| *name == kind).map(|(_, held)| held.clone()).collect())
    }

    /// Keeps one that its service's own API made. Whether it was not there before.
    pub(crate) fn put(&self, kind: &'static str, held: Held) -> bool {
        self.with(|all| all.insert((kind, held.id.clone()), held).is_none())
    }

    /// Forgets one. Whether it was there.
    pub(crate) fn remove(&self, kind: &'static str, id: &str) -> bool {
        self.with(|all| all.remove(&(kind, id.to_owned())).is_some())
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<(&'static str, String), Held>) -> T) -> T {
        act(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Nothing is wrong with any properties.
pub(crate) fn any(_: &World, _: &Value) -> Result<(), Fault> {
    Ok(())
}

/// A new id as EC2 gives them: `subnet-0` and sixteen hexadecimal digits.
pub(crate) fn id(prefix: &str) -> String {
    format!("{prefix}-0{:016x}", fastrand::u64(..))
}

/// The name that is given, or one as CloudFormation makes it: the stack's, the logical id and twelve letters.
pub(crate) fn name(place: &Place, properties: &Value, property: &str, length_max: usize) -> String {
    if let Some(given) = properties.get(property).and_then(Value::as_str) {
        return given.to_owned();
    }
    let letters: String = std::iter::repeat_with(fastrand::alphanumeric).take(12).collect();
    let mut begin = format!("{}-{}", place.stack, place.logical_id);
    begin.truncate(length_max.saturating_sub(letters.len() + 1));
    format!("{begin}-{letters}")
}

impl Kind for Bag {
    fn name(&self) -> &'static str {
        self.name
    }

    fn properties(&self) -> &'static [&'static str] {
        self.properties
    }

    fn required(&self) -> &'static [&'static str] {
        self.required
    }

    fn create(&self, world: &Arc<World>, place: &Place, properties: &Value) -> Result<Made, Fault> {
        (self.check)(world, properties)?;
        let (id, attributes) = (self.made)(world, place, properties);
        let attributes: BTreeMap<String, Value> =
            attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let held = Held { id: id.clone(), properties: properties.clone(), attributes: attributes.clone() };
        let taken = (self.home)(world).with(|all| match all.entry((self.name, id.clone())) {
            std::collections::btree_map::Entry::Occupied(_) => true,
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(held);
                false
            }
        });
        if taken {
            let message = format!("Resource of type '{}' with identifier '{id}' already exists.", self.name);
            return Err(Fault::new("AlreadyExists", message));
        }
        Ok(Made { physical_id: id, attributes, takes_ms: self.takes_ms })
    }

    fn update(
        &self,
        world: &Arc<World>,
        physical_id: &str,
        _: &Place,
        _: &Value,
        after: &Value,
    ) -> Result<Made, Fault> {
        (self.check)(world, after)?;
        let attributes = (self.home)(world).with(|all| {
            let held = all.get_mut(&(self.name, physical_id.to_owned()))?;
            held.properties = after.clone();
            Some(held.attributes.clone())
        });
        match attributes {
            Some(attributes) => {
                Ok(Made { physical_id: physical_id.to_owned(), attributes, takes_ms: self.takes_ms.min(2_000) })
            }
            None => {
                let message =
                    format!("Resource of type '{}' with identifier '{physical_id}' was not found.", self.name);
                Err(Fault::new("NotFound", message))
            }
        }
    }

    fn replaces(&self, property: &str) -> Replaces {
        if self.renewed_by.contains(&property) { Replaces::Always } else { Replaces::Never }
    }

    fn delete(&self, world: &Arc<World>, physical_id: &str, _: &Value) -> Result<(), Fault> {
        (self.home)(world).with(|all| all.remove(&(self.name, physical_id.to_owned())));
        Ok(())
    }

    fn read(&self, world: &Arc<World>, physical_id: &str) -> Option<(Value, BTreeMap<String, Value>)> {
        let held = (self.home)(world).get(self.name, physical_id)?;
        Some((held.properties, held.attributes))
    }

    fn import_by(&self) -> Option<&'static str> {
        self.import_by
    }
}
