//! Runs in sandboxes: the token by which the database knows a run's worker, the login all of them use, what that login
//! can do, and what a run claims to have made.
//!
//! A sandbox is hostile. Its login can call four functions and nothing else that matters, see the migration that makes
//! them; each takes run, number and token. What such a login can still do to others is to take time and connections:
//! it may open a transaction and keep it, with what it has locked, or take a lock that is anybody's to take. So whoever launches sandboxes calls
//! [`Store::end_lingering_sandboxes`] with each look.

pub mod login;
pub mod trial;
pub mod worker;

use std::time::Duration;

use core_types::{
    ids::{RunId, RunKey},
    sandbox::ResultClaim,
    secret::Secret,
};
use rand::TryRngCore as _;

use crate::{
    dispatch::fenced,
    error::{FencedError, StoreError},
    pool::Store,
    row::{get, millis},
};

/// The hash of the token is made by the server, in the same way as the functions do. Served by the primary keys.
const ISSUE: &str = "
    WITH held AS MATERIALIZED (
        SELECT run FROM leases WHERE run = $1 AND number = $2 AND revoked_at IS NULL FOR KEY SHARE
    )
    UPDATE runs r SET token_hash = sha256(convert_to($3, 'UTF8'))
    FROM held WHERE r.id = held.run AND r.status = 'launching'";

/// Sessions of the sandboxes' login in this database that are in one transaction for too long, or have or want a lock of
/// the kind by which programs of ours keep off each other.
const END_LINGERING: &str = "
    SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid)) AS ended
    FROM sandbox_login s JOIN pg_stat_activity a ON a.usename = s.role
    WHERE a.datname = current_database()
        AND (a.xact_start < clock_timestamp() - $1::bigint * interval '1 millisecond'
            OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'))";

impl Store {
    /// Makes the token by which a run's worker in its sandbox is known; a new one replaces the one before. It is worth
    /// nothing once the run is over, and nothing before the run is launched with it. Only its hash is kept.
    ///
    /// # Errors
    /// [`FencedError::Fenced`] where the run is not ours to launch, or is past that.
    pub async fn issue_sandbox_token(&self, key: RunKey) -> Result<Secret, FencedError> {
        let token = random_hex()?;
        let connection = self.connection().await?;
        let statement = connection.prepare_cached(ISSUE).await?;
        let run = key.run.as_uuid();
        let changed =
            connection.execute(&statement, &[&run, &key.lease.0, &token.expose()]).await?;
        if changed == 0 {
            return Err(fenced(&connection, key).await);
        }
        Ok(token)
    }

    /// What a run says is ready to be collected; none before its report, or where there is nothing. What else it said
    /// is in the report of the run.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn result_claim(&self, run: RunId) -> Result<Option<ResultClaim>, StoreError> {
        let connection = self.connection().await?;
        let statement =
            connection.prepare_cached("SELECT result_claim FROM runs WHERE id = $1").await?;
        let row = connection.query_opt(&statement, &[&run.as_uuid()]).await?;
        let claim = row.map(|row| get::<Option<serde_json::Value>>(&row, "result_claim"));
        let claim = claim.transpose()?.flatten().map(serde_json::from_value).transpose();
        claim.map_err(|error| StoreError::corrupt("result_claim", error))
    }

    /// Ends the sessions of sandboxes that have been in one transaction for longer than `limit`: what a worker does takes
    /// milliseconds, and a transaction that is kept holds up whoever wants to end the run. Ends those with an advisory
    /// lock, too: no worker takes one, and one that is kept holds up whoever migrates or manages. Tells how many.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or does not let its owner do so.
    pub async fn end_lingering_sandboxes(&self, limit: Duration) -> Result<u64, StoreError> {
        let connection = self.connection().await?;
        let statement = connection.prepare_cached(END_LINGERING).await?;
        let row = connection.query_one(&statement, &[&millis(limit)]).await?;
        crate::row::number::<i64, u64>(&row, "ended")
    }
}

/// 128 random bits of the system's in hexadecimal digits.
fn random_hex() -> Result<Secret, StoreError> {
    let mut bytes = [0_u8; 16];
    let filled = rand::rngs::OsRng.try_fill_bytes(&mut bytes);
    filled.map_err(|error| StoreError::Unavailable { source: Box::new(error) })?;
    Ok(Secret::new(format!("{:032x}", u128::from_be_bytes(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_128_bits_in_32_digits_and_is_never_the_same() {
        let (one, other) = (random_hex().unwrap(), random_hex().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 32);
        assert!(one.expose().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
