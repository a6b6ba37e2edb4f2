//! Keeping a server for as long as it is used: its lease renewed, its death answered by a new start.

use std::{convert::Infallible, time::Duration};

use launcher::{
    error::HandleError,
    handle::{Handle, StopRequest},
};
use tokio::time::MissedTickBehavior;

use crate::{
    error::{EmbeddedError, ServerKind},
    server::Running,
};

/// How many times a lease is renewed in its length.
const RENEWALS: u32 = 6;
/// How long a server that is stopped may take; it brings its data to the disk.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// A server that somebody uses.
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    pub(crate) kind: ServerKind,
    pub(crate) running: &'a Running,
    pub(crate) lease: Duration,
}

impl Kept<'_> {
    /// Keeps the server alive, and brings it back when it dies. Returns only when that is not possible any more.
    pub(crate) async fn alive<F>(
        &self,
        bring_back: impl Fn() -> F,
    ) -> Result<Infallible, EmbeddedError>
    where
        F: Future<Output = Result<Running, EmbeddedError>>,
    {
        let server = self.kind.name();
        let mut handle = self.running.handle.clone();
        let mut tick = tokio::time::interval(self.lease / RENEWALS);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let report = tokio::select! {
                // Cancel safe: an interval keeps its place.
                _ = tick.tick() => match handle.renew().await {
                    Ok(()) => continue,
                    Err(HandleError::Ended { .. }) => None,
                    Err(error) => {
                        tracing::debug!(server, error = %error, "cannot renew a private server's lease");
                        continue;
                    }
                },
                // Cancel safe: it only watches.
                report = handle.exited() => Some(report),
            };
            let outcome = report.map(|report| report.outcome);
            tracing::warn!(server, ?outcome, "a private server ended; starting it again");
            handle = self.same_port(bring_back().await?)?;
        }
    }

    fn same_port(&self, again: Running) -> Result<Handle, EmbeddedError> {
        let (from, to) = (self.running.port, again.port);
        if from == to {
            return Ok(again.handle);
        }
        Err(EmbeddedError::Moved { server: self.kind, from, to })
    }

    pub(crate) async fn stop(&self, reason: &str) {
        self.running.handle.stop(StopRequest::new(reason, STOP_GRACE)).await;
    }
}
