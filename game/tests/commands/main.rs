//! The commands beside serving, on the real program: what they keep, what they refuse and say, and what they leave behind.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod backup;
mod bench;
#[path = "../common/mod.rs"]
mod common;
mod downgrade;
mod gc;
mod restore;
mod s3;
