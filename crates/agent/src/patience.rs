//! How long a write waits for a database that does not answer: for ever while the worker lives, and a short while once
//! it was told to stop.

use std::time::Duration;

use store::error::StoreError;
use telemetry::chain::error_chain;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long a worker that was told to stop still waits for the database, counted from its first write after that.
const WITHIN: Duration = Duration::from_secs(5);

/// The patience of one write.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    stop: &'a CancellationToken,
    /// When it ends, known once the worker was told to stop.
    until: Option<Instant>,
    noted: bool,
}

impl<'a> Patience<'a> {
    pub(crate) const fn new(stop: &'a CancellationToken) -> Self {
        Self { stop, until: None, noted: false }
    }

    /// Waits for a call; `None` when patience ended first. There is always one real try.
    pub(crate) async fn wait_for<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        // A call that is dropped was given up: its connection is closed with it.
        tokio::select! {
            biased;
            answer = call => Some(answer),
            () = self.over() => None,
        }
    }

    /// Waits before another try; false when there shall be none.
    pub(crate) async fn pause(&mut self, pause: Duration) -> bool {
        if self.stop.is_cancelled() {
            let until = *self.until.get_or_insert_with(|| Instant::now() + WITHIN);
            if Instant::now() >= until {
                return false;
            }
        }
        sleep(pause).await;
        true
    }

    /// Logs the first failure of many.
    pub(crate) fn note(&mut self, what: &'static str, error: &StoreError) {
        if !self.noted {
            self.noted = true;
            tracing::warn!(error = %error_chain(error), what, "the database fails, trying again");
        }
    }

    async fn over(&self) {
        self.stop.cancelled().await;
        sleep(WITHIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stopped_worker_tries_once_and_gives_up_after_a_while() {
        let stop = CancellationToken::new();
        stop.cancel();
        let mut patience = Patience::new(&stop);
        assert_eq!(patience.wait_for(sleep(Duration::from_secs(1))).await, Some(()));
        assert_eq!(patience.wait_for(std::future::pending::<()>()).await, None);
        let mut tries = 0;
        while patience.pause(Duration::from_secs(1)).await {
            tries += 1;
        }
        assert_eq!(tries, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_lives_waits_for_ever() {
        let stop = CancellationToken::new();
        let mut patience = Patience::new(&stop);
        let long = Duration::from_secs(24 * 3600);
        assert_eq!(patience.wait_for(sleep(long)).await, Some(()));
        assert!(patience.pause(long).await);
    }
}
