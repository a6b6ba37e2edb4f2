//! The dispatcher's own pulse: says each second that it is there, and learns from the answer whether its view has a
//! gap.
//!
//! It does nothing else, so that whatever is slow elsewhere neither silences it nor looks like a gap.

use std::{sync::Arc, time::Duration};

use core_config::load::Loaded;
use core_types::task::ExecutionEnvironment;
use store::{dispatchers::DispatcherBeat, error::StoreError, pool::Store};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    claim::{Claims, claims_under},
    complaints::Complaints,
    sandboxed::{outfit::NotReady, readiness::Readiness},
    view::{Look, View},
};

/// Time between two beats.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How long claims are paused, or open again, before people are told (U4): what passes at once is no news.
const TOLD_AFTER: Duration = Duration::from_secs(60);

/// The beat of one dispatcher, and the view that follows from it.
#[derive(Debug)]
pub struct Pulse {
    store: Store,
    settings: watch::Receiver<Arc<Loaded>>,
    beat: DispatcherBeat,
    view: watch::Sender<View>,
    /// Why a limit of the day pauses the claims.
    spent: watch::Sender<Option<String>>,
    /// Whether sandboxes can be launched, where this dispatcher knows how.
    sandboxes: Option<Arc<Readiness>>,
}

impl Pulse {
    /// A pulse that has not beaten yet.
    #[must_use]
    pub fn new(store: Store, beat: DispatcherBeat, settings: watch::Receiver<Arc<Loaded>>) -> Self {
        let (view, spent) = (watch::Sender::new(View::default()), watch::Sender::new(None));
        Self { store, settings, beat, view, spent, sandboxes: None }
    }

    /// The same, of a dispatcher that knows how to launch sandboxes.
    #[must_use]
    pub fn with_sandboxes(mut self, readiness: Option<Arc<Readiness>>) -> Self {
        self.sandboxes = readiness;
        self
    }

    /// Beats until it is told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        let mut settings = self.settings.clone();
        let mut complaints = Complaints::default();
        let (mut said, mut news) = (None, News::new());
        while !stop.is_cancelled() {
            settings.mark_unchanged();
            complaints.note("spending", self.look_at_spending().await);
            let paused = self.paused();
            // Progress alone is no news for the log.
            let told = |paused: &Option<Paused>| paused.as_ref().map(Paused::without_progress);
            if told(&paused) != told(&said) {
                log_pause(paused.as_ref());
                said.clone_from(&paused);
            }
            if news.is_due(paused.is_some()) {
                complaints.note("notice", self.tell(paused.as_ref()).await.map(|()| news.told()));
            }
            complaints.note("beat", self.beat().await);
            // Both arms are cancel-safe: they only say that it is time to beat, or that settings changed.
            tokio::select! {
                _ = stop.run_until_cancelled(sleep(BEAT_EVERY)) => {}
                Ok(()) = settings.changed() => {}
            }
        }
    }

    /// Beats once.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer; the view is as it was.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let paused = self.paused().map(|paused| paused.fault.text());
        let beat = DispatcherBeat { paused, ..self.beat.clone() };
        let database = self.store.dispatcher_beat(&beat).await?;
        self.view.send_modify(|view| {
            if view.looked(Look::now(database)) {
                tracing::info!("first look after a gap: silent runs are left alone for one lease");
            }
        });
        Ok(())
    }

    /// What the dispatcher knows about its own view.
    #[must_use]
    pub fn view(&self) -> View {
        *self.view.borrow()
    }

    /// The view after one more beat, or the same as before where that does not come within a second.
    pub async fn view_now(&self) -> View {
        // Whether it works is said by the loop; without it the view vouches for nothing that was seen since.
        drop(timeout(BEAT_EVERY, self.beat()).await);
        self.view()
    }

    /// Waits for the first beat that worked.
    pub async fn first_beat(&self) {
        // The sender is ours, so this can only succeed.
        drop(self.view.subscribe().wait_for(View::has_looked).await);
    }

    /// Reads whether a limit of the day leaves nothing. The claim itself decides anew: this is what is said about it.
    async fn look_at_spending(&self) -> Result<(), StoreError> {
        let spend = self.settings.borrow().settings.spend_limits();
        let spent = if spend.limits_days() {
            self.store.day_spend().await?.exhausted(&spend).map(|spent| spent.message)
        } else {
            None
        };
        self.spent.send_replace(spent);
        Ok(())
    }

    /// Tells people that nothing is claimed, or again; whoever was told of neither is not told.
    async fn tell(&self, paused: Option<&Paused>) -> Result<(), StoreError> {
        let subject = format!("dispatcher on {}", self.beat.host.as_str());
        let reason = paused.map(|paused| paused.fault.text());
        self.store.note_claims(&subject, reason.as_deref()).await
    }

    /// Why no sandbox can be launched.
    fn unready(&self) -> Option<NotReady> {
        match &self.sandboxes {
            Some(readiness) => readiness.unready(),
            None => Some(NotReady::new("this dispatcher cannot launch sandboxes")),
        }
    }

    fn paused(&self) -> Option<Paused> {
        match claims_under(&self.settings.borrow()) {
            Claims::Open { environment: ExecutionEnvironment::Sandbox, .. }
                if self.unready().is_some() =>
            {
                self.unready().map(|fault| Paused { fault, ends_by_itself: true })
            }
            Claims::Open { .. } => {
                let spent = self.spent.borrow().clone();
                spent.map(|spent| Paused { fault: NotReady::new(spent), ends_by_itself: true })
            }
            Claims::Paused { reason } => {
                Some(Paused { fault: NotReady::new(reason), ends_by_itself: false })
            }
        }
    }
}

/// What there is to tell people about claims.
#[derive(Debug)]
struct News {
    paused: bool,
    since: Instant,
    told: Option<bool>,
}

impl News {
    /// Nothing is known of what an earlier life of the dispatcher told.
    fn new() -> Self {
        Self { paused: false, since: Instant::now(), told: None }
    }

    /// Whether people are to be told now.
    fn is_due(&mut self, paused: bool) -> bool {
        if paused != self.paused {
            (self.paused, self.since) = (paused, Instant::now());
        }
        self.told != Some(paused) && self.since.elapsed() >= TOLD_AFTER
    }

    const fn told(&mut self) {
        self.told = Some(self.paused);
    }
}

/// Why nothing is claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Paused {
    fault: NotReady,
    ends_by_itself: bool,
}

impl Paused {
    fn without_progress(&self) -> Self {
        let fault = NotReady { progress: None, ..self.fault.clone() };
        Self { fault, ends_by_itself: self.ends_by_itself }
    }
}

fn log_pause(paused: Option<&Paused>) {
    let reason = paused.map(|paused| paused.fault.text());
    match paused {
        Some(Paused { ends_by_itself: true, .. }) => tracing::warn!(reason, "claims paused"),
        Some(Paused { ends_by_itself: false, .. }) => tracing::error!(reason, "claims paused"),
        None => tracing::info!("claims open"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_news_once_it_lasts_and_so_is_its_end() {
        let mut news = News::new();
        let nearly = TOLD_AFTER - Duration::from_secs(1);
        assert!(!news.is_due(false));
        tokio::time::advance(TOLD_AFTER).await;
        assert!(news.is_due(false), "an earlier life may have told of a pause");
        news.told();
        for _ in 0..5 {
            assert!(!news.is_due(true), "it may pass");
            tokio::time::advance(nearly).await;
            assert!(!news.is_due(true) && !news.is_due(false));
        }
        assert!(!news.is_due(true));
        tokio::time::advance(TOLD_AFTER).await;
        assert!(news.is_due(true) && news.is_due(true), "until it is told");
        news.told();
        assert!(!news.is_due(true) && !news.is_due(false));
        tokio::time::advance(nearly).await;
        assert!(
            !news.is_due(false) && !news.is_due(true),
            "a look in between opens claims for a moment"
        );
        assert!(!news.is_due(false));
        tokio::time::advance(TOLD_AFTER).await;
        assert!(news.is_due(false));
    }
}
