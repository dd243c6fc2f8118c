//! Under construction.

/// Under construction.
#[derive(Debug, Default)]
pub(crate) struct Efs {}
