//! A run from the moment its worker has it to its finish, with everything it left on this machine removed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use checkout::checkouts::Checkouts;
use core_types::{ids::RunKey, label, outcome::RunReport};
use launcher::{
    handle::{Destroy, StopRequest},
    launcher::Launcher,
};
use store::{error::FencedError, pool::Store, runs::Run, tasks::Task};
use telemetry::chain::error_chain;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    around::Around,
    heartbeat::Heartbeat,
    ledger::Ledger,
    life::{Hosted, Life, Scene},
    patience::Patience,
    policy::{ParentEnvironment, RunPolicy},
    recorder::record_events,
    sessions::Sessions,
};

/// Wait before a finish that could not be written is tried again.
const FINISH_RETRY: Duration = Duration::from_millis(500);
/// Longest time for removing what a run left here; what is left then is removed by the dispatcher of this host.
const CLEAN_WITHIN: Duration = Duration::from_secs(60);

/// The labels by which whoever recovers a run finds its launches.
#[must_use]
pub fn launch_labels(key: RunKey) -> BTreeMap<String, String> {
    BTreeMap::from([
        (label::RUN.to_owned(), key.run.to_string()),
        (label::LEASE.to_owned(), key.lease.to_string()),
    ])
}

/// What every run of a worker shares.
#[derive(Debug, Clone)]
pub struct Workshop {
    /// The database.
    pub store: Store,
    /// Starts agents and verification commands.
    pub launcher: Arc<dyn Launcher>,
    /// Where checkouts lie.
    pub checkouts: Arc<Checkouts>,
    /// Where agents' command lines keep the sessions of tasks.
    pub sessions: Sessions,
    /// Rings when something about an agent changed: work for it, or a request to cancel.
    pub alarm: watch::Receiver<u64>,
    /// The worker's own environment, of which agents see an allow-listed few.
    pub parent_env: Arc<ParentEnvironment>,
}

/// A run that its worker has started.
#[derive(Debug)]
pub struct StartedRun {
    /// The run and its fencing number.
    pub key: RunKey,
    /// The task as it was at the start.
    pub task: Task,
    /// The run as it was at the start.
    pub run: Run,
}

/// Works on a started run to its end and finishes it. Afterwards nothing of it is left on this machine but its
/// commit in the repository and its rows in the database.
pub async fn work_on(
    shop: &Workshop,
    started: StartedRun,
    policy: &RunPolicy,
    stop: &CancellationToken,
) {
    let span =
        tracing::info_span!("run", run.id = %started.key.run, task.id = %started.task.new.id);
    work(shop, started, policy, stop).instrument(span).await;
}

async fn work(shop: &Workshop, started: StartedRun, policy: &RunPolicy, stop: &CancellationToken) {
    let ledger = Ledger::Host(shop.store.clone());
    let heartbeat = Heartbeat::start(ledger.clone(), started.key, shop.alarm.clone());
    let (recorder, writer) = record_events(ledger.clone(), started.key, stop.clone());
    tracing::info!("run started");
    let around = Around {
        launcher: &*shop.launcher,
        heartbeat: &heartbeat,
        recorder: &recorder,
        stop,
        alone: false,
    };
    let life = Life {
        key: started.key,
        task: &started.task.brief(),
        policy,
        around,
        ledger: &ledger,
        parent_env: &shop.parent_env,
        scene: Scene::Host(Hosted { shop, started: &started }),
    };
    let (report, _) = life.live().await;
    drop(recorder);
    // Before the finish, which makes this agent idle: until then nothing new is handed to it.
    if timeout(CLEAN_WITHIN, clean_up(shop, started.key)).await.is_err() {
        tracing::warn!("clean-up takes too long and is left to the dispatcher");
    }
    shop.sessions.sweep(policy.session_retention);
    writer.finish().await;
    finish(&shop.store, started.key, &report, stop).await;
    tracing::info!(outcome = %report.outcome, "run ended");
}

/// Writes the end of a run, however long the database is away. Gives up only when the run is no longer ours, or when
/// the worker stops and the database does not answer: then a dispatcher sees its death and finishes the run.
async fn finish(store: &Store, key: RunKey, report: &RunReport, stop: &CancellationToken) {
    let mut patience = Patience::new(stop);
    loop {
        match patience.wait_for(store.finish_run(key, report)).await {
            Some(Ok(_)) => return,
            Some(Err(FencedError::Store(error))) if error.is_transient() => {
                patience.note("finish not written yet", &error);
                if patience.pause(FINISH_RETRY).await {
                    continue;
                }
                return tracing::warn!(
                    "finish given up: the database is away and the worker stops"
                );
            }
            Some(Err(error)) => {
                return tracing::warn!(error = %error_chain(&error), "finish given up");
            }
            None => {
                return tracing::warn!("finish given up: the database does not answer");
            }
        }
    }
}

/// Ends and removes the launches of a run, then its checkout.
async fn clean_up(shop: &Workshop, key: RunKey) {
    match shop.launcher.discover().await {
        Err(error) => tracing::warn!(error = %error_chain(&error), "launches not listed"),
        Ok(launches) => {
            let run = key.run.to_string();
            for found in launches.iter().filter(|found| found.labels.get(label::RUN) == Some(&run))
            {
                if let Err(error) = remove_launch(shop, found).await {
                    tracing::warn!(launch.id = %found.id, error, "launch directory not removed");
                }
            }
        }
    }
    if let Err(error) = shop.checkouts.remove(key.run).await {
        tracing::warn!(error = %error_chain(&error), "checkout not removed");
    }
}

async fn remove_launch(
    shop: &Workshop,
    found: &launcher::launcher::Discovered,
) -> Result<(), String> {
    let handle = shop.launcher.attach(&found.record).await;
    let handle = handle.map_err(|error| error_chain(&error).to_string())?;
    // A step that was cut short may have left one running.
    handle.stop(StopRequest::new("its run is over", Duration::ZERO)).await;
    let destroyed = handle.destroy(Destroy::Everything).await;
    destroyed.map_err(|error| error_chain(&error).to_string())
}
