//! The rows of `system_config` and their history. What a key means and which values it allows is not known here.

use std::collections::BTreeMap;

use deadpool_postgres::{GenericClient as _, Transaction};
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;

use crate::{
    connections::{Connection, Statements},
    error::{MayBeStoreError, StoreError},
    page::{Cursor, Page, clamp},
    pool::Store,
    row::{clean, clean_opt, get},
    wake::Channel,
};

/// The settings in the database.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConfigRows {
    /// Rises with each change.
    pub revision: i64,
    /// Key and value; what is not here has its default.
    pub rows: BTreeMap<String, Value>,
}

/// What shall become of one key.
#[derive(Clone, PartialEq)]
pub struct ConfigUpdate {
    /// The new value; absent removes the row, so that the default holds.
    pub value: Option<Value>,
    /// Whether the history must not show old and new value.
    pub secret: bool,
}

impl std::fmt::Debug for ConfigUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigUpdate").field("secret", &self.secret).finish_non_exhaustive()
    }
}

/// Why no setting was changed.
#[derive(Debug, thiserror::Error)]
pub enum SetConfigError {
    /// Somebody else changed settings in between: read them again.
    #[error("the settings have revision {actual}, not {expected}; read them again")]
    RevisionChanged {
        /// The revision the caller had seen.
        expected: i64,
        /// The revision now.
        actual: i64,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<tokio_postgres::Error> for SetConfigError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

impl MayBeStoreError for SetConfigError {
    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::RevisionChanged { .. } => None,
            Self::Store(error) => Some(error),
        }
    }
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigChange {
    /// The revision it made.
    pub revision: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// Of which key.
    pub key: String,
    /// The value before, masked where it is a secret; absent where there was no row.
    pub old_value: Option<Value>,
    /// The value after, masked where it is a secret; absent where the row was removed.
    pub new_value: Option<Value>,
}

/// What the history shows of a secret.
const MASK: &str = "***";

impl Store {
    /// The settings in the database with their revision, both of the same moment.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn config_rows(&self) -> Result<ConfigRows, StoreError> {
        let connection = self.connection().await?;
        read(&connection).await
    }

    /// The changes of settings, newest first, of all keys or of one. Served by the primary key, and for one key by
    /// `config_audit_by_key`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn config_history(
        &self,
        key: Option<&str>,
        before: Option<Cursor>,
        limit: u32,
    ) -> Result<Page<ConfigChange>, StoreError> {
        let limit = clamp(limit);
        let before = before.map_or(i64::MAX, |cursor| cursor.0);
        let sql = format!(
            "SELECT seq, revision, at, who, key, old_value, new_value FROM config_audit WHERE seq < $1{} ORDER BY seq DESC LIMIT {}",
            if key.is_some() { " AND key = $2" } else { " AND $2::text IS NULL" },
            limit + 1,
        );
        let connection = self.connection().await?;
        let rows = connection.query(&sql, &[&before, &clean_opt(key)]).await?;
        let changes: Result<Vec<_>, StoreError> =
            rows.iter().map(|row| Ok((get(row, "seq")?, change(row)?))).collect();
        Ok(Page::from_one_more(changes?, limit))
    }

    /// Changes settings, all or none, and notes each change in the history. Where every value is there already, the
    /// revision stays.
    ///
    /// # Errors
    /// [`SetConfigError::RevisionChanged`] where `expected_revision` is given and is not the present one.
    pub async fn set_config_rows(
        &self,
        updates: &BTreeMap<String, ConfigUpdate>,
        who: &str,
        expected_revision: Option<i64>,
    ) -> Result<ConfigRows, SetConfigError> {
        let who = clean(who);
        let rows = self
            .retrying(|connection| self.try_set(connection, updates, &who, expected_revision))
            .await?;
        self.wake(Channel::Config);
        Ok(rows)
    }

    async fn try_set(
        &self,
        mut connection: Connection,
        updates: &BTreeMap<String, ConfigUpdate>,
        who: &str,
        expected_revision: Option<i64>,
    ) -> Result<ConfigRows, SetConfigError> {
        let tx = connection.transaction().await?;
        // The row of the revision is locked first: changes happen one after the other.
        let row = tx.query_one("SELECT revision FROM config_revision FOR UPDATE", &[]).await?;
        let actual: i64 = get(&row, "revision")?;
        if let Some(expected) = expected_revision.filter(|expected| *expected != actual) {
            return Err(SetConfigError::RevisionChanged { expected, actual });
        }
        let mut changed = false;
        for (key, update) in updates {
            changed |= apply(&tx, key, update, who, actual + 1).await?;
        }
        if changed {
            tx.execute("UPDATE config_revision SET revision = $1", &[&(actual + 1)]).await?;
        }
        let rows = read(&tx).await?;
        tx.commit().await?;
        Ok(rows)
    }
}

async fn read(client: &impl Statements) -> Result<ConfigRows, StoreError> {
    let rows = client
        .query_cached(
            "SELECT revision, key, value FROM config_revision LEFT JOIN system_config ON true ORDER BY key",
            &[],
        )
        .await?;
    let mut config = ConfigRows::default();
    for row in &rows {
        config.revision = get(row, "revision")?;
        if let Some(key) = get::<Option<String>>(row, "key")? {
            config.rows.insert(key, get(row, "value")?);
        }
    }
    Ok(config)
}

fn change(row: &Row) -> Result<ConfigChange, StoreError> {
    Ok(ConfigChange {
        revision: get(row, "revision")?,
        at: get(row, "at")?,
        who: get(row, "who")?,
        key: get(row, "key")?,
        old_value: get(row, "old_value")?,
        new_value: get(row, "new_value")?,
    })
}

/// Changes one key and says whether that was needed.
async fn apply(
    tx: &Transaction<'_>,
    key: &str,
    update: &ConfigUpdate,
    who: &str,
    revision: i64,
) -> Result<bool, StoreError> {
    let old = tx.query_opt("SELECT value FROM system_config WHERE key = $1", &[&key]).await?;
    let old: Option<Value> = old.as_ref().map(|row| get(row, "value")).transpose()?;
    if old == update.value {
        return Ok(false);
    }
    match &update.value {
        Some(value) => {
            tx.execute(
                "INSERT INTO system_config (key, value, updated_at, updated_by)
                 VALUES ($1, $2, clock_timestamp(), $3)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at,
                     updated_by = excluded.updated_by",
                &[&key, value, &who],
            )
            .await?
        }
        None => tx.execute("DELETE FROM system_config WHERE key = $1", &[&key]).await?,
    };
    let shown = |value: Option<&Value>| -> Option<Value> {
        value.map(|value| if update.secret { Value::from(MASK) } else { value.clone() })
    };
    tx.execute(
        "INSERT INTO config_audit (revision, at, who, key, old_value, new_value)
         VALUES ($1, clock_timestamp(), $2, $3, $4, $5)",
        &[&revision, &who, &key, &shown(old.as_ref()), &shown(update.value.as_ref())],
    )
    .await?;
    Ok(true)
}
