//! The life of a run in the database: claim, start, events, report, renewal, finish.
//!
//! Each step is one statement or one transaction, and everything after the claim is fenced: the row of `leases` with
//! run and number is locked or held against deletion while a write happens, so a finish and a late write cannot
//! cross. A lease that has run out but that nobody took back is still a lease: its holder may renew it.
//! One that was revoked is the recoverer's alone, see [`crate::recovery`].

use core_types::ids::{LeaseNumber, RunKey};

use crate::{
    connections::Connection,
    error::{FencedError, StoreError},
    row::get,
};

pub mod claim;
pub mod finish;
pub mod progress;
pub mod renew;
pub mod sandboxed;
pub mod spending;

mod ending;
mod holding;
pub(crate) mod lines;
pub(crate) mod picking;
mod telling;

/// The refusal of a write, with the lease under which the task is held now. Served by the primary key of `runs` and
/// the unique key of `leases`.
pub(crate) async fn fenced(connection: &Connection, key: RunKey) -> FencedError {
    match held_by(connection, key).await {
        Ok(held_by) => FencedError::Fenced { held_by },
        Err(error) => FencedError::Store(error),
    }
}

async fn held_by(connection: &Connection, key: RunKey) -> Result<Option<LeaseNumber>, StoreError> {
    let statement = connection
        .prepare_cached(
            "SELECT number FROM leases
             WHERE task = (SELECT task FROM runs WHERE id = $1) AND revoked_at IS NULL",
        )
        .await?;
    let row = connection.query_opt(&statement, &[&key.run.as_uuid()]).await?;
    row.map(|row| get(&row, "number").map(LeaseNumber)).transpose()
}
