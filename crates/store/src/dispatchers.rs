//! Dispatchers: who claims, and why one does not. Nothing but reports to people depends on these rows.

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    agents::{HostId, ProcessIdentity, process_from_row},
    error::StoreError,
    pool::{SIGN_OF_LIFE, Store},
    row::{bigint, clean_opt, get},
};

/// A dispatcher that was silent for longer than this is not listed as live, in milliseconds.
pub(crate) const LIVE_FOR_MS: i64 = 10_000;

/// What a dispatcher says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatcherBeat {
    /// Made anew by each process.
    pub id: Uuid,
    /// Where it runs.
    pub host: HostId,
    /// Its process.
    pub process: ProcessIdentity,
    /// Its openTiger.
    pub version: String,
    /// Why it claims nothing; absent while it claims.
    pub paused: Option<String>,
}

/// A dispatcher that gave a sign a short while ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatcher {
    /// What it said of itself.
    pub beat: DispatcherBeat,
    /// When it first gave a sign.
    pub started_at: Timestamp,
    /// When it last gave a sign.
    pub last_beat: Timestamp,
}

impl Store {
    /// Notes a sign of life and tells the time by the database's clock. Served by the primary key.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn dispatcher_beat(&self, beat: &DispatcherBeat) -> Result<Timestamp, StoreError> {
        let DispatcherBeat { id, host, process, version, paused } = beat;
        let connection = self.connection_within(SIGN_OF_LIFE).await?;
        let statement = connection
            .prepare_cached(
                "INSERT INTO dispatchers (id, host, pid, start_ticks, boot_id, version, paused, started_at, last_beat)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp(), clock_timestamp())
                 ON CONFLICT (id) DO UPDATE SET paused = excluded.paused, last_beat = excluded.last_beat
                 RETURNING clock_timestamp() AS now",
            )
            .await?;
        let (pid, start_ticks) = (process.pid, bigint(process.start_ticks));
        let paused = clean_opt(paused.as_deref());
        let row = connection
            .query_one(
                &statement,
                &[id, &host.as_str(), &pid, &start_ticks, &process.boot_id, version, &paused],
            )
            .await?;
        get(&row, "now")
    }

    /// Removes a dispatcher that stops, and those that have been silent for a day.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn retire_dispatcher(&self, id: Uuid) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        connection
            .execute(
                "DELETE FROM dispatchers WHERE id = $1 OR last_beat < clock_timestamp() - interval '1 day'",
                &[&id],
            )
            .await?;
        Ok(())
    }

    /// The dispatchers that are live, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn dispatchers(&self) -> Result<Vec<Dispatcher>, StoreError> {
        let connection = self.connection().await?;
        let rows = connection
            .query(
                "SELECT * FROM dispatchers WHERE last_beat > clock_timestamp() - $1::bigint * interval '1 millisecond'
                 ORDER BY started_at, id LIMIT 1000",
                &[&LIVE_FOR_MS],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Dispatcher {
                    beat: DispatcherBeat {
                        id: get(row, "id")?,
                        host: HostId::new(get::<String>(row, "host")?),
                        process: process_from_row(row)?,
                        version: get(row, "version")?,
                        paused: get(row, "paused")?,
                    },
                    started_at: get(row, "started_at")?,
                    last_beat: get(row, "last_beat")?,
                })
            })
            .collect()
    }
}
