//! The commands on AWS, against the simulator: its API answers as AWS does, its tasks are real processes of the real image, and
//! what is asked goes through its load balancers.
#![expect(clippy::unwrap_used, reason = "a test that can't set up has failed")]

#[path = "../sealed/mod.rs"]
mod sealed;

#[path = "../sealed/registry.rs"]
mod registry;

mod codedeploy;
mod commands;
mod data;
mod ecs;
mod examples;
mod faults;
mod load;
mod rehearse;
mod secrets;
mod support;
