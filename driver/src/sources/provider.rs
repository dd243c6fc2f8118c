//! Asks the cloud itself. It asks for the time since the last answer, so a question that failed loses nothing.

use std::{sync::Arc, time::Duration};

use dbird_core::{Provider, ReleaseId, Samples, Target, Window};

use super::{SourceError, TaskAddress};

/// A cloud that takes longer to answer has not answered.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// The cloud, and since when it was not asked.
pub(super) struct Asked {
    provider: Arc<dyn Provider>,
    target: Target,
    /// Windows that ended without an answer.
    unread_ms: u64,
}

impl Asked {
    pub(super) fn new(provider: Arc<dyn Provider>, target: Target) -> Self {
        Asked { provider, target, unread_ms: 0 }
    }

    /// A cloud that marks the instant of a question gives a window that begins exactly there.
    pub(super) async fn begin(&mut self, tasks: &[TaskAddress]) {
        self.unread_ms = 0;
        let mut releases: Vec<_> = tasks.iter().map(|t| t.release).collect();
        releases.sort_unstable();
        releases.dedup();
        let mark = self.provider.sample(&self.target, &releases, Window { length_ms: 0 });
        // Without the mark the first window is a little less exact; there is nothing to refuse for that.
        drop(tokio::time::timeout(ANSWER_MAX, mark).await);
    }

    pub(super) async fn take(&mut self, releases: &[ReleaseId], window_ms: u64) -> Result<Vec<Samples>, SourceError> {
        let length_ms = self.unread_ms.saturating_add(window_ms);
        self.unread_ms = length_ms;
        let question = self.provider.sample(&self.target, releases, Window { length_ms });
        let mut samples = match tokio::time::timeout(ANSWER_MAX, question).await {
            Ok(answer) => answer.map_err(|e| SourceError::from_provider(&e))?,
            Err(_) => {
                return Err(SourceError {
                    what: "the traffic's numbers can't be had".to_owned(),
                    place: self.provider.capabilities().cloud.to_string(),
                    why: format!("no answer within {} s", ANSWER_MAX.as_secs()),
                    hint: None,
                    retry: true,
                });
            }
        };
        self.unread_ms = 0;
        let of = |release: &ReleaseId| {
            let at = samples.iter().position(|s| s.release == *release);
            let mut one = at.map_or_else(|| Samples::none(*release), |at| samples.swap_remove(at));
            if one.window_ms == 0 {
                one.window_ms = length_ms;
            }
            one
        };
        Ok(releases.iter().map(of).collect())
    }
}
