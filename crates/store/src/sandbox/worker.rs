//! The database as a sandboxed worker has it: four functions, for its own run.
//!
//! The same words as those of the host's agents, so that a run goes the same way in both.

use std::time::Duration;

use core_types::{
    event::NumberedEvent, ids::RunKey, sandbox::SandboxReport, secret::Secret, usage::Usage,
};
use jiff::Timestamp;
use tokio_postgres::types::Json;

use crate::{
    dispatch::spending::{Standing, usage_values},
    error::{FencedError, StoreError},
    pool::{ConnectError, PoolOptions, SIGN_OF_LIFE, Store},
    row::{bigint, clean_opt, get, number},
    spend,
    wake::Channel,
};

/// Most bytes of the bodies of one call's events; the function's own limit for each is one MiB.
const BODY_LIMIT: usize = 1 << 20;

/// The database of one run's worker.
#[derive(Debug, Clone)]
pub struct WorkerStore {
    store: Store,
    key: RunKey,
    token: Secret,
}

/// What the database answers to a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Whether somebody asked for the task to be cancelled.
    pub cancel_requested: bool,
    /// What is left.
    pub standing: Standing,
}

const BEAT: &str = "SELECT * FROM sandbox.heartbeat($1, $2, $3, $4)";

impl WorkerStore {
    /// Connects with the sandboxes' login; at most two connections.
    ///
    /// # Errors
    /// [`ConnectError`], by what has to be mended.
    pub async fn connect(url: &Secret, key: RunKey, token: Secret) -> Result<Self, ConnectError> {
        let options = PoolOptions { max_size: 2, ..PoolOptions::new("openTiger sandbox") };
        let store = Store::connect(url, options).await?;
        Ok(Self { store, key, token })
    }

    /// The run.
    #[must_use]
    pub const fn key(&self) -> RunKey {
        self.key
    }

    /// Accepts the run: `launching` → `running`. Again is fine.
    ///
    /// # Errors
    /// [`FencedError::Fenced`]: leave the run alone.
    pub async fn start(&self) -> Result<(), FencedError> {
        let connection = self.store.connection().await?;
        let statement =
            connection.prepare_cached("SELECT sandbox.start($1, $2, $3) AS held").await?;
        let (run, token) = (self.key.run.as_uuid(), self.token.expose());
        let row = connection.query_one(&statement, &[&run, &self.key.lease.0, &token]).await?;
        self.held(get(&row, "held")?)?;
        drop(connection);
        self.store.wake(Channel::Events);
        Ok(())
    }

    /// Renews the lease, notes what the run has used so far, and tells how that stands to what there is.
    ///
    /// # Errors
    /// [`FencedError::Fenced`]: stop the run.
    pub async fn beat(&self, usage: &Usage) -> Result<Beat, FencedError> {
        self.beat_within(usage, Duration::MAX).await
    }

    /// The same as a sign of life: an answer that takes long is as good as none.
    ///
    /// # Errors
    /// [`FencedError::Fenced`]: stop the run.
    pub async fn renew(&self) -> Result<Beat, FencedError> {
        self.beat_within(&Usage::default(), SIGN_OF_LIFE).await
    }

    async fn beat_within(&self, usage: &Usage, limit: Duration) -> Result<Beat, FencedError> {
        let connection = self.store.connection_within(limit).await?;
        let statement = connection.prepare_cached(BEAT).await?;
        let (run, token) = (self.key.run.as_uuid(), self.token.expose());
        let used = usage_values(usage).to_vec();
        let row =
            connection.query_opt(&statement, &[&run, &self.key.lease.0, &token, &used]).await?;
        let row = row.ok_or(FencedError::Fenced { held_by: None })?;
        Ok(Beat {
            cancel_requested: get(&row, "cancel_requested")?,
            standing: Standing {
                task_before: spend::usage_from_row(&row)?,
                day: spend::day_from_row(&row)?,
                reserved_microusd: number::<i64, u64>(&row, "own_reserved")?,
            },
        })
    }

    /// Writes events of the run; those that are there already are left as they are. Where the run has used up what it
    /// may keep, further ones are dropped.
    ///
    /// # Errors
    /// [`FencedError::Fenced`]: stop the run.
    pub async fn append_events(&self, events: &[NumberedEvent]) -> Result<(), FencedError> {
        let mut part = Vec::new();
        let mut bytes = 0;
        for event in events {
            let body = serde_json::to_string(&event.event);
            let body = body.map_err(|error| StoreError::corrupt("event", error))?;
            if bytes + body.len() > BODY_LIMIT && !part.is_empty() {
                self.append(&std::mem::take(&mut part)).await?;
                bytes = 0;
            }
            bytes += body.len();
            part.push(event);
        }
        if part.is_empty() { Ok(()) } else { self.append(&part).await }
    }

    async fn append(&self, events: &[&NumberedEvent]) -> Result<(), FencedError> {
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        let times: Vec<Timestamp> = events.iter().map(|event| event.at).collect();
        let kinds: Vec<&str> = events.iter().map(|event| event.event.kind()).collect();
        let bodies: Vec<Json<_>> = events.iter().map(|event| Json(&event.event)).collect();
        let connection = self.store.connection().await?;
        let statement = connection
            .prepare_cached("SELECT sandbox.events($1, $2, $3, $4, $5, $6, $7) AS answer")
            .await?;
        let (run, token) = (self.key.run.as_uuid(), self.token.expose());
        let row = connection
            .query_one(
                &statement,
                &[&run, &self.key.lease.0, &token, &seqs, &times, &kinds, &bodies],
            )
            .await?;
        let answer: &str = get(&row, "answer")?;
        if answer == "full" {
            tracing::warn!(run.id = %self.key.run, "events dropped: the run has written too many");
        }
        self.held(answer != "fenced")?;
        drop(connection);
        self.store.wake(Channel::Events);
        Ok(())
    }

    /// Says what came of the run and what is to be collected: `running` → `collecting`. Again is fine; the first one
    /// counts.
    ///
    /// # Errors
    /// [`FencedError::Fenced`]: the run is not ours any more.
    pub async fn report(&self, report: &SandboxReport) -> Result<(), FencedError> {
        let SandboxReport { report, claim } = report;
        let claim = claim.as_ref();
        let connection = self.store.connection().await?;
        let statement = connection
            .prepare_cached(
                "SELECT sandbox.report($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) AS held",
            )
            .await?;
        let (run, token) = (self.key.run.as_uuid(), self.token.expose());
        let (message, hint) =
            (clean_opt(report.message.as_deref()), clean_opt(report.hint.as_deref()));
        let used = usage_values(&report.usage).to_vec();
        let row = connection
            .query_one(
                &statement,
                &[
                    &run,
                    &self.key.lease.0,
                    &token,
                    &report.outcome.as_str(),
                    &message,
                    &hint,
                    &report.retry_at,
                    &used,
                    &clean_opt(report.session.as_deref()),
                    &claim.map(|claim| claim.commit.as_str()),
                    &claim.map(|claim| claim.pack.as_str()),
                    &claim.map(|claim| bigint(claim.pack_bytes)),
                    &claim.map(|claim| i64::from(claim.files_changed)),
                    &claim.map(|claim| bigint(claim.insertions)),
                    &claim.map(|claim| bigint(claim.deletions)),
                ],
            )
            .await?;
        self.held(get(&row, "held")?)?;
        drop(connection);
        self.store.wake(Channel::Events);
        self.store.wake(Channel::Tasks);
        self.store.flush_wakes().await;
        Ok(())
    }

    /// A sandbox is not told who holds its task instead.
    fn held(&self, held: bool) -> Result<(), FencedError> {
        if held { Ok(()) } else { Err(FencedError::Fenced { held_by: None }) }
    }
}
