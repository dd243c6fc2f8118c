//! Stacks of CloudFormation: how one stands, what a change set would change, and an operation on one from its beginning to
//! its end. What a template should say is not decided here.

mod cause;
pub(crate) mod change_set;
pub(crate) mod events;
mod follow;
pub(crate) mod kept;
mod live;

pub(crate) use change_set::{Wanted, make, what_changes, with_imported};
pub(crate) use follow::{Before, Job, Seen, Stage, poll, protect};
pub(crate) use live::{Stack, stack_of, stack_of_cached, template_of, template_of_cached};
