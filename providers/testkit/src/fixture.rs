//! What a provider's tests bring so that the laws can be tried on it: documents for services that behave in known ways. It
//! judges nothing.

use async_trait::async_trait;
use dbird_core::{Provider, ReleaseId, Target, Work};

/// How a release behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Becomes ready.
    First,
    /// Becomes ready, and differs from the first in its environment.
    Second,
    /// Writes [`Fixture::last_words`] to its log and dies before it is ready, each time it is started.
    Dies,
}

/// A provider with nothing in it yet, and services for it.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The provider.
    fn provider(&self) -> &dyn Provider;

    /// The target that the laws work on.
    fn target(&self) -> Target;

    /// Another target of the same provider.
    fn other_target(&self) -> Target;

    /// The steps that make a release, in order; the service's is the last.
    fn works(&self, target: &Target, release: ReleaseId, kind: Kind) -> Vec<Work>;

    /// The same steps, with a service of so many copies.
    fn with_copies(&self, works: Vec<Work>, copies: u32) -> Vec<Work>;

    /// The same steps, where the cloud moves traffic by itself: it waits to be let on before any traffic and, if that is
    /// wanted, at each share on its way, of which there is at least one.
    fn waiting(&self, works: Vec<Work>, on_the_way: bool) -> Vec<Work> {
        let _ = on_the_way;
        works
    }

    /// Whether it can wait at a share on its way; one that can't is met there while it moves.
    fn waits_on_the_way(&self) -> bool {
        true
    }

    /// Has requests sent to the service, about as many; how many were answered in all. None where that can't be done.
    async fn ask(&self, target: &Target, count: u64) -> Option<u64>;

    /// The steps that take everything away but the data, in order.
    fn removal(&self, target: &Target, release: ReleaseId) -> Vec<Work>;

    /// A line that a release of [`Kind::Dies`] writes before it dies.
    fn last_words(&self) -> &str;

    /// A command that ends with this exit code.
    fn exits_with(&self, code: u8) -> Vec<String>;

    /// A command that writes the lines `line 1` to `line <count>` and ends well.
    fn writes_lines(&self, count: u32) -> Vec<String>;

    /// A command that does not end for minutes, and that ends when it is asked to stop.
    fn takes_long(&self) -> Vec<String>;

    /// How long a step may take here before a law calls it stuck.
    fn patience_ms(&self) -> u64 {
        20_000
    }
}
