//! One ear for all streams of events of this process.
//!
//! A wake-up says "look now" and nothing else; each stream reads its own run from the database, in order, from where it
//! is. So what is lost, doubled or late on the way here costs a look or a second, and never an event: a stream that hears
//! nothing looks once a second anyway.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use agent_queue::{
    queue::Queue,
    subscription::{Heard, Topic},
};
use core_types::ids::RunId;
use store::{
    pool::Store,
    wake::{Channel, Wake},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a stream waits for a wake-up before it looks anyway.
const POLL: Duration = Duration::from_secs(1);

/// Tells streams that there may be new events.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventHub {
    /// For the streams of all runs.
    all: Arc<watch::Sender<()>>,
    /// For the streams of one run: up to which number there are events.
    runs: Arc<Mutex<HashMap<RunId, Weak<watch::Sender<i64>>>>>,
    /// For pages: anything at all happened.
    anything: Arc<watch::Sender<()>>,
}

impl EventHub {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Hears wake-ups and passes them on, until the token says stop.
    pub(crate) async fn listen(self, store: Store, queue: Option<Queue>, stop: CancellationToken) {
        let listening = async {
            tokio::join!(self.listen_to_store(store), self.listen_to_queue(queue));
        };
        // A wake-up that is lost by dropping the wait is not missed: everything ends then.
        stop.run_until_cancelled(listening).await;
    }

    async fn listen_to_store(&self, store: Store) {
        let mut wakes = store.wakes(Channel::ALL);
        loop {
            match wakes.next().await {
                Wake::Reconnected | Wake::Notified(Channel::Events) => {
                    self.all.send_replace(());
                }
                Wake::Notified(
                    Channel::Tasks | Channel::Agents | Channel::Config | Channel::Processes,
                ) => {}
            }
            self.anything.send_replace(());
        }
    }

    async fn listen_to_queue(&self, queue: Option<Queue>) {
        let Some(queue) = queue else { return };
        let mut heard = queue.subscribe(&[Topic::Events]);
        loop {
            match heard.next().await {
                Heard::Events { run, seq } => self.tell(run, seq),
                Heard::Anything | Heard::Woken(_) => {
                    self.all.send_replace(());
                }
            }
            self.anything.send_replace(());
        }
    }

    /// Hears of everything that happens.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.anything.subscribe()
    }

    /// Wakes the streams of a run that are not as far yet.
    fn tell(&self, run: RunId, seq: i64) {
        let known = self.runs().get(&run).and_then(Weak::upgrade);
        if let Some(known) = known {
            known.send_if_modified(|last| {
                let is_news = seq > *last;
                *last = seq.max(*last);
                is_news
            });
        }
    }

    pub(crate) fn ear(&self, run: RunId) -> Ear {
        let mut runs = self.runs();
        runs.retain(|_, known| known.strong_count() > 0);
        let known = runs.get(&run).and_then(Weak::upgrade).unwrap_or_else(|| {
            let known = Arc::new(watch::Sender::new(0));
            runs.insert(run, Arc::downgrade(&known));
            known
        });
        Ear { all: self.all.subscribe(), own: known.subscribe(), _known: known }
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Weak<watch::Sender<i64>>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's side of the hub.
#[derive(Debug)]
pub(crate) struct Ear {
    all: watch::Receiver<()>,
    own: watch::Receiver<i64>,
    _known: Arc<watch::Sender<i64>>,
}

impl Ear {
    /// Forgets the wake-ups so far; call it before looking, so that none after the look is missed.
    pub(crate) fn clear(&mut self) {
        self.all.mark_unchanged();
        self.own.mark_unchanged();
    }

    /// Waits for a wake-up since the last [`Self::clear`], one second at most.
    pub(crate) async fn wait(&mut self) {
        // Every arm only waits for a state. One whose sender is gone is left out, and the pause stays.
        tokio::select! {
            Ok(()) = self.all.changed() => {}
            Ok(()) = self.own.changed() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn news_of_a_run_wake_its_own_streams_once() {
        let hub = EventHub::new();
        let run = RunId::generate();
        let (mut one, mut other) = (hub.ear(run), hub.ear(RunId::generate()));
        hub.tell(run, 5);
        let begun = Instant::now();
        one.wait().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        other.wait().await;
        assert_eq!(begun.elapsed(), POLL, "it was woken for another run");
        one.clear();
        for seq in [5, 3] {
            hub.tell(run, seq);
        }
        let begun = Instant::now();
        one.wait().await;
        assert_eq!(begun.elapsed(), POLL, "it was woken by what is no news");
        hub.tell(run, 6);
        one.wait().await;
        assert_eq!(begun.elapsed(), POLL);
    }

    #[tokio::test]
    async fn runs_that_nobody_follows_are_forgotten() {
        let hub = EventHub::new();
        let run = RunId::generate();
        drop(hub.ear(run));
        hub.tell(run, 1);
        let _ear = hub.ear(RunId::generate());
        assert_eq!(hub.runs().len(), 1);
    }
}
