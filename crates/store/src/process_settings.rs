//! What each process has in force of the settings. Nothing but reports to people depends on these rows.
//!
//! What a value is, and how its sum is made, is not known here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::{
    agents::{HostId, ProcessIdentity, process_from_row},
    error::StoreError,
    pool::{SIGN_OF_LIFE, Store},
    row::{bigint, clean, get, json},
};

/// A process that was silent for longer than this is not listed, in milliseconds.
const LIVE_FOR_MS: i64 = 15_000;

/// What a process says of its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSettings {
    /// Made anew by each process.
    pub id: Uuid,
    /// Which of our programs it is.
    pub program: String,
    /// Where it runs.
    pub host: HostId,
    /// Its process.
    pub process: ProcessIdentity,
    /// Its openTiger.
    pub version: String,
    /// The revision of the rows it has in force.
    pub revision: Option<i64>,
    /// The keys its environment sets.
    pub environment: Vec<String>,
    /// For each key a short salted sum of its value.
    pub fingerprints: BTreeMap<String, String>,
}

/// A process that gave a sign a short while ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSettings {
    /// What it said last.
    pub said: ProcessSettings,
    /// When it first gave a sign.
    pub started_at: Timestamp,
    /// When it last gave a sign.
    pub last_beat: Timestamp,
}

impl Store {
    /// What sums of values are salted with in this database.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn settings_salt(&self) -> Result<Vec<u8>, StoreError> {
        let connection = self.connection().await?;
        get(&connection.query_one("SELECT salt FROM settings_salt", &[]).await?, "salt")
    }

    /// Notes what a process has in force, as a sign of life. Served by the primary key.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn publish_settings(&self, said: &ProcessSettings) -> Result<(), StoreError> {
        let ProcessSettings {
            id,
            program,
            host,
            process,
            version,
            revision,
            environment,
            fingerprints,
        } = said;
        let connection = self.connection_within(SIGN_OF_LIFE).await?;
        let statement = connection
            .prepare_cached(
                "INSERT INTO process_settings (id, program, host, pid, start_ticks, boot_id, version, revision,
                     environment, fingerprints, started_at, last_beat)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp(), clock_timestamp())
                 ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, environment = excluded.environment,
                     fingerprints = excluded.fingerprints, last_beat = excluded.last_beat",
            )
            .await?;
        let (pid, start_ticks) = (process.pid, bigint(process.start_ticks));
        connection
            .execute(
                &statement,
                &[
                    id,
                    &clean(program),
                    &host.as_str(),
                    &pid,
                    &start_ticks,
                    &process.boot_id,
                    version,
                    revision,
                    &Json(environment),
                    &Json(fingerprints),
                ],
            )
            .await?;
        Ok(())
    }

    /// Removes a process that stops, and those that have been silent for an hour.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn retire_settings(&self, id: Uuid) -> Result<(), StoreError> {
        let connection = self.connection_within(SIGN_OF_LIFE).await?;
        connection
            .execute(
                "DELETE FROM process_settings WHERE id = $1 OR last_beat < clock_timestamp() - interval '1 hour'",
                &[&id],
            )
            .await?;
        Ok(())
    }

    /// The processes that are live, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn live_settings(&self) -> Result<Vec<LiveSettings>, StoreError> {
        let connection = self.connection().await?;
        let rows = connection
            .query(
                "SELECT * FROM process_settings
                 WHERE last_beat > clock_timestamp() - $1::bigint * interval '1 millisecond'
                 ORDER BY started_at, id LIMIT 1000",
                &[&LIVE_FOR_MS],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(LiveSettings {
                    said: ProcessSettings {
                        id: get(row, "id")?,
                        program: get(row, "program")?,
                        host: HostId::new(get::<String>(row, "host")?),
                        process: process_from_row(row)?,
                        version: get(row, "version")?,
                        revision: get(row, "revision")?,
                        environment: json(row, "environment")?,
                        fingerprints: json(row, "fingerprints")?,
                    },
                    started_at: get(row, "started_at")?,
                    last_beat: get(row, "last_beat")?,
                })
            })
            .collect()
    }
}
