//! Images between an OCI layout on this machine and a registry: pushed, pulled and tagged, only what is missing, always by
//! digest. It never chooses an image, never lists one in a layout's index and never keeps or prints credentials.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that can't go on has failed"))]

mod client;
mod credentials;
mod error;
mod layout;
mod place;
mod pull;
mod push;

pub use credentials::{Credentials, Password};
pub use error::RegistryError;
pub use place::{Name, Place, is_loopback};
pub use pull::pull;
pub use push::{Pushed, Source, push, tag};
