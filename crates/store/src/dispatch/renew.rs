//! Renewal: one statement for all the runs of a host.

use std::{collections::HashMap, time::Duration};

use core_types::ids::{LeaseNumber, RunId, RunKey};
use uuid::Uuid;

use crate::{
    connections::Connection,
    error::StoreError,
    pool::{SIGN_OF_LIFE, Store},
    row::{get, millis},
};

/// What became of one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// The run and the lease that were to be renewed.
    pub key: RunKey,
    /// Whether the lease is still held and was not revoked. If not: end the run's processes, write nothing more.
    pub valid: bool,
    /// Whether somebody asked for the task to be cancelled.
    pub cancel_requested: bool,
}

/// Locks in the order of runs, so that two renewals of the same runs cannot block each other. Served by the primary
/// keys of `leases` and `tasks`.
const RENEW: &str = "
    WITH held AS MATERIALIZED (
        SELECT l.run, l.task FROM unnest($1::uuid[], $2::bigint[]) AS asked (run, number)
        JOIN leases l ON l.run = asked.run AND l.number = asked.number
        WHERE l.revoked_at IS NULL
        ORDER BY l.run FOR NO KEY UPDATE OF l
    )
    UPDATE leases l SET expires_at = clock_timestamp() + $3::bigint * interval '1 millisecond'
    FROM held JOIN tasks t ON t.id = held.task
    WHERE l.run = held.run
    RETURNING l.run, l.number, t.cancel_requested_at IS NOT NULL AS cancel_requested";

impl Store {
    /// Renews leases for `lease` from now, by the database's clock; answers for every key, in order.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails; then nothing is known about any of them.
    pub async fn renew_leases(
        &self,
        keys: &[RunKey],
        lease: Duration,
    ) -> Result<Vec<Renewed>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let held = self
            .retrying_within(SIGN_OF_LIFE, |connection| self.try_renew(connection, keys, lease))
            .await?;
        Ok(keys
            .iter()
            .map(|key| Renewed {
                key: *key,
                valid: held.contains_key(key),
                cancel_requested: held.get(key).copied().unwrap_or(false),
            })
            .collect())
    }

    async fn try_renew(
        &self,
        connection: Connection,
        keys: &[RunKey],
        lease: Duration,
    ) -> Result<HashMap<RunKey, bool>, StoreError> {
        let (runs, numbers): (Vec<Uuid>, Vec<i64>) =
            keys.iter().map(|key| (key.run.as_uuid(), key.lease.0)).unzip();
        let statement = connection.prepare_cached(RENEW).await?;
        let rows = connection.query(&statement, &[&runs, &numbers, &millis(lease)]).await?;
        rows.iter()
            .map(|row| {
                let run = RunId::from_uuid(get(row, "run")?);
                let lease = LeaseNumber(get(row, "number")?);
                Ok((RunKey { run, lease }, get(row, "cancel_requested")?))
            })
            .collect()
    }
}
