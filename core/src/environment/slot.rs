//! Where the values of one key come to rest: absent, faulty or set, with the place that set them. Layers are merged here,
//! slot by slot; what a value may be is decided by its rule, not here.

use std::{collections::BTreeMap, fmt};

use super::{faults::Place, table::Declared};

/// Where a key and its value stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) key: Place,
    pub(crate) value: Place,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Absent,
    Faulty,
    At(Origin),
}

/// The place for the values of one key, over all layers.
pub(crate) trait Slot: Default {
    /// What a default is given as.
    type Value: Clone;

    /// Takes over what a later layer says.
    fn merge(&mut self, over: Self);

    /// Follows a path from here; an empty one means this slot.
    fn find(&self, path: &[&str]) -> Found;

    /// Nothing was written, not even something wrong.
    fn is_absent(&self) -> bool;

    /// What was set, if it was and is right.
    fn set(&self) -> Option<Self::Value>;
}

/// One value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Entry<T> {
    #[default]
    Absent,
    Faulty(Origin),
    Set(T, Origin),
}

impl<T> Entry<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        match self {
            Entry::Set(value, _) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn origin(&self) -> Option<Origin> {
        match self {
            Entry::Absent => None,
            Entry::Faulty(origin) | Entry::Set(_, origin) => Some(*origin),
        }
    }

    /// Forgets the value, as if no layer had set it.
    pub(crate) fn drop(&mut self) {
        *self = Entry::Absent;
    }
}

impl<T: Clone> Slot for Entry<T> {
    type Value = T;

    fn merge(&mut self, over: Self) {
        if !over.is_absent() {
            *self = over;
        }
    }

    fn find(&self, _path: &[&str]) -> Found {
        match self {
            Entry::Absent => Found::Absent,
            Entry::Faulty(_) => Found::Faulty,
            Entry::Set(_, origin) => Found::At(*origin),
        }
    }

    fn is_absent(&self) -> bool {
        matches!(self, Entry::Absent)
    }

    fn set(&self) -> Option<T> {
        self.get().cloned()
    }
}

/// A table whose keys are declared.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Table<T> {
    /// Its header, or itself where it is written inline.
    pub(crate) origin: Option<Origin>,
    /// Something else than a table was written.
    pub(crate) faulty: bool,
    pub(crate) keys: T,
}

impl<T: Declared + Clone> Slot for Table<T> {
    type Value = T;

    fn merge(&mut self, over: Self) {
        self.origin = self.origin.or(over.origin);
        self.faulty |= over.faulty;
        self.keys.merge(over.keys);
    }

    fn find(&self, path: &[&str]) -> Found {
        match (self.faulty, path.is_empty(), self.origin) {
            (true, ..) => Found::Faulty,
            (false, false, _) => self.keys.find(path),
            (false, true, Some(origin)) => Found::At(origin),
            (false, true, None) => Found::Absent,
        }
    }

    fn is_absent(&self) -> bool {
        self.origin.is_none() && !self.faulty
    }

    fn set(&self) -> Option<T> {
        (!self.is_absent() && !self.faulty).then(|| self.keys.clone())
    }
}

/// A table whose keys are the user's own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Map<S> {
    pub(crate) origin: Option<Origin>,
    pub(crate) faulty: bool,
    pub(crate) entries: BTreeMap<String, S>,
}

impl<S> Default for Map<S> {
    fn default() -> Self {
        Map { origin: None, faulty: false, entries: BTreeMap::new() }
    }
}

impl<S: Slot + Clone> Slot for Map<S> {
    type Value = BTreeMap<String, S::Value>;

    fn merge(&mut self, over: Self) {
        self.origin = self.origin.or(over.origin);
        self.faulty |= over.faulty;
        for (key, value) in over.entries {
            self.entries.entry(key).or_default().merge(value);
        }
    }

    fn find(&self, path: &[&str]) -> Found {
        if self.faulty {
            return Found::Faulty;
        }
        if path.is_empty() {
            return self.origin.map_or(Found::Absent, Found::At);
        }
        // A key of the user's own may hold dots: the longest that exists is meant.
        (1..=path.len())
            .rev()
            .find_map(|n| Some((n, self.entries.get(&path[..n].join("."))?)))
            .map_or(Found::Absent, |(n, slot)| slot.find(&path[n..]))
    }

    fn is_absent(&self) -> bool {
        self.origin.is_none() && !self.faulty
    }

    fn set(&self) -> Option<Self::Value> {
        (!self.is_absent())
            .then(|| self.entries.iter().filter_map(|(key, slot)| Some((key.clone(), slot.set()?))).collect())
    }
}

/// A list of tables. A later layer replaces it whole.
#[derive(Clone, PartialEq)]
pub(crate) struct Tables<T> {
    pub(crate) origin: Option<Origin>,
    pub(crate) faulty: bool,
    pub(crate) items: Vec<Table<T>>,
}

impl<T> Default for Tables<T> {
    fn default() -> Self {
        Tables { origin: None, faulty: false, items: Vec::new() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Tables<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.items).finish()
    }
}

impl<T> Tables<T> {
    /// Forgets the list, as if no layer had set it.
    pub(crate) fn drop(&mut self) {
        *self = Tables::default();
    }
}

impl<T: Declared + Clone> Slot for Tables<T> {
    type Value = Vec<T>;

    fn merge(&mut self, over: Self) {
        if !over.is_absent() {
            *self = over;
        }
    }

    fn find(&self, path: &[&str]) -> Found {
        if self.faulty {
            return Found::Faulty;
        }
        match path {
            [] => self.origin.map_or(Found::Absent, Found::At),
            [index, rest @ ..] => {
                let item = index.parse::<usize>().ok().and_then(|i| self.items.get(i));
                item.map_or(Found::Absent, |item| item.find(rest))
            }
        }
    }

    fn is_absent(&self) -> bool {
        self.origin.is_none() && !self.faulty
    }

    fn set(&self) -> Option<Self::Value> {
        (!self.is_absent()).then(|| self.items.iter().filter_map(Slot::set).collect())
    }
}
