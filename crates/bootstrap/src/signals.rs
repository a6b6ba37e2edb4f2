//! The signals that ask a process to end: the first one gracefully, the second one at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::FORCED;

/// Hears SIGTERM and SIGINT.
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Starts to hear them; from here on they no longer end the process by themselves.
    pub(crate) fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) {
        // Neither arm loses a signal by being dropped: tokio keeps that one came.
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Cancels `stop` at the first signal, or when `broken` is cancelled, and ends the process at the next signal.
    pub(crate) async fn obey(mut self, stop: CancellationToken, broken: CancellationToken) {
        // The first cause wins and the other one does not matter any more.
        tokio::select! {
            () = self.next() => tracing::info!("asked to stop"),
            () = broken.cancelled() => {}
        }
        stop.cancel();
        self.next().await;
        tracing::warn!("asked to stop again, ending at once");
        std::process::exit(FORCED);
    }
}
