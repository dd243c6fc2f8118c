//! One environment file as it was written: typed, with places, unknown keys refused, nothing completed. It decides nothing
//! about what the values amount to; `resolve` does.

use super::{
    RENAMES,
    faults::{Fault, Sink},
    file::Root,
    layers::{self, Layer},
    table::Declared,
};

/// One environment file, or several merged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EnvFile {
    root: Root,
}

impl EnvFile {
    /// Reads a file. What is faulty is left out, and every fault is told.
    pub fn parse(layer: &Layer) -> (EnvFile, Vec<Fault>) {
        let layers = std::slice::from_ref(layer);
        let mut sink = Sink::new(layers);
        let read = layers::read_file(0, &layer.text, RENAMES, &mut sink);
        (EnvFile { root: read.root }, sink.into_faults())
    }

    /// This file with another laid over it: tables key by key, everything else replaced.
    pub fn merge(mut self, over: EnvFile) -> EnvFile {
        self.root.merge(over.root);
        self
    }

    /// What reads back as this file.
    pub fn to_toml(&self) -> toml::Table {
        self.root.write()
    }

    /// Every key that files may have, in dotted form: items of a list as `steps[]`, keys of the user's own as `env.*`.
    pub fn keys() -> Vec<String> {
        let mut keys = Vec::new();
        Root::list("", &mut keys);
        keys
    }
}
