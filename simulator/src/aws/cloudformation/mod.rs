//! Under construction.

pub(crate) mod kinds;

/// Under construction.
#[derive(Debug, Default)]
pub(crate) struct CloudFormation {}
