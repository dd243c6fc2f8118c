//! Ctrl-C and its relatives: the first asks for a safe stop, the second leaves at once. What a safe stop is, each command
//! decides.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How often the user has asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// Listens from now on. `told` is called for each. Needs a runtime.
    pub(crate) fn listen(told: impl Fn(u32) + Send + 'static) -> io::Result<Self> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // A terminal that is gone. Whoever asked to be left alone by that, as `nohup` does, is.
        let mut hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        let (sender, receiver) = watch::channel(0u32);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = async { match &mut hangup { Some(hangup) => hangup.recv().await, None => std::future::pending().await } } => {}
                }
                sender.send_modify(|n| *n += 1);
                told(*sender.borrow());
            }
        });
        Ok(Interrupts(receiver))
    }

    /// Ends once the user has asked to stop.
    pub(crate) async fn first(&self) {
        self.reached(1).await;
    }

    /// Ends once the user has asked twice.
    pub(crate) async fn second(&self) {
        self.reached(2).await;
    }

    async fn reached(&self, count: u32) {
        // The sender lives as long as the runtime.
        if self.0.clone().wait_for(|n| *n >= count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether this process was started with the signal ignored: bit 0 of `SigIgn`, as proc(5) has it.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim).unwrap_or_default();
    u64::from_str_radix(mask, 16).is_ok_and(|mask| mask & 1 == 1)
}
