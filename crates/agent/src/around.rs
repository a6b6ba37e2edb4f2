//! What surrounds every step of a run: what starts processes, and what says when to stop.

use std::time::Duration;

use core_types::event::RunEvent;
use launcher::{
    descendants::{self, Ended},
    launcher::Launcher,
};
use tokio_util::sync::CancellationToken;

use crate::{
    heartbeat::{Authority, Heartbeat},
    recorder::Recorder,
};

/// How long a process that outlived its launch may take to die.
const DIE_WITHIN: Duration = Duration::from_secs(30);

/// What surrounds a step of a run.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// Starts processes.
    pub launcher: &'a dyn Launcher,
    /// Says whether the run may go on, and keeps its launch alive.
    pub heartbeat: &'a Heartbeat,
    /// Takes the events.
    pub recorder: &'a Recorder,
    /// Ends the run when its worker stops.
    pub stop: &'a CancellationToken,
    /// Whether all that this process has started is the run's, and hostile; this process adopts orphans then.
    pub alone: bool,
}

impl Around<'_> {
    /// Asks the database whether the run may go on; [`Authority::Held`] with a cancelled `stop` means that the worker
    /// itself stops.
    pub async fn confirm(&self) -> Authority {
        // Nothing is lost by dropping a renewal that is under way: the heartbeat renews by itself.
        tokio::select! {
            authority = self.heartbeat.confirm() => authority,
            authority = self.told_to_stop() => authority,
        }
    }

    /// Ends what outlived a launch that is over, by whatever means it got away, and tells how many could not be ended.
    /// Where this process is not alone with the run that is left to the launch.
    pub async fn end_rest(&self, of: &str) -> usize {
        if !self.alone {
            return 0;
        }
        let Ended { killed, left } = descendants::end_all(DIE_WITHIN).await;
        if killed > 0 {
            let text = format!("{killed} processes that outlived {of} were ended");
            self.recorder.record(RunEvent::Notice { text }).await;
        }
        left
    }

    /// Returns when the run must stop, with why; [`Authority::Held`] means that the worker itself stops.
    ///
    /// # Cancel safety
    /// Cancel-safe: what it waits for are states, not events.
    pub async fn told_to_stop(&self) -> Authority {
        let mut authority = self.heartbeat.authority();
        let left_held = authority.wait_for(|now| *now != Authority::Held);
        // Both arms only wait for a state. The heartbeat outlives the run, so its end is no answer.
        tokio::select! {
            Ok(now) = left_held => *now,
            () = self.stop.cancelled() => Authority::Held,
        }
    }
}
