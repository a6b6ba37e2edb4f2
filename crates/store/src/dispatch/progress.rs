//! What a run writes while it lives: acceptance, base commit, events, report.

use core_types::{
    event::{NumberedEvent, RunEvent},
    ids::{AgentId, RunKey},
    outcome::RunReport,
};
use jiff::Timestamp;
use tokio_postgres::types::{Json, ToSql};

use super::{
    fenced,
    spending::{add_to_day, set_usage, usage_values},
};
use crate::{
    connections::Connection,
    error::{FencedError, StoreError},
    pool::Store,
    row::{clean, clean_opt, get},
    runs::{self, Run},
    tasks::{self, Task},
    wake::Channel,
};

/// A run that its agent has accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct StartedRun {
    /// Its task. Where `cancel_requested_at` is set, end the run as cancelled instead of working.
    pub task: Task,
    /// The run.
    pub run: Run,
}

/// Each of the statements below starts with this: the lease, held against deletion and revocation until the write is
/// done. Served by the primary key.
macro_rules! holding_lease {
    ($write:literal) => {
        concat!(
            "WITH held AS MATERIALIZED (
                SELECT run FROM leases WHERE run = $1 AND number = $2 AND revoked_at IS NULL FOR KEY SHARE
            ) ",
            $write
        )
    };
}
pub(super) use holding_lease;

/// Again for a run that this agent has started changes nothing: the first answer may have been lost.
const START: &str = holding_lease!(
    "UPDATE runs r SET status = 'running', started_at = coalesce(r.started_at, clock_timestamp())
     FROM held WHERE r.id = held.run AND r.agent = $3 AND r.status IN ('launching', 'running')"
);

const BASE: &str = holding_lease!(
    "UPDATE runs r SET base_commit = $3 FROM held WHERE r.id = held.run AND r.status <> 'ended'"
);

const APPEND: &str = holding_lease!(
    ", written AS (
        INSERT INTO run_events (run, seq, at, kind, event)
        SELECT held.run, e.seq, e.at, e.kind, e.event
        FROM held, unnest($3::bigint[], $4::timestamptz[], $5::text[], $6::json[]) AS e (seq, at, kind, event)
        ON CONFLICT (run, seq) DO NOTHING
    )
    SELECT count(*) AS held FROM held"
);

/// The columns of a report of the run `r`, from `$3` on; what it used from [`USAGE`] on.
pub(super) fn set_report() -> String {
    format!(
        "outcome = $3, message = $4, hint = $5, retry_at = $6, {}, session = $13, commit_id = $14, branch = $15",
        set_usage(USAGE)
    )
}

/// The first parameter of a report's usage.
pub(super) const USAGE: usize = 7;

impl Store {
    /// Accepts a run: `launching` → `running`. Refused unless it was handed to this agent and nobody took it back.
    ///
    /// # Errors
    /// [`FencedError::Fenced`]: leave the run alone.
    pub async fn start_run(&self, key: RunKey, agent: AgentId) -> Result<StartedRun, FencedError> {
        let connection = self.connection().await?;
        let agent = agent.as_uuid();
        write_held(&connection, key, START, &[&agent]).await?;
        let run = runs::find(&connection, key.run).await?;
        let run = run.ok_or_else(|| StoreError::corrupt("run", "a lease without a run"))?;
        let task = tasks::find(&connection, run.task).await?;
        let task = task.ok_or_else(|| StoreError::corrupt("task", "a run without a task"))?;
        drop(connection);
        self.wake(Channel::Events);
        Ok(StartedRun { task, run })
    }

    /// Notes the commit that a run starts from.
    ///
    /// # Errors
    /// [`FencedError::Fenced`]: stop the run.
    pub async fn record_base_commit(&self, key: RunKey, commit: &str) -> Result<(), FencedError> {
        let connection = self.connection().await?;
        write_held(&connection, key, BASE, &[&clean(commit)]).await
    }

    /// Writes events of a run; those that are there already are left as they are.
    ///
    /// # Errors
    /// [`FencedError::Fenced`]: stop the run.
    pub async fn append_events(
        &self,
        key: RunKey,
        events: &[NumberedEvent],
    ) -> Result<(), FencedError> {
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        let times: Vec<Timestamp> = events.iter().map(|event| event.at).collect();
        let kinds: Vec<&str> = events.iter().map(|event| event.event.kind()).collect();
        let bodies: Vec<Json<_>> = events.iter().map(|event| Json(&event.event)).collect();
        let connection = self.connection().await?;
        let statement = connection.prepare_cached(APPEND).await?;
        let row = connection
            .query_one(
                &statement,
                &[&key.run.as_uuid(), &key.lease.0, &seqs, &times, &kinds, &bodies],
            )
            .await?;
        if get::<i64>(&row, "held")? == 0 {
            return Err(fenced(&connection, key).await);
        }
        drop(connection);
        self.wake_events(key.run, seqs.last().copied().unwrap_or_default());
        Ok(())
    }

    /// Writes events of a run after those that are there, for whoever goes on where its worker stopped.
    ///
    /// # Errors
    /// [`FencedError::Fenced`]: stop the run.
    pub async fn append_events_after(
        &self,
        key: RunKey,
        events: &[RunEvent],
    ) -> Result<(), FencedError> {
        let connection = self.connection().await?;
        let last = "SELECT coalesce(max(seq), 0) AS last FROM run_events WHERE run = $1";
        let row = connection.query_one(last, &[&key.run.as_uuid()]).await?;
        let last = get::<i64>(&row, "last")?;
        drop(connection);
        let at = Timestamp::now();
        let numbered = events.iter().zip(last + 1..);
        let numbered: Vec<NumberedEvent> =
            numbered.map(|(event, seq)| NumberedEvent { seq, at, event: event.clone() }).collect();
        self.append_events(key, &numbered).await
    }

    /// Notes what a run says of itself: `running` → `collecting`. The run is not over before [`Store::finish_run`].
    ///
    /// # Errors
    /// [`FencedError::Fenced`]: stop the run.
    pub async fn report_run(&self, key: RunKey, report: &RunReport) -> Result<(), FencedError> {
        let report_run = format!(
            "{}, {} UPDATE runs r SET status = 'collecting', {}
             FROM held WHERE r.id = held.run AND r.status IN ('running', 'collecting')",
            holding_lease!(""),
            add_to_day("SELECT run FROM held", USAGE),
            set_report()
        );
        let connection = self.connection().await?;
        let values = report_values(report);
        write_held(&connection, key, &report_run, &as_params(&values)).await?;
        drop(connection);
        self.wake(Channel::Events);
        Ok(())
    }
}

/// Runs a statement of the form [`holding_lease`]; no row changed means fenced.
async fn write_held(
    connection: &Connection,
    key: RunKey,
    sql: &str,
    more: &[&(dyn ToSql + Sync)],
) -> Result<(), FencedError> {
    let statement = connection.prepare_cached(sql).await?;
    let run = key.run.as_uuid();
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&run, &key.lease.0];
    params.extend_from_slice(more);
    if connection.execute(&statement, &params).await? == 0 {
        return Err(fenced(connection, key).await);
    }
    Ok(())
}

/// The values for [`set_report`].
pub(super) fn report_values(report: &RunReport) -> Vec<Box<dyn ToSql + Sync + Send>> {
    let RunReport { outcome, message, hint, retry_at, usage, session, commit, branch } = report;
    let mut values: Vec<Box<dyn ToSql + Sync + Send>> = vec![
        Box::new(outcome.as_str()),
        Box::new(clean_opt(message.as_deref())),
        Box::new(clean_opt(hint.as_deref())),
        Box::new(*retry_at),
    ];
    for value in usage_values(usage) {
        values.push(Box::new(value));
    }
    for text in [session, commit, branch] {
        values.push(Box::new(clean_opt(text.as_deref())));
    }
    values
}

pub(super) fn as_params(values: &[Box<dyn ToSql + Sync + Send>]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
}
