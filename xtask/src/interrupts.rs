//! The signals by which somebody asks this command to stop.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Interrupt (Ctrl-C), termination, and the end of the terminal.
#[derive(Debug)]
pub(crate) struct Interrupts {
    signals: [Signal; 3],
}

impl Interrupts {
    /// Listens from now on; none of these signals ends the process by itself any more.
    pub(crate) fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("listen to signals");
        let signals = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ];
        Ok(Self { signals })
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    /// Cancel safe: a signal that nobody waits for is kept for the next call.
    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
