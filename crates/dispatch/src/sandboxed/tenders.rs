//! All runs in sandboxes that this dispatcher tends: claims new ones, takes over those of dispatchers that are gone, keeps
//! their leases, and tells each what the database says of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use core_config::{load::Loaded, settings::Settings};
use core_types::{
    ids::{RunId, RunKey, TaskId},
    task::{ExecutionEnvironment, Role, RunStatus},
};
use launcher::{id::LaunchId, launcher::Launcher};
use store::{
    agents::HostId,
    dispatch::{
        claim::{CLAIM_LIMIT, ClaimRequest},
        sandboxed::{SandboxClaimRequest, TendedRun},
    },
    pool::Store,
    wake::Channel,
};
use telemetry::chain::error_chain;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    outfit::Outfitter,
    readiness::Readiness,
    self_tests::SelfTests,
    tending::{Facts, Hands, Left, Tended, launch_id},
};
use crate::{
    claim::{Claims, claims_under},
    complaints::Complaints,
    found::LEASE,
    recovery::is_gone,
};

/// How often the database is looked at even if nobody wakes us.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often leases are renewed.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether sandboxes can be launched.
const READY_EVERY: Duration = Duration::from_secs(5);
/// Sessions of sandboxes may not hold a transaction for longer.
const LINGER: Duration = Duration::from_secs(10);
/// How long a dispatcher that stops waits for what can be left at any time.
const LAST_WORK: Duration = Duration::from_secs(3);

/// How long a container lives that no dispatcher tends.
///
/// Long enough for a restart or an update, short enough that work which nobody collects does not cost much. What ends so
/// is an interruption and costs its task no attempt.
pub const UNTENDED: Duration = Duration::from_secs(5 * 60);

/// What a dispatcher needs for sandboxes.
#[derive(Debug, Clone)]
pub struct Sandboxes {
    /// Launches containers.
    pub launcher: Arc<dyn Launcher>,
    /// Says what they look like.
    pub outfitter: Arc<dyn Outfitter>,
    /// Whether they can be launched.
    pub readiness: Arc<Readiness>,
    /// How long one lives that nobody tends; usually [`UNTENDED`].
    pub untended: Duration,
}

/// The runs in sandboxes of one dispatcher.
#[derive(Debug)]
pub struct Tenders {
    store: Store,
    host: HostId,
    dispatcher: Uuid,
    settings: watch::Receiver<Arc<Loaded>>,
    hands: Arc<Hands>,
    readiness: Arc<Readiness>,
    outfitter: Arc<dyn Outfitter>,
    self_tests: Arc<SelfTests>,
    entries: HashMap<RunId, Entry>,
    work: JoinSet<(RunId, Left)>,
    /// Keeps what containers need, apart from everything else.
    keeping: JoinSet<()>,
    /// Containers that the last look has shown to be gone, unless it failed.
    gone: BTreeSet<LaunchId>,
    complaints: Complaints,
    stop: CancellationToken,
}

/// A run that is tended.
#[derive(Debug)]
struct Entry {
    key: RunKey,
    facts: watch::Sender<Facts>,
    renewing: Arc<AtomicBool>,
    lost: CancellationToken,
    tending: tokio::task::Id,
}

impl Tenders {
    /// Tends nothing yet.
    #[must_use]
    pub fn new(
        store: Store,
        host: HostId,
        dispatcher: Uuid,
        settings: watch::Receiver<Arc<Loaded>>,
        sandboxes: Sandboxes,
    ) -> Self {
        let (outfitter, readiness) =
            (Arc::clone(&sandboxes.outfitter), Arc::clone(&sandboxes.readiness));
        let self_tests = Arc::new(SelfTests::new(
            store.clone(),
            host.clone(),
            Arc::clone(&sandboxes.launcher),
            Arc::clone(&outfitter),
            Arc::clone(&readiness),
        ));
        let tests = Arc::clone(&self_tests);
        let hands = Hands::new(store.clone(), sandboxes, tests, settings.clone());
        Self {
            store,
            host,
            dispatcher,
            settings,
            hands: Arc::new(hands),
            readiness,
            outfitter,
            self_tests,
            entries: HashMap::new(),
            work: JoinSet::new(),
            keeping: JoinSet::new(),
            gone: BTreeSet::new(),
            complaints: Complaints::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Tends until it is told to stop. What runs then goes on by itself until another dispatcher tends it.
    pub async fn run(mut self, stop: CancellationToken) {
        self.stop = stop.child_token();
        let mut looking = JoinSet::new();
        let readiness = Arc::clone(&self.readiness);
        let outfitter = Arc::clone(&self.outfitter);
        looking.spawn(look_at_readiness(readiness, outfitter, self.settings.clone(), stop.clone()));
        looking.spawn(Arc::clone(&self.self_tests).run(self.settings.clone(), stop.clone()));
        let mut wakes = self.store.wakes(&[Channel::Tasks, Channel::Agents]);
        let mut ready = self.readiness.changes();
        let mut proved = self.self_tests.changes();
        let mut renewed_at = Instant::now();
        while !stop.is_cancelled() {
            self.look().await;
            self.claim().await;
            if renewed_at.elapsed() >= RENEW_EVERY {
                renewed_at = Instant::now();
                self.renew().await;
                self.keep();
            }
            // Every arm is cancel-safe: each only says that it is time to look, or who is done.
            tokio::select! {
                () = stop.cancelled() => break,
                _ = wakes.next() => {}
                Ok(()) = self.settings.changed() => {}
                Ok(()) = ready.changed() => {}
                Ok(()) = proved.changed() => {}
                Some(done) = self.work.join_next() => self.settle(done),
                () = sleep(LOOK_EVERY) => {}
            }
        }
        drop(timeout(LAST_WORK, async { while self.work.join_next().await.is_some() {} }).await);
    }

    /// Has what containers need kept, unless the last time is still under way.
    fn keep(&mut self) {
        while self.keeping.try_join_next().is_some() {}
        if self.keeping.is_empty() {
            let (outfitter, gone) = (Arc::clone(&self.outfitter), std::mem::take(&mut self.gone));
            self.keeping.spawn(async move { outfitter.keep(gone).await });
        }
    }

    fn settle(&mut self, done: Result<(RunId, Left), tokio::task::JoinError>) {
        match done {
            Ok((run, left)) => {
                tracing::debug!(run.id = %run, left = ?left, "run no longer tended");
                self.entries.remove(&run);
            }
            // Its entry stays, so that this run is left to its lease and not tried again and again.
            Err(error) => {
                tracing::error!(error = %error_chain(&error), "tending a run failed");
                let failed = self.entries.values().find(|entry| entry.tending == error.id());
                if let Some(entry) = failed {
                    // Recovery sees it only once nobody renews it.
                    entry.renewing.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    /// Tells every tended run how it stands, and takes up those that nobody tends.
    async fn look(&mut self) {
        // Before the look: a run is claimed before its container is let in anywhere, so one of these that the look does not
        // show is gone, whoever claims meanwhile.
        let admitted = self.outfitter.admitted().await;
        self.gone.clear();
        let found = self.store.sandbox_runs_on(&self.host).await;
        let Some(found) = self.complaints.note("runs in sandboxes", found) else { return };
        let live: BTreeSet<LaunchId> = found.iter().map(|run| launch_id(run.key.run)).collect();
        self.gone = admitted.difference(&live).cloned().collect();
        let lingering = self.store.end_lingering_sandboxes(LINGER).await;
        self.complaints.note("sessions of sandboxes", lingering);
        let held: HashMap<RunId, &TendedRun> =
            found.iter().filter(|run| !run.revoked).map(|run| (run.key.run, run)).collect();
        for (run, entry) in &self.entries {
            match held.get(run).filter(|held| held.dispatcher == Some(self.dispatcher)) {
                Some(held) => {
                    entry.facts.send_replace(facts_of(held));
                }
                None => entry.lost.cancel(),
            }
        }
        let untended: Vec<TendedRun> = held
            .into_values()
            .filter(|run| !self.entries.contains_key(&run.key.run))
            .cloned()
            .collect();
        for run in untended {
            if self.takes_over(&run).await {
                tracing::info!(run.id = %run.key.run, "run in a sandbox taken over");
                self.tend(run.key, run.task, facts_of(&run), false);
            }
        }
    }

    /// Whether a run that we do not tend is ours now.
    async fn takes_over(&mut self, run: &TendedRun) -> bool {
        if run.dispatcher == Some(self.dispatcher) {
            return true;
        }
        if run.process.as_ref().is_some_and(|process| !is_gone(process)) {
            return false;
        }
        let taken =
            self.store.take_over_sandbox_run(run.key, run.dispatcher, self.dispatcher).await;
        self.complaints.note("runs of a dispatcher that is gone", taken).unwrap_or(false)
    }

    /// Claims as long as there is room.
    async fn claim(&mut self) {
        loop {
            let Some(request) = self.request() else { return };
            let claimed = self.store.claim_sandbox_runs(&request).await;
            let Some(claimed) = self.complaints.note("claims for sandboxes", claimed) else {
                return;
            };
            for claim in &claimed {
                tracing::info!(task.id = %claim.task, run.id = %claim.key.run, "run claimed for a sandbox");
                let facts = Facts { status: RunStatus::Launching, cancel_requested: false };
                self.tend(claim.key, claim.task, facts, true);
            }
            if claimed.len() < request.claim.limit as usize {
                return;
            }
        }
    }

    /// What may be claimed now; nothing while claims are paused.
    fn request(&mut self) -> Option<SandboxClaimRequest> {
        if self.readiness.unready().is_some() {
            return None;
        }
        let loaded = Arc::clone(&self.settings.borrow_and_update());
        match claims_under(&loaded) {
            Claims::Open { environment: ExecutionEnvironment::Sandbox, max_running, spend } => {
                let claim = ClaimRequest {
                    limit: CLAIM_LIMIT,
                    lease: LEASE,
                    max_running,
                    spend,
                    default_provider: loaded.settings.default_provider(),
                };
                Some(SandboxClaimRequest {
                    claim,
                    counts: counts(&loaded.settings),
                    without: self.self_tests.unproved(),
                    host: self.host.clone(),
                    dispatcher: self.dispatcher,
                })
            }
            Claims::Open { .. } | Claims::Paused { .. } => None,
        }
    }

    fn tend(&mut self, key: RunKey, task: TaskId, facts: Facts, fresh: bool) {
        let facts = watch::Sender::new(facts);
        let renewing = Arc::new(AtomicBool::new(true));
        let tended =
            Tended { key, task, facts: facts.subscribe(), renewing: Arc::clone(&renewing), fresh };
        let (lost, stop) = (CancellationToken::new(), self.stop.clone());
        let (hands, token) = (Arc::clone(&self.hands), lost.clone());
        let work = async move { (key.run, hands.tend(&tended, &token, &stop).await) };
        let tending = self.work.spawn(work).id();
        self.entries.insert(key.run, Entry { key, facts, renewing, lost, tending });
    }

    /// Renews the leases that are ours to renew, in one statement.
    async fn renew(&mut self) {
        let ours = self.entries.values().filter(|entry| entry.renewing.load(Ordering::Relaxed));
        let keys: Vec<RunKey> = ours.map(|entry| entry.key).collect();
        let renewed = self.store.renew_leases(&keys, LEASE).await;
        for renewed in self.complaints.note("leases of sandboxes", renewed).unwrap_or_default() {
            if let Some(entry) = self.entries.get(&renewed.key.run).filter(|_| !renewed.valid) {
                entry.lost.cancel();
            }
        }
    }
}

/// Looks every few seconds, while the settings ask for sandboxes.
async fn look_at_readiness(
    readiness: Arc<Readiness>,
    outfitter: Arc<dyn Outfitter>,
    mut settings: watch::Receiver<Arc<Loaded>>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let wanted = settings.borrow_and_update().settings.execution_environment;
        if wanted == ExecutionEnvironment::Sandbox {
            readiness.look(&*outfitter).await;
        }
        // Every arm is cancel-safe: each only says that it is time to look.
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = settings.changed() => {}
            () = sleep(READY_EVERY) => {}
        }
    }
}

fn counts(settings: &Settings) -> BTreeMap<Role, u32> {
    BTreeMap::from([
        (Role::Worker, settings.worker_count),
        (Role::Tester, settings.tester_count),
        (Role::Docser, settings.docser_count),
    ])
}

const fn facts_of(run: &TendedRun) -> Facts {
    Facts { status: run.status, cancel_requested: run.cancel_requested }
}
