//! The one run of a worker in a sandbox: from its assignment to its report.
//!
//! The same life as on the host, with the database that a sandbox has, in the checkout that it was given. It ends with a
//! claim: what comes of the run is the host's to say, once everything here is gone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use checkout::git::GitCommand;
use core_config::{fault::Faults, sandboxed::load_in_sandbox};
use core_types::{
    event::RunEvent,
    outcome::RunReport,
    sandbox::{ResultClaim, SandboxAssignment, SandboxReport, WorkerExit},
    secret::Secret,
};
use launcher::launcher::Launcher;
use store::{error::FencedError, pool::ConnectError, sandbox::worker::WorkerStore};
use telemetry::chain::error_chain;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    around::Around,
    heartbeat::Heartbeat,
    ledger::Ledger,
    life::{Boxed, Life, Scene},
    patience::Patience,
    policy::{LEASE, ParentEnvironment, RunPolicy},
    recorder::record_events,
};

/// How often the heartbeat looks whether somebody asked to cancel: nobody rings a bell for a sandbox.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Wait before the database is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// What a worker in a sandbox works with. Its process [adopts](launcher::descendants::adopt) orphans, and starts nothing
/// beside the run.
#[derive(Debug)]
pub struct Once {
    /// What it is to do.
    pub assignment: SandboxAssignment,
    /// Starts agents and verification commands, here.
    pub launcher: Arc<dyn Launcher>,
    /// The git of the image.
    pub git: GitCommand,
    /// The variables of the worker itself, of which the agent sees an allow-listed few.
    pub own_env: ParentEnvironment,
}

/// What came of a run that nobody else learns of.
#[derive(Debug)]
pub struct Rehearsal {
    /// What the worker would report.
    pub report: SandboxReport,
    /// What happened in it.
    pub events: Vec<RunEvent>,
}

impl Once {
    /// Works on the run and reports it; `stop` ends it as interrupted.
    ///
    /// # Errors
    /// Every fault of the settings; then nothing was done.
    pub async fn work(self, stop: &CancellationToken) -> Result<WorkerExit, Faults> {
        let key = self.assignment.key;
        let span =
            tracing::info_span!("run", run.id = %key.run, task.id = %self.assignment.task.id);
        let policy = self.policy()?;
        let exit = async {
            match self.start(stop).await {
                Ok(store) => self.carry_through(store, &policy, stop).await,
                Err(exit) => exit,
            }
        };
        Ok(exit.instrument(span).await)
    }

    /// What the container limits is no matter of the worker, nor is what only the host reaches.
    fn policy(&self) -> Result<RunPolicy, Faults> {
        let assignment = &self.assignment;
        let loaded = load_in_sandbox(&assignment.settings, &assignment.state)?;
        let home = assignment.checkout.directory.join("home");
        Ok(RunPolicy {
            agent_home: Some(home),
            memory_limit: None,
            process_limit: None,
            ..RunPolicy::from_settings(&loaded)
        })
    }

    /// Connects and accepts the run, as long as its lease may still hold.
    async fn start(&self, stop: &CancellationToken) -> Result<WorkerStore, WorkerExit> {
        let SandboxAssignment { key, token, database_url, .. } = &self.assignment;
        let until = Instant::now() + LEASE;
        loop {
            let error = match connect_and_start(database_url, *key, token).await {
                Ok(store) => return Ok(store),
                Err(StartError::Fenced) => {
                    tracing::warn!(
                        "run left alone: the database does not know it as this worker's"
                    );
                    return Err(WorkerExit::Fenced);
                }
                Err(StartError::Later(text)) => text,
                Err(StartError::Never(text)) => {
                    tracing::error!(error = text, "database cannot be used");
                    return Err(WorkerExit::DatabaseAway);
                }
            };
            if stop.is_cancelled() {
                return Err(WorkerExit::Interrupted);
            }
            if Instant::now() >= until {
                tracing::error!(error, "database not reached");
                return Err(WorkerExit::DatabaseAway);
            }
            stop.run_until_cancelled(sleep(RETRY)).await;
        }
    }

    async fn carry_through(
        &self,
        store: WorkerStore,
        policy: &RunPolicy,
        stop: &CancellationToken,
    ) -> WorkerExit {
        let ledger = Ledger::Sandbox(store.clone());
        let (report, claim) = self.live(ledger, policy, stop).await;
        let outcome = report.outcome;
        let exit = tell(&store, &SandboxReport { report, claim }, stop).await;
        tracing::info!(outcome = %outcome, "run ended");
        exit
    }

    /// Works on the run as [`Self::work`] does, without a database: nobody holds its lease, and nobody learns of it but
    /// the caller.
    ///
    /// # Errors
    /// Every fault of the settings; then nothing was done.
    pub async fn rehearse(self, stop: &CancellationToken) -> Result<Rehearsal, Faults> {
        let policy = self.policy()?;
        let events = Arc::new(Mutex::default());
        let ledger = Ledger::Nobody(Arc::clone(&events));
        let (report, claim) = self.live(ledger, &policy, stop).await;
        let events = std::mem::take(&mut *events.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Rehearsal { report: SandboxReport { report, claim }, events })
    }

    async fn live(
        &self,
        ledger: Ledger,
        policy: &RunPolicy,
        stop: &CancellationToken,
    ) -> (RunReport, Option<ResultClaim>) {
        let key = self.assignment.key;
        let (alarm, rings) = watch::channel(0);
        let _ringing = JoinSet::from_iter([ring(alarm)]);
        let heartbeat = Heartbeat::start(ledger.clone(), key, rings);
        let (recorder, writer) = record_events(ledger.clone(), key, stop.clone());
        tracing::info!("run started");
        let around = Around {
            launcher: &*self.launcher,
            heartbeat: &heartbeat,
            recorder: &recorder,
            stop,
            alone: true,
        };
        let life = Life {
            key,
            task: &self.assignment.task,
            policy,
            around,
            ledger: &ledger,
            parent_env: &self.parent_env(),
            scene: Scene::Sandbox(Boxed { assignment: &self.assignment, git: &self.git }),
        };
        // On the heap: what awaits this is deep enough.
        let ended = Box::pin(life.live()).await;
        drop(recorder);
        writer.finish().await;
        ended
    }

    /// What the host hands on comes before what the image has.
    fn parent_env(&self) -> ParentEnvironment {
        let given = self.assignment.environment.iter();
        let given: BTreeMap<String, String> =
            given.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
        let mut env = self.own_env.clone();
        env.extend(given);
        env
    }
}

/// Why a run was not accepted.
enum StartError {
    Fenced,
    /// Trying again may help.
    Later(String),
    Never(String),
}

async fn connect_and_start(
    url: &Secret,
    key: core_types::ids::RunKey,
    token: &Secret,
) -> Result<WorkerStore, StartError> {
    let sort = |transient: bool, text: String| {
        if transient { StartError::Later(text) } else { StartError::Never(text) }
    };
    let store = WorkerStore::connect(url, key, token.clone()).await;
    let store = store.map_err(|error: ConnectError| {
        sort(error.is_transient(), error_chain(&error).to_string())
    })?;
    match store.start().await {
        Ok(()) => Ok(store),
        Err(FencedError::Fenced { .. }) => Err(StartError::Fenced),
        Err(FencedError::Store(error)) => {
            Err(sort(error.is_transient(), error_chain(&error).to_string()))
        }
    }
}

/// Says what came of the run, however long the database is away, while the run may be this worker's.
async fn tell(store: &WorkerStore, report: &SandboxReport, stop: &CancellationToken) -> WorkerExit {
    let mut patience = Patience::new(stop);
    loop {
        match patience.wait_for(store.report(report)).await {
            Some(Ok(())) => return WorkerExit::Reported,
            Some(Err(FencedError::Store(error))) if error.is_transient() => {
                patience.note("report not written yet", &error);
                if !patience.pause(RETRY).await {
                    tracing::warn!("report given up: the database is away and the worker stops");
                    return WorkerExit::Interrupted;
                }
            }
            Some(Err(error @ FencedError::Fenced { .. })) => {
                tracing::warn!(error = %error_chain(&error), "report not taken");
                return WorkerExit::Fenced;
            }
            Some(Err(error @ FencedError::Store(_))) => {
                tracing::error!(error = %error_chain(&error), "report refused");
                return WorkerExit::DatabaseAway;
            }
            None => {
                tracing::warn!("report given up: the database does not answer");
                return WorkerExit::Interrupted;
            }
        }
    }
}

/// Rings as long as the task it runs in lives.
async fn ring(alarm: watch::Sender<u64>) {
    loop {
        sleep(LOOK_EVERY).await;
        alarm.send_modify(|rung| *rung = rung.wrapping_add(1));
    }
}
