//! What an engine waits for, as a value that costs nothing to make, and the sentence that people read.

use std::fmt;

use crate::analysis::Unclear;

/// What is being waited for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Waiting {
    /// The provider, which says it better itself.
    Provider,
    /// The time at a weight to pass.
    Pause {
        /// In percent.
        weight: u8,
    },
    /// The cloud, which moves traffic by itself.
    Cloud {
        /// In percent.
        weight: u8,
    },
    /// The time after all traffic has moved.
    Bake,
    /// A person, at a gate.
    Gate {
        /// In percent.
        weight: u8,
    },
    /// A person, who paused it.
    Resume {
        /// In percent.
        weight: u8,
    },
    /// Something to judge by, or a person who decides without.
    Evidence {
        /// In percent.
        weight: u8,
        /// What is missing.
        why: Unclear,
    },
}

impl Waiting {
    /// True where only a person, or more traffic, gets it going again.
    pub fn for_a_person(self) -> bool {
        matches!(self, Waiting::Gate { .. } | Waiting::Resume { .. } | Waiting::Evidence { .. })
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Provider => Ok(()),
            Waiting::Pause { weight } => write!(f, "the pause at {weight} % to pass"),
            Waiting::Cloud { weight } => write!(f, "the cloud to go on (at {weight} %)"),
            Waiting::Bake => write!(f, "the bake time to pass"),
            Waiting::Gate { weight } => write!(f, "somebody to go on (at {weight} %)"),
            Waiting::Resume { weight } => write!(f, "somebody to resume (at {weight} %)"),
            Waiting::Evidence { weight, why } => write!(f, "something to judge by (at {weight} %): {why}"),
        }
    }
}
