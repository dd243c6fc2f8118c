//! Calls to a provider that may fail for a while: each is repeated as long as that helps, and one that changes something only
//! within the time that the lease gives it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use dbird_core::{Cloud, ProviderError, provider::ErrorKind};

use crate::{Clock, Error, TAKEOVER_MS, lease::Lease};

/// A cloud that can't be reached for this long is given up; the journal is left open for the next command.
pub(crate) const UNREACHABLE_MS: u64 = 120_000;
/// A question that takes longer than this is asked again.
const QUESTION_MS: u64 = TAKEOVER_MS / 2;
/// Between tries, doubled each time up to the second.
const BACK_OFF_MS: (u64, u64) = (20, 1_000);

/// What became of a call.
pub(crate) type Answer<T> = Result<T, ProviderError>;

/// Whoever calls, with the lease where there is one.
pub(crate) struct Caller<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) cloud: Cloud,
    pub(crate) lease: Option<&'a mut Lease>,
}

impl Caller<'_> {
    /// A call that changes something. An error that repeating does not help is an answer; a cloud that can't be reached any
    /// more is [`ProviderError`] with `retry` in the answer, too, after [`UNREACHABLE_MS`].
    pub(crate) async fn change<T, F: Future<Output = Answer<T>>>(
        &mut self,
        operation: &str,
        call: impl Fn() -> F,
    ) -> Result<Answer<T>, Error> {
        self.repeat(operation, true, call).await
    }

    /// A call that changes nothing.
    pub(crate) async fn ask<T, F: Future<Output = Answer<T>>>(
        &mut self,
        operation: &str,
        call: impl Fn() -> F,
    ) -> Result<Answer<T>, Error> {
        self.repeat(operation, false, call).await
    }

    async fn repeat<T, F: Future<Output = Answer<T>>>(
        &mut self,
        operation: &str,
        changes: bool,
        call: impl Fn() -> F,
    ) -> Result<Answer<T>, Error> {
        let start_ms = self.clock.boot_ms();
        let mut pause_ms = BACK_OFF_MS.0;
        loop {
            let mut until_ms = self.clock.boot_ms() + QUESTION_MS;
            if let Some(lease) = &mut self.lease {
                lease.renew().await?;
                if changes {
                    until_ms = lease.call_until_boot_ms();
                }
            }
            let error = match within(self.clock, until_ms, call()).await {
                Some(Ok(value)) => return Ok(Ok(value)),
                Some(Err(e)) if !e.retry => return Ok(Err(e)),
                Some(Err(e)) => e,
                None => no_answer(self.cloud, operation),
            };
            if self.clock.boot_ms().saturating_sub(start_ms) >= UNREACHABLE_MS {
                return Ok(Err(error));
            }
            tracing::debug!(operation, %error, "asking again");
            self.clock.sleep(pause_ms).await;
            pause_ms = (pause_ms * 2).min(BACK_OFF_MS.1);
        }
    }
}

/// The call's value, unless that time comes first, also when the machine slept through it.
pub(crate) async fn within<T>(clock: &dyn Clock, until_boot_ms: u64, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut timer = pin!(clock.sleep(until_boot_ms.saturating_sub(clock.boot_ms())));
    poll_fn(|context| {
        if clock.boot_ms() >= until_boot_ms {
            return Poll::Ready(None);
        }
        if let Poll::Ready(value) = call.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}

fn no_answer(cloud: Cloud, operation: &str) -> ProviderError {
    ProviderError {
        kind: ErrorKind::Unavailable,
        retry: true,
        cloud,
        operation: operation.to_owned(),
        object: String::new(),
        causes: vec!["no answer in time".to_owned()],
        hint: None,
    }
}
