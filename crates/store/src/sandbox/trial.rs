//! Whether the login of sandboxes does what it is for and nothing else, tried from where a sandbox is.

use core_types::{ids::RunId, secret::Secret};
use tokio_postgres::error::SqlState;

use crate::{
    error::StoreError,
    pool::{ConnectError, PoolOptions, Store},
    row::get,
};

/// A table of openTiger's, wherever its schema is.
const SOME_TABLE: &str = "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relname = 'runs' AND c.relkind IN ('r', 'p') LIMIT 1";

/// How a database received the login of sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// The run's functions can be called, and refuse who has no run.
    pub answers: bool,
    /// The tables are closed to it.
    pub closed: bool,
}

/// Why a login was not tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// It is not let in, or nobody is there.
    #[error("connect to the database")]
    Connect(#[source] ConnectError),
    /// The database failed meanwhile.
    #[error("ask the database")]
    Store(#[source] StoreError),
}

/// Tries a login of sandboxes: calls a function for a run that there is not, and reads a table. Changes nothing.
///
/// # Errors
/// See [`TrialError`].
pub async fn try_login(url: &Secret) -> Result<Trial, TrialError> {
    let options = PoolOptions { max_size: 1, ..PoolOptions::new("openTiger look") };
    let store = Store::connect(url, options).await.map_err(TrialError::Connect)?;
    try_with(&store).await.map_err(TrialError::Store)
}

async fn try_with(store: &Store) -> Result<Trial, StoreError> {
    let connection = store.connection().await?;
    let nobody = RunId::generate().as_uuid();
    let started = connection
        .query_one("SELECT sandbox.start($1, $2, $3) AS held", &[&nobody, &0_i64, &"none"])
        .await;
    let answers = match started {
        Ok(row) => !get::<bool>(&row, "held")?,
        Err(error) if is_denied(&error) => false,
        Err(error) => return Err(error.into()),
    };
    let table = connection.query_opt(SOME_TABLE, &[]).await?;
    let closed = match table.map(|row| get::<String>(&row, "name")).transpose()? {
        None => true,
        Some(name) => match connection.query(&format!("SELECT 1 FROM {name} LIMIT 1"), &[]).await {
            Ok(_) => false,
            Err(error) if is_denied(&error) => true,
            Err(error) => return Err(error.into()),
        },
    };
    Ok(Trial { answers, closed })
}

fn is_denied(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}
