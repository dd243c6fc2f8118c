//! AWS as a cloud: one CloudFormation stack for each environment, images in ECR, releases on ECS Fargate moved by CodeDeploy
//! or by ECS itself.
//!
//! [`AwsProvider`] only calls AWS and says what it answered: what is to be made is in the documents, and what happens next
//! is the driver's to decide. No type of an SDK leaves this crate.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that can't go on has failed"))]

mod apply;
pub mod bootstrap;
mod client;
mod clock;
pub mod config;
mod destroy;
pub mod doctor;
pub mod drift;
mod error;
mod exec;
mod image;
mod logs;
mod observe;
pub mod permissions;
mod poll;
mod preview;
mod provider;
pub mod remembered;
mod rollout;
mod run;
mod sample;
mod service;
mod shapes;
mod stack;
mod token;

pub use client::Counted;
pub use config::{Config, Credentials, Endpoint};
pub use exec::Session;
pub use provider::AwsProvider;
