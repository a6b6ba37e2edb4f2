//! One listener for all streams of events of this process.
//!
//! A wake-up says "look now" and nothing else; each stream looks at its own run. A stream that hears nothing looks once
//! a second anyway, so that a lost wake-up costs a second and not an event.

use std::time::Duration;

use store::{pool::Store, wake::Channel};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a stream waits for a wake-up before it looks anyway.
const POLL: Duration = Duration::from_secs(1);

/// Tells streams that there may be new events.
#[derive(Debug, Clone)]
pub(crate) struct EventHub(watch::Sender<()>);

impl EventHub {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    /// Hears wake-ups and passes them on, until the token says stop.
    pub(crate) async fn listen(self, store: Store, stop: CancellationToken) {
        let mut wakes = store.wakes(&[Channel::Events]);
        // A wake-up that is lost by dropping the wait is not missed: everything ends then.
        while stop.run_until_cancelled(wakes.next()).await.is_some() {
            self.0.send_replace(());
        }
    }

    pub(crate) fn ear(&self) -> Ear {
        Ear(self.0.subscribe())
    }
}

/// One stream's side of the hub.
#[derive(Debug)]
pub(crate) struct Ear(watch::Receiver<()>);

impl Ear {
    /// Forgets the wake-ups so far; call it before looking, so that none after the look is missed.
    pub(crate) fn clear(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits for a wake-up since the last [`Self::clear`], one second at most.
    pub(crate) async fn wait(&mut self) {
        let heard = tokio::time::timeout(POLL, self.0.changed()).await;
        if matches!(heard, Ok(Err(_))) {
            // The hub is gone: nobody wakes any more, so the pause must not become a busy loop.
            tokio::time::sleep(POLL).await;
        }
    }
}
