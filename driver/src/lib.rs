//! Carries out what `dbird-core` decides: takes the lease, writes intents and outcomes to the journal, calls the provider
//! and keeps the record of every release. It knows providers only through their trait, and decides nothing itself.

mod call;
mod clock;
mod error;
mod event;
mod follow;
mod history;
mod hooks;
mod interrupt;
mod journal;
mod lease;
mod machine;
mod objects;
mod operator;
mod recover;
mod run;
mod store;

pub use clock::{Clock, SystemClock};
pub use dbird_core::history::{NoTarget, rollback_target};
pub use error::Error;
pub use event::{EVENT_FORMAT, Event, Reporter, Silent};
pub use interrupt::Interrupt;
pub use lease::{Held, Holder, TAKEOVER_MS};
pub use machine::Machine;
pub use objects::{Objects, open_store};
pub use operator::{Ended, Operator, Order, Recovered, TaskEnd, Unfinished, Who};
pub use store::{Series, Store, StoreError};
