//! Makes a [`Plan`](crate::Plan) from the documents that are wanted and what is live, and tells whether a saved plan still stands. It
//! never looks anything up: whatever it compares was handed to it.

mod diff;
mod make;
mod risks;
mod saved;

pub use diff::diff;
pub use make::{Input, PlanError, plan};
pub use saved::{Moved, PlanFileError, check_saved};
