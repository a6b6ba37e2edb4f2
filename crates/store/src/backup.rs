//! The whole database as one file, and back.
//!
//! A backup is read in one transaction, so it is the state of one moment while everybody goes on; nobody waits for it.
//! It holds rows and no schema: whoever restores it makes the schema of the version that the backup has from the
//! migrations, and a newer program migrates it afterwards. So a backup needs no program of the server's, and goes from
//! one version of Postgres to another.
//!
//! A file begins with a line of its own; then come frames: a letter, the length in four bytes, the content. `H` is the head, `T` begins a table,
//! `D` is a part of its rows as the server's `COPY` writes them, `E` is the end: the SHA-256 of everything before. A file
//! that has no end, or another sum, is not restored.
//!
//! Left out is what says who lives in this moment, and the login of sandboxes, whose role belongs to the server.

mod file;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, pin_mut};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::timeout,
};
use tokio_postgres::{Client, IsolationLevel, NoTls, Transaction};

use self::file::{LONGEST, Reader, Writer};
use crate::{
    connections::CONNECT_TIMEOUT, error::StoreError, migrate::MigrateError, pool::Store, row::get,
};

/// Tables whose rows mean nothing elsewhere or later.
const LEFT_OUT: &[&str] =
    &["dispatchers", "process_settings", "refinery_schema_history", "sandbox_login"];
/// Tables that show that a database is in use.
const IN_USE: &[&str] = &["tasks", "runs", "system_config", "config_audit"];

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The version of the schema.
    pub schema: u32,
    /// When it was taken, by the database's clock.
    pub taken_at: String,
    /// How many bytes of rows each table has in it.
    #[serde(skip)]
    pub tables: BTreeMap<String, u64>,
}

/// Why there is no backup, or why it was not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be read or written.
    #[error("the backup cannot be read or written")]
    File(#[from] std::io::Error),
    /// The file is none of ours, or not whole.
    #[error("this is no whole backup: {0}")]
    NotWhole(&'static str),
    /// There is no schema to back up.
    #[error("the database is empty")]
    Empty,
    /// There is something in the database already.
    #[error("the database is in use: there are rows in `{table}`")]
    InUse {
        /// A table with rows.
        table: &'static str,
    },
    /// The backup, or what the database has, is of another version than fits.
    #[error(
        "the backup has schema version {backup}, which does not go into a database of version {database}"
    )]
    Version {
        /// The backup's.
        backup: u32,
        /// The database's, or the newest that this program knows.
        database: u32,
    },
    /// The schema could not be made.
    #[error("the schema cannot be made")]
    Schema(#[source] MigrateError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::File(_) => "see whether there is room, and whether the file may be used",
            Self::NotWhole(_) => "take another file; nothing was changed",
            Self::Empty => "see whether DATABASE_URL names the right database",
            Self::InUse { .. } => {
                "restore into an empty database: make one, and name it in DATABASE_URL"
            }
            Self::Version { .. } => "use the openTiger that made the backup, or an empty database",
            Self::Schema(_) | Self::Store(_) => "see the server's log",
        }
    }
}

impl From<tokio_postgres::Error> for BackupError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A table with its columns that are not computed.
#[derive(Debug, Serialize, Deserialize)]
struct Table {
    name: String,
    columns: Vec<String>,
}

/// Tables in an order in which each comes after those that it refers to, with their columns.
const TABLES: &str = "
    SELECT c.relname::text AS name,
        ARRAY(SELECT a.attname::text FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
            ORDER BY a.attnum) AS columns,
        ARRAY(SELECT DISTINCT f.relname::text FROM pg_constraint k JOIN pg_class f ON f.oid = k.confrelid
            WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid <> c.oid) AS refers_to
    FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' ORDER BY 1";

/// The sequences of columns, each with its column.
const SEQUENCES: &str = "
    SELECT c.relname::text AS name, a.attname::text AS column, pg_get_serial_sequence(c.oid::regclass::text, a.attname) AS sequence
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attidentity <> ''";

impl Store {
    /// Writes everything into a backup, as it is in this moment.
    ///
    /// # Errors
    /// [`BackupError`]; what was written by then is no whole backup.
    pub async fn back_up(
        &self,
        file: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<Contents, BackupError> {
        let schema = self.schema_version().await?.ok_or(BackupError::Empty)?;
        let (mut client, _driver) = self.own_connection().await?;
        let moment = client
            .build_transaction()
            .read_only(true)
            .isolation_level(IsolationLevel::RepeatableRead)
            .start()
            .await?;
        let row = moment.query_one("SELECT clock_timestamp()::text AS at", &[]).await?;
        let mut contents = Contents { schema, taken_at: get(&row, "at")?, tables: BTreeMap::new() };
        let mut out = Writer::begin(file).await?;
        out.frame(b'H', &to_json(&contents)?).await?;
        for table in tables(&moment).await? {
            out.frame(b'T', &to_json(&table)?).await?;
            let bytes = copy_out(&moment, &table, &mut out).await?;
            contents.tables.insert(table.name, bytes);
        }
        out.end().await?;
        Ok(contents)
    }

    /// Fills an empty database from a backup: all of it or nothing. Makes the schema that the backup has.
    ///
    /// # Errors
    /// [`BackupError`]; the database may have the schema then, and no row of the backup.
    pub async fn restore(
        &self,
        file: &mut (impl AsyncRead + Unpin + Send),
    ) -> Result<Contents, BackupError> {
        let mut input = Reader::begin(file).await?;
        let mut contents: Contents = from_json(&input.frame_of(b'H').await?)?;
        self.make_schema(contents.schema).await?;
        let (mut client, _driver) = self.own_connection().await?;
        let all = client.transaction().await?;
        let ours = tables(&all).await?;
        empty(&all, &ours).await?;
        let mut frame = input.frame().await?;
        loop {
            match frame {
                (b'T', head) => {
                    let table: Table = from_json(&head)?;
                    expect_known(&table, &ours)?;
                    let (bytes, next) = copy_in(&all, &table, &mut input).await?;
                    contents.tables.insert(table.name, bytes);
                    frame = next;
                }
                (b'E', sum) if sum == input.sum_before_end() => break,
                (b'E', _) => return Err(BackupError::NotWhole("its checksum is another")),
                _ => return Err(BackupError::NotWhole("a part is out of place")),
            }
        }
        set_sequences(&all).await?;
        for table in &ours {
            all.batch_execute(&format!("ALTER TABLE {} ENABLE TRIGGER USER", quoted(&table.name)))
                .await?;
        }
        all.commit().await?;
        Ok(contents)
    }

    /// Brings an unused database to the version that a backup has.
    async fn make_schema(&self, backup: u32) -> Result<(), BackupError> {
        let newest = Self::newest_schema_version();
        if backup > newest {
            return Err(BackupError::Version { backup, database: newest });
        }
        if let Some(database) = self.schema_version().await? {
            let (client, _driver) = self.own_connection().await?;
            for table in IN_USE {
                let sql = format!(
                    "SELECT to_regclass('{table}') IS NOT NULL AND EXISTS (SELECT FROM {table}) AS used"
                );
                if get(&client.query_one(&sql, &[]).await?, "used")? {
                    return Err(BackupError::InUse { table });
                }
            }
            if database > backup {
                return Err(BackupError::Version { backup, database });
            }
        }
        self.migrate_up_to(backup).await.map_err(BackupError::Schema)?;
        Ok(())
    }

    /// A connection without the pool's deadlines: all of a database takes its time.
    async fn own_connection(&self) -> Result<(Client, JoinSet<()>), BackupError> {
        let connecting = timeout(CONNECT_TIMEOUT, self.config().connect(NoTls)).await;
        let connected =
            connecting.map_err(|elapsed| StoreError::Unavailable { source: Box::new(elapsed) })?;
        let (client, connection) = connected?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "connection of a backup ended");
            }
        });
        Ok((client, driver))
    }
}

/// The tables of the schema that are backed up, each behind those that it refers to.
async fn tables(transaction: &Transaction<'_>) -> Result<Vec<Table>, BackupError> {
    let mut left = Vec::new();
    for row in transaction.query(TABLES, &[]).await? {
        let table = Table { name: get(&row, "name")?, columns: get(&row, "columns")? };
        let refers_to: Vec<String> = get(&row, "refers_to")?;
        if !LEFT_OUT.contains(&table.name.as_str()) {
            left.push((table, refers_to));
        }
    }
    let mut done = BTreeSet::new();
    let mut sorted = Vec::new();
    while !left.is_empty() {
        let is_free = |(_, refers_to): &(Table, Vec<String>)| {
            refers_to.iter().all(|name| done.contains(name))
        };
        let (free, waiting): (Vec<_>, Vec<_>) = left.into_iter().partition(is_free);
        if free.is_empty() {
            return Err(StoreError::corrupt("tables", "they refer to each other").into());
        }
        done.extend(free.iter().map(|(table, _)| table.name.clone()));
        sorted.extend(free.into_iter().map(|(table, _)| table));
        left = waiting;
    }
    Ok(sorted)
}

/// Nothing of the file becomes SQL but names that are there.
fn expect_known(table: &Table, ours: &[Table]) -> Result<(), BackupError> {
    let known = ours.iter().find(|known| known.name == table.name);
    let known = known.ok_or(BackupError::NotWhole("a table is not known"))?;
    if table.columns.iter().all(|column| known.columns.contains(column)) {
        return Ok(());
    }
    Err(BackupError::NotWhole("a column is not known"))
}

async fn copy_out(
    transaction: &Transaction<'_>,
    table: &Table,
    out: &mut Writer<'_, impl AsyncWrite + Unpin + Send>,
) -> Result<u64, BackupError> {
    let rows = transaction.copy_out(&format!("COPY {} TO STDOUT", table.sql())).await?;
    pin_mut!(rows);
    let mut buffer = Vec::with_capacity(LONGEST);
    let mut bytes = 0;
    while let Some(part) = rows.next().await {
        let part = part?;
        bytes += part.len() as u64;
        if buffer.len() + part.len() > LONGEST && !buffer.is_empty() {
            out.frame(b'D', &buffer).await?;
            buffer.clear();
        }
        // A row may be longer than a frame.
        for piece in part.chunks(LONGEST) {
            if buffer.is_empty() && piece.len() == LONGEST {
                out.frame(b'D', piece).await?;
            } else {
                buffer.extend_from_slice(piece);
            }
        }
    }
    if !buffer.is_empty() {
        out.frame(b'D', &buffer).await?;
    }
    Ok(bytes)
}

/// Copies the rows of a table; gives back the frame that comes after them.
async fn copy_in(
    transaction: &Transaction<'_>,
    table: &Table,
    input: &mut Reader<'_, impl AsyncRead + Unpin + Send>,
) -> Result<(u64, (u8, Vec<u8>)), BackupError> {
    let sink = transaction.copy_in(&format!("COPY {} FROM STDIN", table.sql())).await?;
    pin_mut!(sink);
    let mut bytes = 0;
    loop {
        match input.frame().await? {
            (b'D', rows) => {
                bytes += rows.len() as u64;
                sink.send(Bytes::from(rows)).await?;
            }
            next => {
                sink.finish().await?;
                return Ok((bytes, next));
            }
        }
    }
}

/// Removes what a fresh schema has in it, and has no trigger do anything to what comes.
async fn empty(transaction: &Transaction<'_>, tables: &[Table]) -> Result<(), BackupError> {
    let names: Vec<String> = tables.iter().map(|table| quoted(&table.name)).collect();
    transaction.batch_execute(&format!("TRUNCATE {}", names.join(", "))).await?;
    for name in names {
        transaction.batch_execute(&format!("ALTER TABLE {name} DISABLE TRIGGER USER")).await?;
    }
    Ok(())
}

/// Numbers go on behind the highest one that is there.
async fn set_sequences(transaction: &Transaction<'_>) -> Result<(), BackupError> {
    for row in transaction.query(SEQUENCES, &[]).await? {
        let (name, column) = (get::<String>(&row, "name")?, get::<String>(&row, "column")?);
        let sequence: String = get(&row, "sequence")?;
        let sql = format!(
            "SELECT setval($1::text::regclass, coalesce(max({}), 0) + 1, false) FROM {}",
            quoted(&column),
            quoted(&name)
        );
        transaction.execute(&sql, &[&sequence]).await?;
    }
    Ok(())
}

impl Table {
    /// The table with its columns, for `COPY`.
    fn sql(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| quoted(column)).collect();
        format!("{} ({})", quoted(&self.name), columns.join(", "))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, BackupError> {
    serde_json::to_vec(value).map_err(|error| StoreError::corrupt("backup", error).into())
}

fn from_json<T: for<'de> Deserialize<'de>>(text: &[u8]) -> Result<T, BackupError> {
    serde_json::from_slice(text).map_err(|_| BackupError::NotWhole("a part is not understood"))
}
