//! The gates of executors: their rows. What opens and closes one is decided by [`core_types::gate`].
//!
//! A decision about a gate holds its row locked. It is the last row but what a finish frees that a transaction waits
//! for; a claim never waits for it.

use std::time::Duration;

use core_types::{
    auth::QuotaWindow,
    gate::{Gate, GateState, GateWord, Shut, Streak, checked::CheckEnd},
    ids::RunId,
    provider::Provider,
    task::{ExecutionEnvironment, ExecutorKind, Role},
};
use deadpool_postgres::{GenericClient as _, Transaction};
use jiff::Timestamp;
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use crate::{
    connections::{Connection, Statements as _},
    error::StoreError,
    pool::Store,
    row::{clean_opt, get, json, millis, number, word, word_opt},
    wake::Channel,
};

/// Which runs a gate is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GateKey {
    /// Where they run.
    pub environment: ExecutionEnvironment,
    /// What they run.
    pub executor: ExecutorKind,
    /// Whose model it asks.
    pub provider: Provider,
}

/// A gate as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGate {
    /// Which runs it is for.
    pub key: GateKey,
    /// Where it stands.
    pub gate: Gate,
    /// When that last changed.
    pub changed_at: Timestamp,
    /// The database's clock when it was read.
    pub now: Timestamp,
}

/// What a provider last told of an account's limits.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldQuota {
    /// The gate of the runs that use the account.
    pub key: GateKey,
    /// Each limit.
    pub windows: Vec<QuotaWindow>,
    /// When it was told.
    pub told_at: Timestamp,
}

macro_rules! columns {
    () => {
        "g.environment, g.executor, g.provider, g.state, g.cause, g.failures, g.closures, g.message, g.hint, g.closed_at, g.retry_at,
    g.trial_run, g.trial_since, g.renewed_at, g.changed_at, clock_timestamp() AS now"
    };
}

/// The gate that the end of a run concerns; no row where nothing was ever said about it. Served by the primary keys.
pub(crate) const OF_RUN: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM runs r JOIN tasks t ON t.id = r.task
     JOIN executor_gates g
         ON g.environment = r.environment AND g.executor = t.executor AND g.provider = r.provider
     WHERE r.id = $1"
);

/// Every gate of an environment that is not open, for a claim. Served by the primary key.
pub(crate) const SHUT_IN_ENVIRONMENT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM executor_gates g WHERE g.environment = $1 AND g.state <> 'open'"
);

/// Providers are named by callers, so their gates are not kept for ever: not one that is open or may be tried, was left as
/// it is for long, and before which no task stands. Served by `ready_by_rank` and the primary keys.
const FORGET: &str = "
    DELETE FROM executor_gates g
    WHERE g.provider <> '' AND g.changed_at < clock_timestamp() - $1::bigint * interval '1 millisecond'
        AND (g.state = 'open' OR g.state = 'closed' AND g.retry_at <= clock_timestamp())
        AND NOT EXISTS (
            SELECT FROM ready r
            WHERE r.role = ANY($2) AND r.executor = g.executor AND r.provider IN (g.provider, '')
        )
        AND NOT EXISTS (
            SELECT FROM leases l JOIN runs r ON r.id = l.run
            WHERE r.environment = g.environment AND r.provider = g.provider
        )";

/// Reads a row of `columns!`.
pub(crate) fn from_row(row: &Row) -> Result<StoredGate, StoreError> {
    let state = match word::<GateWord>(row, "state")? {
        GateWord::Open => GateState::Open { streak: streak(row)? },
        GateWord::Closed => GateState::Closed { shut: shut(row)?, retry_at: get(row, "retry_at")? },
        GateWord::Trial => GateState::Trial {
            shut: shut(row)?,
            run: RunId::from_uuid(get(row, "trial_run")?),
            since: get(row, "trial_since")?,
        },
    };
    Ok(StoredGate {
        key: GateKey {
            environment: word(row, "environment")?,
            executor: word(row, "executor")?,
            provider: Provider::named(get(row, "provider")?),
        },
        gate: Gate { state, renewed_at: get(row, "renewed_at")? },
        changed_at: get(row, "changed_at")?,
        now: get(row, "now")?,
    })
}

fn streak(row: &Row) -> Result<Option<Streak>, StoreError> {
    let failures = number::<i32, u32>(row, "failures")?;
    Ok(word_opt(row, "cause")?.map(|cause| Streak { cause, failures }))
}

fn shut(row: &Row) -> Result<Shut, StoreError> {
    Ok(Shut {
        cause: word(row, "cause")?,
        since: get(row, "closed_at")?,
        closures: number::<i32, u32>(row, "closures")?,
        message: get(row, "message")?,
        hint: get(row, "hint")?,
    })
}

impl Store {
    /// Forgets the gates of named providers that nobody used for so long; tells how many. One that is needed again is made
    /// again, open.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn forget_unused_gates(&self, unused: Duration) -> Result<u64, StoreError> {
        let connection = self.connection().await?;
        let statement = connection.prepare_cached(FORGET).await?;
        Ok(connection.execute(&statement, &[&millis(unused), &Role::WORDS]).await?)
    }

    /// Every gate, in a fixed order.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn gates(&self) -> Result<Vec<StoredGate>, StoreError> {
        let connection = self.connection().await?;
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM executor_gates g ORDER BY g.environment, g.executor, g.provider"
        );
        connection.query_cached(sql, &[]).await?.iter().map(from_row).collect()
    }

    /// Has one run of an executor tried now, where its gate is closed; tells how the gate stands then.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn try_gate(&self, key: &GateKey) -> Result<Option<StoredGate>, StoreError> {
        self.change_gate(key, IfMissing::Leave, |gate, now| gate.tried_anew(now)).await
    }

    /// Tells a gate what a check of the login found; tells how the gate stands then. One of which nothing was said so far
    /// is made if the check may close it.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn tell_check(
        &self,
        key: &GateKey,
        end: &CheckEnd<'_>,
    ) -> Result<Option<StoredGate>, StoreError> {
        let if_missing = if end.sign.closes() { IfMissing::Make } else { IfMissing::Leave };
        self.change_gate(key, if_missing, |gate, now| gate.checked(end, now)).await
    }

    /// Keeps what a provider told of an account's limits, in place of what it told before. Served by the primary key.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn note_quota(
        &self,
        key: &GateKey,
        windows: &[QuotaWindow],
    ) -> Result<(), StoreError> {
        let GateKey { environment, executor, provider } = key;
        let connection = self.connection().await?;
        let statement = connection
            .prepare_cached(
                "INSERT INTO account_quotas (environment, executor, provider, windows, told_at)
                 VALUES ($1, $2, $3, $4, clock_timestamp())
                 ON CONFLICT (environment, executor, provider)
                     DO UPDATE SET windows = excluded.windows, told_at = excluded.told_at",
            )
            .await?;
        let (environment, executor) = (environment.as_str(), executor.as_str());
        let provider = provider.as_str();
        connection
            .execute(&statement, &[&environment, &executor, &provider, &Json(windows)])
            .await?;
        Ok(())
    }

    /// What providers last told of their limits, in a fixed order.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn quotas(&self) -> Result<Vec<ToldQuota>, StoreError> {
        let connection = self.connection().await?;
        let sql = "SELECT environment, executor, provider, windows, told_at FROM account_quotas
                   ORDER BY environment, executor, provider";
        let rows = connection.query_cached(sql, &[]).await?;
        let quota = |row: &Row| {
            let (environment, executor) = (word(row, "environment")?, word(row, "executor")?);
            let provider = Provider::named(get(row, "provider")?);
            let key = GateKey { environment, executor, provider };
            Ok(ToldQuota { key, windows: json(row, "windows")?, told_at: get(row, "told_at")? })
        };
        rows.iter().map(quota).collect()
    }

    /// Opens the gate whose trial has lived long enough; tells how the gate stands then.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn settle_trial(&self, key: &GateKey) -> Result<Option<StoredGate>, StoreError> {
        if !self.trial_answered(key).await? {
            return Ok(None);
        }
        self.change_gate(key, IfMissing::Leave, |gate, now| gate.outlived(now)).await
    }

    /// Whether the model has answered in the run that tries this gate. Served by the primary keys.
    async fn trial_answered(&self, key: &GateKey) -> Result<bool, StoreError> {
        let rows = self
            .connection()
            .await?
            .query_cached(
                "SELECT FROM executor_gates g JOIN runs r ON r.id = g.trial_run
                 WHERE g.environment = $1 AND g.executor = $2 AND g.provider = $3 AND r.output_tokens > 0",
                &[&key.environment.as_str(), &key.executor.as_str(), &key.provider.as_str()],
            )
            .await?;
        Ok(!rows.is_empty())
    }

    async fn change_gate(
        &self,
        key: &GateKey,
        if_missing: IfMissing,
        change: impl Fn(&Gate, Timestamp) -> Option<Gate> + Copy,
    ) -> Result<Option<StoredGate>, StoreError> {
        let (gate, changed) =
            self.retrying(|connection| try_change(connection, key, if_missing, change)).await?;
        if changed {
            self.wake(Channel::Tasks);
        }
        Ok(gate)
    }
}

/// What becomes of a gate without a row.
#[derive(Debug, Clone, Copy)]
enum IfMissing {
    /// It is open, and stays so.
    Leave,
    /// It gets one.
    Make,
}

async fn try_change(
    mut connection: Connection,
    key: &GateKey,
    if_missing: IfMissing,
    change: impl Fn(&Gate, Timestamp) -> Option<Gate>,
) -> Result<(Option<StoredGate>, bool), StoreError> {
    let tx = connection.transaction().await?;
    let locked = match if_missing {
        IfMissing::Leave => lock(&tx, key).await?,
        IfMissing::Make => lock_or_make(&tx, key).await?,
    };
    let Some(mut stored) = locked else {
        return Ok((None, false));
    };
    let Some(gate) = change(&stored.gate, stored.now) else {
        return Ok((Some(stored), false));
    };
    write(&tx, key, &gate).await?;
    tx.commit().await?;
    stored.gate = gate;
    Ok((Some(stored), true))
}

/// Reads a gate and keeps others from it until the transaction ends.
pub(crate) async fn lock(
    tx: &Transaction<'_>,
    key: &GateKey,
) -> Result<Option<StoredGate>, StoreError> {
    let statement = tx
        .prepare_cached(concat!(
            "SELECT ",
            columns!(),
            " FROM executor_gates g WHERE g.environment = $1 AND g.executor = $2 AND g.provider = $3 FOR NO KEY UPDATE"
        ))
        .await?;
    let GateKey { environment, executor, provider } = key;
    let params = [&environment.as_str() as _, &executor.as_str() as _, &provider.as_str() as _];
    tx.query_opt(&statement, &params).await?.as_ref().map(from_row).transpose()
}

/// Like [`lock`], and makes the row of a gate of which nothing was said so far: an open one, as old as can be, for what
/// any run says is new to it.
pub(crate) async fn lock_or_make(
    tx: &Transaction<'_>,
    key: &GateKey,
) -> Result<Option<StoredGate>, StoreError> {
    if let Some(stored) = lock(tx, key).await? {
        return Ok(Some(stored));
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO executor_gates (environment, executor, provider, renewed_at, changed_at)
             VALUES ($1, $2, $3, to_timestamp(0), clock_timestamp()) ON CONFLICT DO NOTHING",
        )
        .await?;
    let GateKey { environment, executor, provider } = key;
    tx.execute(&statement, &[&environment.as_str(), &executor.as_str(), &provider.as_str()])
        .await?;
    lock(tx, key).await
}

/// Reads a closed gate that lets a run through, and keeps others from it; nothing where somebody else decides about it.
pub(crate) async fn lock_due(
    tx: &Transaction<'_>,
    environment: ExecutionEnvironment,
) -> Result<Vec<StoredGate>, StoreError> {
    let statement = tx
        .prepare_cached(concat!(
            "SELECT ",
            columns!(),
            " FROM executor_gates g
              WHERE g.environment = $1 AND g.state = 'closed' AND g.retry_at <= clock_timestamp()
              ORDER BY g.executor, g.provider FOR NO KEY UPDATE SKIP LOCKED"
        ))
        .await?;
    tx.query(&statement, &[&environment.as_str()]).await?.iter().map(from_row).collect()
}

/// Writes a gate that is locked. Served by the primary key.
pub(crate) async fn write(
    tx: &Transaction<'_>,
    key: &GateKey,
    gate: &Gate,
) -> Result<(), StoreError> {
    let statement = tx
        .prepare_cached(
            "UPDATE executor_gates SET state = $3, cause = $4, failures = $5, closures = $6, message = $7, hint = $8,
                 closed_at = $9, retry_at = $10, trial_run = $11, trial_since = $12, renewed_at = $13,
                 changed_at = CASE WHEN state = $3 AND retry_at IS NOT DISTINCT FROM $10 THEN changed_at
                     ELSE clock_timestamp() END
             WHERE environment = $1 AND executor = $2 AND provider = $14",
        )
        .await?;
    let Columns { cause, failures, shut, retry_at, trial } = Columns::of(&gate.state);
    let (trial_run, trial_since): (Option<Uuid>, Option<Timestamp>) = trial.unzip();
    tx.execute(
        &statement,
        &[
            &key.environment.as_str(),
            &key.executor.as_str(),
            &gate.state.word().as_str(),
            &cause,
            &i32::try_from(failures).unwrap_or(i32::MAX),
            &shut.map_or(0, |shut| i32::try_from(shut.closures).unwrap_or(i32::MAX)),
            &clean_opt(shut.and_then(|shut| shut.message.as_deref())),
            &clean_opt(shut.and_then(|shut| shut.hint.as_deref())),
            &shut.map(|shut| shut.since),
            &retry_at,
            &trial_run,
            &trial_since,
            &gate.renewed_at,
            &key.provider.as_str(),
        ],
    )
    .await?;
    Ok(())
}

/// What a state puts into its columns.
struct Columns<'a> {
    cause: Option<&'static str>,
    failures: u32,
    shut: Option<&'a Shut>,
    retry_at: Option<Timestamp>,
    trial: Option<(Uuid, Timestamp)>,
}

impl<'a> Columns<'a> {
    fn of(state: &'a GateState) -> Self {
        let empty = Self { cause: None, failures: 0, shut: None, retry_at: None, trial: None };
        match state {
            GateState::Open { streak } => Self {
                cause: streak.map(|streak| streak.cause.as_str()),
                failures: streak.map_or(0, |streak| streak.failures),
                ..empty
            },
            GateState::Closed { shut, retry_at } => Self {
                cause: Some(shut.cause.as_str()),
                shut: Some(shut),
                retry_at: Some(*retry_at),
                ..empty
            },
            GateState::Trial { shut, run, since } => Self {
                cause: Some(shut.cause.as_str()),
                shut: Some(shut),
                trial: Some((run.as_uuid(), *since)),
                ..empty
            },
        }
    }
}
