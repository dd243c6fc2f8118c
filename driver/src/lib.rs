//! Carries out what `dbird-core` decides: takes the lease, writes intents and outcomes to the journal, calls the provider
//! and keeps the record of every release. It knows providers only through their trait, and decides nothing itself.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that can't go on has failed"))]

mod ask;
mod call;
mod clock;
mod copy;
mod data;
mod drive;
mod error;
mod event;
mod follow;
mod history;
mod hooks;
mod interrupt;
mod journal;
mod lease;
mod look;
mod machine;
mod objects;
mod operator;
mod recover;
mod requests;
mod run;
pub mod sources;
mod store;
mod tls;
mod webhook;

pub use ask::Asked;
pub use clock::{Clock, SystemClock};
pub use data::Exclusive;
pub use dbird_core::history::{NoTarget, rollback_target};
pub use error::Error;
pub use event::{EVENT_FORMAT, Event, Reporter, SideView, Silent};
pub use interrupt::Interrupt;
pub use lease::{Held, Holder, TAKEOVER_MS};
pub use machine::Machine;
pub use objects::{Keys, Objects, Signer, open_store, open_store_with};
pub use operator::{Ended, Operator, Order, Recovered, TaskEnd, Unfinished, Who};
pub use store::{Series, Store, StoreError};
