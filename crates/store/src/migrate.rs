//! The schema: migrations under a lock, and a refusal of a database that is newer than this binary.

use std::time::Duration;

use refinery::{Runner, Target};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use crate::{error::StoreError, pool::Store};

/// Names the lock that keeps two migrators apart; refinery has none of its own.
const LOCK: i64 = 0x6f70_656e_5469_6765;
/// How long one migrator waits for another.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// So that the server lets go of the lock of a migrator whose host vanished.
const SESSION: &str =
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The schema's version before; absent for an empty database.
    pub from: Option<u32>,
    /// The schema's version now.
    pub to: u32,
    /// How many migrations were applied by this call.
    pub applied: usize,
}

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A newer openTiger has used this database. Nothing was changed.
    #[error(
        "the database has schema version {database}, this binary knows versions up to {binary}; use the newer openTiger or restore a backup of before"
    )]
    DatabaseNewer {
        /// The schema's version.
        database: u32,
        /// The newest version this binary has.
        binary: u32,
    },
    /// Another process holds the lock.
    #[error("another process has been migrating this database for more than {} s", .waited.as_secs())]
    Locked {
        /// How long this call waited.
        waited: Duration,
    },
    /// The database took the connection and said nothing.
    #[error("the database says nothing for {} s", .waited.as_secs())]
    Silent {
        /// How long this call waited.
        waited: Duration,
    },
    /// A migration failed; it was rolled back, those before it stay.
    #[error("a migration failed")]
    Failed {
        /// Which one and why.
        #[source]
        source: refinery::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Brings the schema up to date; two callers at once apply everything once.
    ///
    /// # Errors
    /// [`MigrateError`]; nothing is changed where the database is newer than this binary.
    pub async fn migrate(&self) -> Result<Migrated, MigrateError> {
        // Nearly every start finds nothing to do; it must not wait for a lock that a stuck process holds.
        if let Some(version) = self.current_version().await? {
            return Ok(Migrated { from: Some(version), to: version, applied: 0 });
        }
        self.migrate_to(Target::Latest).await
    }

    /// Brings an older schema up to a version and no further: what an older binary would have left. For tests of
    /// upgrades.
    ///
    /// # Errors
    /// [`MigrateError`], as [`Store::migrate`].
    pub async fn migrate_up_to(&self, version: u32) -> Result<Migrated, MigrateError> {
        let target = i32::try_from(version).map_or(Target::Latest, Target::Version);
        self.migrate_to(target).await
    }

    async fn migrate_to(&self, target: Target) -> Result<Migrated, MigrateError> {
        // A connection of its own: waiting for the lock and a long migration must not meet the pool's timeouts, and
        // closing it frees the lock however this ends.
        let connecting = timeout(CONNECT_TIMEOUT, self.config().connect(NoTls)).await;
        let connected = connecting.map_err(|_| MigrateError::Silent { waited: CONNECT_TIMEOUT })?;
        let (mut client, connection) = connected.map_err(StoreError::from)?;
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "migration connection ended");
            }
        });
        client.batch_execute(SESSION).await.map_err(StoreError::from)?;
        lock(&client).await?;
        client.batch_execute("SET lock_timeout = '60s'").await.map_err(StoreError::from)?;
        let from = version(&client).await?;
        let runner = embedded::migrations::runner();
        refuse_newer(from, newest(&runner))?;
        let report = runner
            .set_target(target)
            .run_async(&mut client)
            .await
            .map_err(|source| MigrateError::Failed { source })?;
        let to = version(&client).await?.unwrap_or_default();
        Ok(Migrated { from, to, applied: report.applied_migrations().len() })
    }

    /// The version of a schema that has exactly the migrations of this binary; absent for any other.
    async fn current_version(&self) -> Result<Option<u32>, StoreError> {
        if self.schema_version().await?.is_none() {
            return Ok(None);
        }
        let connection = self.connection().await?;
        let rows = connection
            .query("SELECT checksum FROM refinery_schema_history ORDER BY version", &[])
            .await?;
        let applied: Result<Vec<String>, StoreError> =
            rows.iter().map(|row| crate::row::get(row, "checksum")).collect();
        let runner = embedded::migrations::runner();
        let ours = runner.get_migrations().iter().map(|migration| migration.checksum().to_string());
        Ok((applied? == ours.collect::<Vec<_>>()).then(|| newest(&runner)))
    }

    /// The version of the schema; absent for an empty database.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn schema_version(&self) -> Result<Option<u32>, StoreError> {
        let connection = self.connection().await?;
        version(&connection).await
    }

    /// The newest version of the schema that this binary knows.
    #[must_use]
    pub fn newest_schema_version() -> u32 {
        newest(&embedded::migrations::runner())
    }

    /// A short text that changes with every change of a migration: names the template that tests clone.
    #[must_use]
    pub fn schema_fingerprint() -> String {
        let runner = embedded::migrations::runner();
        let checksums = runner.get_migrations().iter().map(|migration| migration.checksum());
        format!("{:016x}", checksums.fold(0_u64, |sum, one| sum.rotate_left(7) ^ one))
    }
}

async fn lock(client: &Client) -> Result<(), MigrateError> {
    tracing::debug!("waiting for the migration lock");
    let locked = client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]);
    match timeout(LOCK_TIMEOUT, locked).await {
        Ok(result) => result.map(drop).map_err(|error| StoreError::from(error).into()),
        Err(_) => Err(MigrateError::Locked { waited: LOCK_TIMEOUT }),
    }
}

async fn version(client: &Client) -> Result<Option<u32>, StoreError> {
    let table = client
        .query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL AS there", &[])
        .await?;
    if !crate::row::get::<bool>(&table, "there")? {
        return Ok(None);
    }
    let row = client
        .query_one("SELECT max(version)::bigint AS version FROM refinery_schema_history", &[])
        .await?;
    crate::row::number_opt::<i64, u32>(&row, "version")
}

fn newest(runner: &Runner) -> u32 {
    let versions = runner.get_migrations().iter().map(|migration| migration.version());
    versions.max().and_then(|version| u32::try_from(version).ok()).unwrap_or_default()
}

fn refuse_newer(database: Option<u32>, binary: u32) -> Result<(), MigrateError> {
    match database {
        Some(database) if database > binary => {
            Err(MigrateError::DatabaseNewer { database, binary })
        }
        _ => Ok(()),
    }
}
