//! The proxy over real sockets on the loopback interface: every case goes through a door, to a real server or to one
//! that misbehaves on purpose.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

mod failing;
mod failures;
mod hold;
mod hostile;
mod leaving;
mod protocol;
mod refusals;
mod stop;
mod streams;
mod support;
mod switch;
