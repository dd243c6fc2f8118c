//! An HTTP/1.1 reverse proxy whose routing changes while traffic flows.
//!
//! It decides which release and which backend answers a request, and what a client is told when none can. It never
//! starts, stops or probes a backend, and it knows releases only as opaque names.
//!
//! A [`Door`] is one listening address with its own threads; a [`Route`] is what it asks for every request. Moving
//! traffic without failing a request is an order of calls:
//!
//! 1. [`Route::set`] with the new shares. When it returns, no request chooses the old ones any more.
//! 2. [`Route::drained`] of the old release: nothing that was sent on to it is still under way.
//! 3. [`Route::forget`] of the old release: no idle connection to it is left.
//! 4. Now the old backends may be stopped.
//!
//! Where two releases must not run at once, [`Route::hold`] takes the place of the first step: requests wait at the
//! door until [`Route::resume`].
//!
//! What it promises about a request:
//!
//! - It is sent on once. It is sent a second time only if it never reached a backend (refused connection, a pooled
//!   connection found closed), or if it is a GET, HEAD or OPTIONS without a body whose connection closed before the
//!   first byte of an answer. Anything else that breaks is a 502.
//! - Bodies stream in both directions through buffers of [`Limits::buffer_bytes_max`]; nothing is stored.
//! - Every error the proxy makes itself is JSON, `{"error": "...", "request_id": "..."}`, the second only if the client
//!   sent an `x-request-id`; a 503 has `Retry-After: 1`.
//! - `X-Forwarded-For` is appended to, `X-Forwarded-Proto` and `X-Forwarded-Host` are set, `Host` is kept.

mod answer;
mod body;
mod clock;
mod connection;
mod counts;
mod door;
mod exchange;
mod failing;
mod headers;
mod hold;
mod limits;
mod link;
mod pool;
mod release;
mod route;
mod table;
mod tunnel;
mod upstream;
mod visit;
mod worker;

pub use counts::{Counts, LATENCY_BUCKETS_S, Latency};
pub use door::Door;
pub use failing::{Failing, Failures, OTHERS};
pub use limits::{HoldLimits, Limits};
pub use route::Route;
pub use table::Share;
