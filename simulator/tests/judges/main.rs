//! Judges from outside, which know AWS and nothing of us: botocore's models, boto3 and awscli, ministack, moto, microburst.
//! Each test says in its reason what it needs; a Python script beside it asks or judges, and says what it found.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stdout, reason = "what a judge left out is to be seen")]

mod account;
mod life;
mod models;
mod moto;
mod policy;
mod programs;
mod read_back;
mod unreliable;
