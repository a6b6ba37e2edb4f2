//! Managed processes: what is wanted of each, and how each stands.
//!
//! Anybody writes wishes. How processes stand is written by the one who manages, and each such write carries the epoch
//! of its [`Managership`](managership::Managership), so that nobody writes who only believes that he manages.

pub mod managership;

use std::collections::BTreeMap;

use core_types::process::{ProcessName, ProcessState, Wanted};
use jiff::Timestamp;
use tokio_postgres::{Row, types::ToSql};

use self::managership::LOCK;
use crate::{
    agents::HostId,
    connections::Statements as _,
    error::StoreError,
    pool::Store,
    row::{bigint, clean_opt, get, number, word},
    wake::Channel,
};

/// What somebody wants of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Whether it shall run.
    pub wanted: Wanted,
    /// Rises whenever somebody asks to start it.
    pub start_number: u64,
    /// Rises whenever somebody asks to restart it.
    pub restart_number: u64,
}

impl Default for Wish {
    /// What holds for a process of which nobody ever wanted anything.
    fn default() -> Self {
        Self { wanted: Wanted::Settings, start_number: 0, restart_number: 0 }
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastExit {
    /// What is known of the end, for people.
    pub outcome: String,
    /// When it was gone.
    pub at: Timestamp,
    /// Whether nobody here had asked it to end.
    pub unasked: bool,
    /// The last lines it wrote, where nobody had asked.
    pub lines: Option<String>,
}

/// How a process stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRow {
    /// On which host it is launched.
    pub host: HostId,
    /// Its name.
    pub name: ProcessName,
    /// Rises with each launch.
    pub generation: u64,
    /// How it stands; neither `idle` nor `skipped`, which are no states of something that was launched.
    pub state: ProcessState,
    /// While it is stopping: whether it is left to end when it has nothing to do.
    pub draining: bool,
    /// The launch id of this generation.
    pub launch: String,
    /// The launcher's record of this generation, once it was accepted.
    pub record: Option<serde_json::Value>,
    /// The process's number while it runs.
    pub pid: Option<i32>,
    /// When this generation was started.
    pub started_at: Option<Timestamp>,
    /// How often it was started after an end that nobody asked for.
    pub restarts: u64,
    /// The same since `window_began`.
    pub attempts: u32,
    /// When the attempts began to be counted.
    pub window_began: Option<Timestamp>,
    /// When it is started again, while it backs off.
    pub next_start: Option<Timestamp>,
    /// The last [`Wish::start_number`] that was followed.
    pub start_seen: u64,
    /// The last [`Wish::restart_number`] that was followed.
    pub restart_seen: u64,
    /// How the last generation that ended did.
    pub last_exit: Option<LastExit>,
    /// Why it stands so, for people.
    pub message: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Who manages processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// On which host.
    pub host: HostId,
    /// Since when.
    pub since: Timestamp,
}

/// Whether a write of the manager counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// It did.
    Yes,
    /// Somebody else manages by now: nothing was changed.
    NotManager,
}

impl Store {
    /// What is wanted of processes, by name; what nobody ever wished is not there.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn process_wishes(&self) -> Result<BTreeMap<ProcessName, Wish>, StoreError> {
        let connection = self.connection().await?;
        let rows = connection.query_cached("SELECT * FROM process_wishes", &[]).await?;
        let mut wishes = BTreeMap::new();
        for row in &rows {
            let wish = Wish {
                wanted: word(row, "wanted")?,
                start_number: number::<i64, u64>(row, "start_number")?,
                restart_number: number::<i64, u64>(row, "restart_number")?,
            };
            wishes.insert(name(row)?, wish);
        }
        Ok(wishes)
    }

    /// How processes stand, on every host, by name and then by the time of the last change, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn processes(&self) -> Result<Vec<ProcessRow>, StoreError> {
        let connection = self.connection().await?;
        let sql = "SELECT * FROM processes ORDER BY name, changed_at DESC, host";
        connection.query_cached(sql, &[]).await?.iter().map(from_row).collect()
    }

    /// Who manages processes now, if somebody does: the lock says so, not the clock.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn process_manager(&self) -> Result<Option<Manager>, StoreError> {
        let connection = self.connection().await?;
        let sql = "SELECT host, since FROM process_manager
            WHERE host IS NOT NULL AND since IS NOT NULL AND EXISTS (
                SELECT FROM pg_locks
                WHERE locktype = 'advisory' AND granted AND objsubid = 1
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND (classid::bigint << 32) + objid::bigint = $1)";
        let rows = connection.query_cached(sql, &[&LOCK]).await?;
        let manager = |row: &Row| {
            Ok(Manager {
                host: HostId::new(get::<String>(row, "host")?),
                since: get(row, "since")?,
            })
        };
        rows.first().map(manager).transpose()
    }

    /// Notes that a process shall run, whatever the settings say. What held it up before is forgotten.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn wish_start(&self, name: ProcessName) -> Result<(), StoreError> {
        let sql = "INSERT INTO process_wishes (name, wanted, start_number, changed_at)
            VALUES ($1, 'running', 1, clock_timestamp())
            ON CONFLICT (name) DO UPDATE SET wanted = 'running',
                start_number = process_wishes.start_number + 1, changed_at = excluded.changed_at";
        self.wish(sql, &[&name.to_string()]).await
    }

    /// Notes that a process shall not run, whatever the settings say.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn wish_stop(&self, name: ProcessName) -> Result<(), StoreError> {
        self.wish_stop_all(&[name]).await
    }

    /// Notes that a process shall end and run again. One that the settings want stays theirs; any other shall run from
    /// now on whatever they say.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn wish_restart(
        &self,
        name: ProcessName,
        settings_want: bool,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO process_wishes (name, wanted, start_number, restart_number, changed_at)
            VALUES ($1, CASE WHEN $2 THEN 'settings' ELSE 'running' END, 1, 1, clock_timestamp())
            ON CONFLICT (name) DO UPDATE SET
                wanted = CASE WHEN $2 AND process_wishes.wanted = 'settings' THEN 'settings' ELSE 'running' END,
                start_number = process_wishes.start_number + 1,
                restart_number = process_wishes.restart_number + 1, changed_at = excluded.changed_at";
        self.wish(sql, &[&name.to_string(), &settings_want]).await
    }

    /// Notes that these processes shall not run, whatever the settings say: all of them or none.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn wish_stop_all(&self, names: &[ProcessName]) -> Result<(), StoreError> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let sql = "INSERT INTO process_wishes (name, wanted, changed_at)
            SELECT name, 'stopped', clock_timestamp() FROM unnest($1::text[]) AS name ORDER BY name
            ON CONFLICT (name) DO UPDATE SET wanted = 'stopped', changed_at = excluded.changed_at";
        self.wish(sql, &[&names]).await
    }

    /// Notes that the settings alone say again what runs. What held a process up before is forgotten.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn wish_settings_for_all(&self) -> Result<(), StoreError> {
        let names: Vec<String> = ProcessName::all().map(|name| name.to_string()).collect();
        let sql = "INSERT INTO process_wishes (name, wanted, start_number, changed_at)
            SELECT name, 'settings', 1, clock_timestamp() FROM unnest($1::text[]) AS name ORDER BY name
            ON CONFLICT (name) DO UPDATE SET wanted = 'settings',
                start_number = process_wishes.start_number + 1, changed_at = excluded.changed_at";
        self.wish(sql, &[&names]).await
    }

    async fn wish(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        connection.execute(sql, params).await?;
        drop(connection);
        self.wake(Channel::Processes);
        Ok(())
    }

    /// Signs off the agents of a process, so that they get no more work, and tells whether one of them has a run in
    /// hand. With an `epoch` that is over none is signed off. Served by `agents_by_process`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn sign_off_agents_of(
        &self,
        epoch: i64,
        host: &HostId,
        name: &str,
        pid: i32,
    ) -> Result<bool, StoreError> {
        let connection = self.connection().await?;
        let host = host.as_str();
        let process: &[&(dyn ToSql + Sync)] = &[&host, &pid, &name];
        connection
            .execute(
                "UPDATE agents SET retired_at = clock_timestamp()
                 FROM (SELECT FROM process_manager WHERE epoch = $4 FOR SHARE) AS manager
                 WHERE agents.host = $1 AND pid = $2 AND name = $3 AND retired_at IS NULL",
                &[&host, &pid, &name, &epoch],
            )
            .await?;
        // A claim that was faster has set the run by now: the update waited for it.
        let busy = connection
            .query_one(
                "SELECT EXISTS (SELECT FROM agents WHERE host = $1 AND pid = $2 AND name = $3 AND run IS NOT NULL)
                     AS busy",
                process,
            )
            .await?;
        get(&busy, "busy")
    }

    /// Writes how a process stands, if `epoch` is still that of the one who manages. The share lock makes a taking-over
    /// wait for writes that are under way, so that it reads what they wrote.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn save_process(&self, epoch: i64, row: &ProcessRow) -> Result<Saved, StoreError> {
        let exit = row.last_exit.as_ref();
        let connection = self.connection().await?;
        let statement = connection.prepare_cached(SAVE).await?;
        let params: &[&(dyn ToSql + Sync)] = &[
            &epoch,
            &row.host.as_str(),
            &row.name.to_string(),
            &bigint(row.generation),
            &row.state.as_str(),
            &row.draining,
            &row.launch,
            &row.record,
            &row.pid,
            &row.started_at,
            &bigint(row.restarts),
            &i32::try_from(row.attempts).unwrap_or(i32::MAX),
            &row.window_began,
            &row.next_start,
            &bigint(row.start_seen),
            &bigint(row.restart_seen),
            &exit.map(|exit| exit.outcome.as_str()),
            &exit.map(|exit| exit.at),
            &exit.map(|exit| exit.unasked),
            &clean_opt(exit.and_then(|exit| exit.lines.as_deref())),
            &clean_opt(row.message.as_deref()),
            &clean_opt(row.hint.as_deref()),
        ];
        let written = connection.execute(&statement, params).await?;
        Ok(if written > 0 { Saved::Yes } else { Saved::NotManager })
    }
}

const SAVE: &str = "
    INSERT INTO processes (host, name, generation, state, draining, launch, record, pid, started_at, restarts, attempts,
        window_began, next_start, start_seen, restart_seen, exit_outcome, exit_at, exit_unasked, exit_lines, message,
        hint, changed_at)
    SELECT $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
        clock_timestamp()
    FROM (SELECT FROM process_manager WHERE epoch = $1 FOR SHARE) AS manager
    ON CONFLICT (host, name) DO UPDATE SET generation = excluded.generation, state = excluded.state,
        draining = excluded.draining, launch = excluded.launch, record = excluded.record, pid = excluded.pid,
        started_at = excluded.started_at, restarts = excluded.restarts, attempts = excluded.attempts,
        window_began = excluded.window_began, next_start = excluded.next_start, start_seen = excluded.start_seen,
        restart_seen = excluded.restart_seen, exit_outcome = excluded.exit_outcome, exit_at = excluded.exit_at,
        exit_unasked = excluded.exit_unasked, exit_lines = excluded.exit_lines, message = excluded.message,
        hint = excluded.hint, changed_at = excluded.changed_at";

fn name(row: &Row) -> Result<ProcessName, StoreError> {
    get::<&str>(row, "name")?.parse().map_err(|error| StoreError::corrupt("name", error))
}

fn from_row(row: &Row) -> Result<ProcessRow, StoreError> {
    let last_exit = match get::<Option<String>>(row, "exit_outcome")? {
        None => None,
        Some(outcome) => Some(LastExit {
            outcome,
            at: get(row, "exit_at")?,
            unasked: get(row, "exit_unasked")?,
            lines: get(row, "exit_lines")?,
        }),
    };
    Ok(ProcessRow {
        host: HostId::new(get::<String>(row, "host")?),
        name: name(row)?,
        generation: number::<i64, u64>(row, "generation")?,
        state: word(row, "state")?,
        draining: get(row, "draining")?,
        launch: get(row, "launch")?,
        record: get(row, "record")?,
        pid: get(row, "pid")?,
        started_at: get(row, "started_at")?,
        restarts: number::<i64, u64>(row, "restarts")?,
        attempts: number::<i32, u32>(row, "attempts")?,
        window_began: get(row, "window_began")?,
        next_start: get(row, "next_start")?,
        start_seen: number::<i64, u64>(row, "start_seen")?,
        restart_seen: number::<i64, u64>(row, "restart_seen")?,
        last_exit,
        message: get(row, "message")?,
        hint: get(row, "hint")?,
    })
}
