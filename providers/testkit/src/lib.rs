//! Laws that every provider obeys, and what they are tried on: an in-memory provider, deliberately broken ones that each law
//! must catch, and a wrapper that injects faults by seed. For tests only.

pub mod broken;
pub mod faulty;
pub mod fixture;
pub mod laws;
pub mod memory;

pub use fixture::{Fixture, Kind};
pub use laws::{Broken, Law, all};
