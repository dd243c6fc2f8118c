//! Commands that work on the data while nothing else may change the environment: the lease is held from the first to the last.
//! What the commands do to the data is the service's own business; nothing here reads or writes it.

use dbird_core::Command;

use crate::{
    Error, Interrupt, Operator, TaskEnd,
    hooks::{TaskOutcome, run_task},
    lease::Lease,
};

/// An environment that nobody else can change. [`Exclusive::end`] lets go of it; so does the end of the process.
#[must_use = "the lease is held until `end`"]
pub struct Exclusive<'a> {
    operator: &'a Operator,
    lease: Lease,
}

impl Operator {
    /// Takes the environment for itself. Refused while another command is at work, or while a plan is unfinished: call
    /// [`Operator::recover`] before.
    pub async fn exclusively(&self) -> Result<Exclusive<'_>, Error> {
        let mut lease = self.take_lease().await?;
        let ready = async {
            let (_, found) = self.open_journal(&lease).await?;
            if let Some(found) = found {
                let release = found.begun.release;
                return Err(match found.parked_at() {
                    Some(weight) => Error::AtGate { release, weight },
                    None => Error::Moved { what: format!("{release} was begun since, and was left unfinished") },
                });
            }
            if lease.overtaken {
                lease.let_the_other_end().await?;
            }
            Ok(())
        };
        match ready.await {
            Ok(()) => Ok(Exclusive { operator: self, lease }),
            Err(e) => Err(self.give_back(lease, e).await),
        }
    }
}

impl Exclusive<'_> {
    /// Runs a one-off task to its end; its lines are told as events.
    pub async fn run(&mut self, command: &Command) -> Result<TaskEnd, Error> {
        // Whoever was overtaken meanwhile runs nothing more.
        self.lease.renew().await?;
        match run_task(self.operator, Some(&mut self.lease), command, &Interrupt::new()).await? {
            TaskOutcome::Exited(exit_code) => Ok(TaskEnd { exit_code }),
            TaskOutcome::Interrupted => Err(Error::Interrupted),
            TaskOutcome::Failed(why, None) => Err(Error::Task(why)),
            TaskOutcome::Failed(_, Some(e)) => Err(e.into()),
        }
    }

    /// Gives it back.
    pub async fn end(self) -> Result<(), Error> {
        self.lease.give_back().await
    }
}
