//! What goes wrong on purpose, by name.

/// The faults that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    names: Vec<String>,
}

impl Faults {
    pub(crate) fn named(names: &[String]) -> Self {
        Faults { names: names.to_vec() }
    }

    /// Whether this one was asked for.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }
}
