//! Taking back what died: first kill what is left of a run on this host, then finish it.
//!
//! A fence stops a zombie's writes, not its hands; so nothing of a run is requeued while its processes may live on a
//! host that answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use checkout::checkouts::Checkouts;
use core_types::{
    ids::RunKey,
    outcome::{RunOutcome, RunReport},
};
use futures_util::future::join_all;
use launcher::{
    handle::{Destroy, StopRequest},
    identity,
    launcher::Launcher,
    output::{LogContent, LogCursor},
};
use store::{
    agents::{HostId, ProcessIdentity},
    error::{FencedError, StoreError},
    pool::Store,
    recovery::Orphan,
};
use telemetry::chain::error_chain;

use crate::view::View;

/// How long an agent may take to accept a run before it is taken back.
pub const ACCEPT_WITHIN: Duration = Duration::from_secs(10);
/// Time between asking leftovers to end and ending them.
const GRACE: Duration = Duration::from_secs(2);
/// Most runs taken back in one look.
const BATCH: i64 = 100;
/// Bytes of the last output kept as the reason of a lost run.
const LAST_WORDS: usize = 400;
/// Label of every launch of a run; the same as crate `agent` writes.
pub const LABEL_RUN: &str = "opentiger.run";

/// Takes back runs of this host and, after their lease, of others.
#[derive(Debug)]
pub struct Recovery {
    /// The database.
    pub store: Store,
    /// Finds and ends what is left of a run on this host.
    pub launcher: Arc<dyn Launcher>,
    /// The checkouts of this host.
    pub checkouts: Arc<Checkouts>,
    /// This host.
    pub host: HostId,
    /// How long an agent may take to accept a run; [`ACCEPT_WITHIN`] unless a test says otherwise.
    pub accept_within: Duration,
}

impl Recovery {
    /// One look: deaths seen on this host, runs nobody accepted, runs fallen silent, tasks whose wait is over.
    ///
    /// # Errors
    /// [`StoreError`] where the database does not answer; the next look goes on.
    pub async fn look(&self, view: &View) -> Result<(), StoreError> {
        let dead = self.dead().await?;
        let message = "its worker process ended";
        self.take_all_back(&dead, RunOutcome::WorkerLost, message).await?;
        let late = self.store.unaccepted(self.accept_within).await?;
        let message = "its agent did not accept it in time";
        self.take_all_back(&late, RunOutcome::LaunchFailed, message).await?;
        if view.trusts_silence(tokio::time::Instant::now()) {
            let silent = self.store.expired_leases(BATCH).await?;
            let message = "its worker fell silent and its lease ran out";
            self.take_all_back(&silent, RunOutcome::WorkerLost, message).await?;
        }
        self.store.release_cooled(BATCH).await?;
        Ok(())
    }

    /// The runs of this host whose worker process is gone; signs off agents that are gone.
    async fn dead(&self) -> Result<Vec<Orphan>, StoreError> {
        let mut runs = self.store.live_runs_on(&self.host).await?;
        runs.retain(|orphan| orphan.process.as_ref().is_some_and(is_gone));
        for agent in self.store.agents().await? {
            let gone = agent.host == self.host && is_gone(&agent.process);
            if gone && agent.retired_at.is_none() {
                tracing::warn!(agent.id = %agent.id, agent.name = agent.name, "agent process is gone");
                self.store.retire_agent(agent.id).await?;
            }
        }
        Ok(runs)
    }

    /// Takes runs back side by side, so that one that is slow to die holds up no other.
    async fn take_all_back(
        &self,
        orphans: &[Orphan],
        outcome: RunOutcome,
        message: &str,
    ) -> Result<(), StoreError> {
        let each = orphans.iter().map(|orphan| self.take_back(orphan, outcome, message));
        join_all(each).await.into_iter().collect()
    }

    async fn take_back(
        &self,
        orphan: &Orphan,
        outcome: RunOutcome,
        message: &str,
    ) -> Result<(), StoreError> {
        let here = orphan.host.as_ref() == Some(&self.host);
        let last_words = if here { self.end_launches(orphan.key).await } else { None };
        let message = last_words
            .map_or_else(|| message.to_owned(), |words| format!("{message}; last output: {words}"));
        let report = RunReport::new(outcome).with_message(message.clone());
        let finished = self.store.finish_run(orphan.key, &report).await;
        if here && !matches!(finished, Err(FencedError::Store(_))) {
            self.remove_checkout(orphan.key).await;
        }
        match finished {
            Ok(finished) => {
                tracing::warn!(
                    run.id = %orphan.key.run,
                    task.id = %orphan.task,
                    outcome = %outcome,
                    task.status = %finished.task_state.status(),
                    message,
                    "run taken back"
                );
                Ok(())
            }
            Err(FencedError::Fenced { .. }) => Ok(()),
            Err(FencedError::Store(error)) => Err(error),
        }
    }

    async fn remove_checkout(&self, key: RunKey) {
        if let Err(error) = self.checkouts.remove(key.run).await {
            tracing::warn!(run.id = %key.run, error = %error_chain(&error), "checkout not removed");
        }
    }

    /// Ends every launch of a run on this host and tells the end of what it printed.
    async fn end_launches(&self, key: RunKey) -> Option<String> {
        let launches = match self.launcher.discover().await {
            Ok(launches) => launches,
            Err(error) => {
                tracing::error!(error = %error_chain(&error), "launches not listed");
                return None;
            }
        };
        let mut last_words = None;
        for found in launches {
            if !belongs_to(&found.labels, key) {
                continue;
            }
            match self.launcher.attach(&found.record).await {
                Ok(handle) => {
                    handle.stop(StopRequest::new("its worker died", GRACE)).await;
                    last_words = last_output(&handle).await.or(last_words);
                    if let Err(error) = handle.destroy(Destroy::Everything).await {
                        tracing::warn!(launch.id = %found.id, error = %error_chain(&error), "launch not removed");
                    }
                }
                Err(error) => {
                    tracing::warn!(launch.id = %found.id, error = %error_chain(&error), "launch not attached");
                }
            }
        }
        last_words
    }
}

/// Whether a process of this host has ended.
fn is_gone(process: &ProcessIdentity) -> bool {
    let ProcessIdentity { pid, start_ticks, boot_id } = process.clone();
    !identity::ProcessIdentity { pid, start_ticks, boot_id }.is_alive()
}

fn belongs_to(labels: &BTreeMap<String, String>, key: RunKey) -> bool {
    labels.get(LABEL_RUN).is_some_and(|run| *run == key.run.to_string())
}

/// The last non-empty line of a launch's output.
async fn last_output(handle: &launcher::handle::Handle) -> Option<String> {
    use futures_util::StreamExt as _;
    let mut tail: Vec<u8> = Vec::new();
    let mut logs = Box::pin(handle.logs(LogCursor::default()));
    while let Some(Ok(chunk)) = logs.next().await {
        if let LogContent::Output { data, .. } = chunk.content {
            tail.extend_from_slice(&data);
            let excess = tail.len().saturating_sub(8 * LAST_WORDS);
            tail.drain(..excess);
        }
    }
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(core_types::event::cut_text(line.trim(), LAST_WORDS))
}
