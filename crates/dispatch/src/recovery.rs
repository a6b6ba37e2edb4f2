//! Recovery: looks for runs that are nobody's any more and has them taken back, side by side.
//!
//! A look only reads lists and starts work. Each part of it, and each run, fares by itself: one that cannot be dealt
//! with is tried again by the next look and holds up no other.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    error::Error,
    sync::Arc,
    time::Duration,
};

use core_types::ids::RunKey;
use launcher::identity;
use store::{
    agents::{HostId, ProcessIdentity},
    error::StoreError,
    pool::Store,
};
use telemetry::chain::error_chain;
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::Instant,
};

use crate::{
    complaints::Complaints,
    found::{Case, Found, Rules},
    take_back::{Kept, TakeBack, Taken},
    view::View,
};

/// How long an agent may take to accept a run before it is taken back.
pub const ACCEPT_WITHIN: Duration = Duration::from_secs(10);
/// Most runs that one list of a look names.
const BATCH: i64 = 500;
/// Most runs taken back at once.
const AT_ONCE: usize = 8;
/// A run that takes longer than this does not count for [`AT_ONCE`], so that some that will not die hold up no other.
const SLOW: Duration = Duration::from_secs(5);

/// Takes back runs of this host and, after their lease, of others.
#[derive(Debug)]
pub struct Recovery {
    hands: Arc<TakeBack>,
    accept_within: Duration,
    complaints: Complaints,
    waiting: VecDeque<Case>,
    work: JoinSet<Result<Taken, Kept>>,
    under_way: HashMap<Id, (RunKey, Instant)>,
    kept: HashMap<RunKey, Trouble>,
}

/// A run that could not be taken back.
#[derive(Debug)]
struct Trouble {
    /// What was said about it.
    said: String,
    tried_at: Instant,
}

impl Recovery {
    /// Recovery with these hands. An agent has `accept_within` to accept a run, in general [`ACCEPT_WITHIN`].
    #[must_use]
    pub fn new(hands: TakeBack, accept_within: Duration) -> Self {
        Self {
            hands: Arc::new(hands),
            accept_within,
            complaints: Complaints::default(),
            waiting: VecDeque::new(),
            work: JoinSet::new(),
            under_way: HashMap::new(),
            kept: HashMap::new(),
        }
    }

    /// Reads which runs may be nobody's; signs off agents that are gone, and lets cooled tasks go on.
    pub async fn find(&mut self) -> Found {
        let hands = Arc::clone(&self.hands);
        let (store, host) = (&hands.store, &hands.host);
        let note = &mut self.complaints;
        let mut dead = note.note("runs of this host", store.live_runs_on(host).await);
        if let Some(runs) = &mut dead {
            // What was revoked is found by the list for that.
            runs.retain(|run| !run.revoked && run.process.as_ref().is_some_and(is_gone));
        }
        note.note("agents that are gone", sign_off_the_dead(store, host).await);
        let late = note.note("runs not accepted", store.unaccepted(self.accept_within).await);
        let silent = note.note("leases that are over", store.expired_leases(BATCH).await);
        let revoked = note.note("runs left behind", store.revoked_runs(BATCH).await);
        note.note("tasks that have cooled down", store.release_cooled(BATCH).await);
        let mut found = Found {
            dead: dead.unwrap_or_default(),
            late: late.unwrap_or_default(),
            silent: silent.unwrap_or_default(),
            revoked: revoked.unwrap_or_default(),
            tended: BTreeSet::new(),
            read_at: Instant::now(),
        };
        if found.has_foreign(host) {
            match note.note("dispatchers", store.dispatchers().await) {
                Some(live) => found.tended = live.into_iter().map(|d| d.beat.host).collect(),
                // Who tends the other hosts is not known, so they are left alone in this look.
                None => found.forget_foreign(host),
            }
        }
        found
    }

    /// Starts to take back what was found, as far as there is room; the rest waits for its turn.
    pub fn take_up(&mut self, found: Found, view: &View) {
        let rules = Rules { host: &self.hands.host, accept_within: self.accept_within };
        let mut cases = found.cases(view, rules);
        self.kept.retain(|key, _| cases.iter().any(|case| case.orphan.key == *key));
        cases.retain(|case| !self.is_under_way(case.orphan.key));
        // Those that failed before come last, the one that was tried most recently at the very end.
        cases.sort_by_key(|case| self.kept.get(&case.orphan.key).map(|trouble| trouble.tried_at));
        self.waiting = cases.into();
        self.fill();
    }

    /// Waits until a run that is under way is done with, and starts the next. Waits for ever where there is none.
    ///
    /// # Cancel safety
    /// Cancel safe: whatever is under way goes on.
    pub async fn one_done(&mut self) {
        match self.work.join_next_with_id().await {
            Some(done) => self.settle(done),
            None => std::future::pending().await,
        }
        self.fill();
    }

    /// Waits until nothing is under way and nothing waits.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn all_done(&mut self) {
        while !self.work.is_empty() {
            self.one_done().await;
        }
    }

    /// How many runs are being taken back.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.work.len()
    }

    /// What was said about a run that could not be taken back, while that is so.
    #[must_use]
    pub fn trouble_with(&self, key: RunKey) -> Option<&str> {
        self.kept.get(&key).map(|trouble| trouble.said.as_str())
    }

    fn is_under_way(&self, key: RunKey) -> bool {
        self.under_way.values().any(|(run, _)| *run == key)
    }

    fn fill(&mut self) {
        let quick = self.under_way.values().filter(|(_, since)| since.elapsed() < SLOW).count();
        for _ in quick..AT_ONCE {
            let Some(case) = self.waiting.pop_front() else {
                return;
            };
            let (hands, key) = (Arc::clone(&self.hands), case.orphan.key);
            let started = self.work.spawn(async move { hands.run(&case).await });
            self.under_way.insert(started.id(), (key, Instant::now()));
        }
    }

    fn settle(&mut self, done: Result<(Id, Result<Taken, Kept>), JoinError>) {
        let (id, kept) = match done {
            Ok((id, result)) => (id, result.err().map(|kept| (kept.is_transient(), text(&kept)))),
            Err(error) => (error.id(), Some((false, text(&error)))),
        };
        let Some((key, _)) = self.under_way.remove(&id) else {
            return;
        };
        let Some((is_transient, said)) = kept else {
            self.kept.remove(&key);
            return;
        };
        let trouble = Trouble { said: said.clone(), tried_at: Instant::now() };
        let before = self.kept.insert(key, trouble);
        if before.is_some_and(|before| before.said == said) {
            return;
        }
        if is_transient {
            tracing::warn!(run.id = %key.run, error = said, "run not taken back yet");
        } else {
            tracing::error!(run.id = %key.run, error = said, "run cannot be taken back");
        }
    }
}

fn text(error: &dyn Error) -> String {
    error_chain(error).to_string()
}

/// Signs off the agents of a host whose process is gone.
async fn sign_off_the_dead(store: &Store, host: &HostId) -> Result<(), StoreError> {
    for agent in store.live_agents_on(host).await? {
        if is_gone(&agent.process) && store.retire_agent(agent.id).await? {
            tracing::warn!(agent.id = %agent.id, agent.name = agent.name, "agent process is gone");
        }
    }
    Ok(())
}

/// Whether a process of this host has ended.
pub(crate) fn is_gone(process: &ProcessIdentity) -> bool {
    let ProcessIdentity { pid, start_ticks, boot_id } = process.clone();
    !identity::ProcessIdentity { pid, start_ticks, boot_id }.is_alive()
}
