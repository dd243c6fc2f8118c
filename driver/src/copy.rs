//! The copy of the data before a release: the service's own command, run as a one-off task of the release that serves. A
//! release begins only with its copy; nothing here ever brings one back.

use dbird_core::{Command, ReleaseId, journal::What, snapshot};

use crate::{
    Error, Event, Interrupt, history,
    hooks::{TaskOutcome, run_task},
    run::Run,
};

/// A copy that takes longer has failed.
const COPY_LIMIT_MS: u64 = 1_800_000;
/// Records that are looked through for the places of earlier copies; the retention is at most 1,000.
const RECORDS_MAX: usize = 2_000;

impl Run<'_> {
    /// Takes the copy that was ordered; why it failed.
    pub(crate) async fn copy_data(&mut self, serving: ReleaseId) -> Result<Option<String>, Error> {
        let Some(order) = self.begun.plan.course.as_ref().and_then(|c| c.copy.clone()) else { return Ok(None) };
        let clock = self.operator.clock.clone();
        let history = history::last(&*self.operator.store, RECORDS_MAX).await?;
        let place = snapshot::next_place(&order.mount, order.kept, &history);
        let argv = order.command.iter().map(|argument| argument.replace("{file}", &place)).collect();
        self.journal.write(What::Copying { place: place.clone() }).await?;
        self.copying = Some(place.clone());
        let start_ms = clock.boot_ms();
        let key = format!("{}-copy", self.begun.release);
        let command = Command { release: serving, argv, timeout_ms: Some(COPY_LIMIT_MS), key };
        let why = match run_task(self.operator, Some(&mut self.lease), &command, &Interrupt::new()).await? {
            TaskOutcome::Exited(0) => {
                let taken = snapshot::Snapshot {
                    place: place.clone(),
                    taken_by: serving,
                    before: self.begun.release,
                    at_unix_ms: clock.unix_ms(),
                };
                self.journal.write(What::Copied { snapshot: taken.clone() }).await?;
                self.copying = None;
                self.snapshot = Some(taken);
                let took_ms = clock.boot_ms().saturating_sub(start_ms);
                self.operator.report(&Event::Copied { place, took_ms });
                return Ok(None);
            }
            TaskOutcome::Exited(code) => format!("its command ended with exit code {code}"),
            TaskOutcome::Failed(why, _) => why,
            TaskOutcome::Interrupted => {
                self.interrupt_told = true;
                return Ok(Some("interrupted".to_owned()));
            }
        };
        Ok(Some(format!("no copy of the data could be taken before it: {why}")))
    }
}
