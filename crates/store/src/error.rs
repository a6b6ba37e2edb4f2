//! What can go wrong with the database, by what the caller can do about it.
//!
//! Owns the mapping from SQLSTATE to a kind of failure. It does not log: whoever deals with an error does.

use std::{error::Error, io};

use core_types::ids::LeaseNumber;
use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

/// Why an operation on the database failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or the server starts, stops or has no room; the same call may work in a moment.
    #[error("the database is not available")]
    Unavailable {
        /// What the driver or the pool said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server answers but takes no writes (a standby after a fail-over); its connections were discarded.
    #[error("the database takes no writes")]
    ReadOnly {
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Other transactions were in the way again and again.
    #[error("other transactions were in the way")]
    Contended {
        /// What the server said the last time.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A table or column is missing: the schema is of another version. Run the migrations.
    #[error("the database's schema does not fit this version")]
    WrongSchema {
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A row holds what no part of this version writes.
    #[error("column `{column}` holds a value that this version does not understand")]
    Corrupt {
        /// The column.
        column: &'static str,
        /// Why it is not understood.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server refused the statement: a missing grant, or a fault in openTiger.
    #[error("the database refused a statement")]
    Refused {
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl StoreError {
    /// Whether the same call may work later without anybody changing something.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::ReadOnly { .. } | Self::Contended { .. } => true,
            Self::WrongSchema { .. } | Self::Corrupt { .. } | Self::Refused { .. } => false,
        }
    }

    /// A row that holds what this version does not understand.
    pub(crate) fn corrupt(
        column: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Corrupt { column, source: source.into() }
    }

    /// Another transaction did the same at the same time; trying again will see what it did.
    pub(crate) fn raced(what: &'static str) -> Self {
        Self::Contended { source: what.into() }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match kind_of(&error) {
            Kind::Unavailable => Self::Unavailable { source: Box::new(error) },
            Kind::ReadOnly => Self::ReadOnly { source: error },
            Kind::Contended => Self::Contended { source: Box::new(error) },
            Kind::WrongSchema => Self::WrongSchema { source: error },
            Kind::Refused => Self::Refused { source: error },
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => match Self::from(error) {
                refused @ (Self::Refused { .. } | Self::WrongSchema { .. }) => refused,
                other => Self::Unavailable { source: Box::new(other) },
            },
            other @ (PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_)) => Self::Unavailable { source: Box::new(other) },
        }
    }
}

/// Why a write of a run changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum FencedError {
    /// The run is over or belongs to somebody else: stop its processes, write nothing more.
    #[error("the run is no longer held under this lease{}", held(.held_by))]
    Fenced {
        /// The lease number under which the task is held now, if it is held.
        held_by: Option<LeaseNumber>,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn held(by: &Option<LeaseNumber>) -> String {
    by.map(|number| format!("; its task is held under lease `{number}`")).unwrap_or_default()
}

impl From<tokio_postgres::Error> for FencedError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

/// An error that may carry a [`StoreError`]; what the retry loop looks at.
pub(crate) trait MayBeStoreError {
    fn store_error(&self) -> Option<&StoreError>;
}

impl MayBeStoreError for StoreError {
    fn store_error(&self) -> Option<&StoreError> {
        Some(self)
    }
}

impl MayBeStoreError for FencedError {
    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Fenced { .. } => None,
            Self::Store(error) => Some(error),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unavailable,
    ReadOnly,
    Contended,
    WrongSchema,
    Refused,
}

fn kind_of(error: &tokio_postgres::Error) -> Kind {
    if let Some(state) = error.code() {
        return kind_of_state(state);
    }
    let is_io = error.source().is_some_and(|source| source.is::<io::Error>());
    if error.is_closed() || is_io { Kind::Unavailable } else { Kind::Refused }
}

/// Appendix A of the Postgres manual: 08 connection, 53 resources, 57 operator intervention.
fn kind_of_state(state: &SqlState) -> Kind {
    match state.code() {
        "25006" => Kind::ReadOnly,
        "40001" | "40P01" | "55P03" => Kind::Contended,
        "42P01" | "42703" | "42883" | "3F000" => Kind::WrongSchema,
        code if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            Kind::Unavailable
        }
        // Idle in a transaction for too long: this process was stopped for a while.
        "25P03" => Kind::Unavailable,
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_a_server_goes_away_is_transient() {
        for code in ["57P01", "57P02", "57P03", "08006", "53300", "57014", "25P03", "58030"] {
            assert_eq!(kind_of_state(&SqlState::from_code(code)), Kind::Unavailable, "{code}");
        }
    }

    #[test]
    fn deadlocks_are_contended_and_faults_of_ours_are_refused() {
        assert_eq!(kind_of_state(&SqlState::T_R_DEADLOCK_DETECTED), Kind::Contended);
        assert_eq!(kind_of_state(&SqlState::READ_ONLY_SQL_TRANSACTION), Kind::ReadOnly);
        assert_eq!(kind_of_state(&SqlState::UNDEFINED_TABLE), Kind::WrongSchema);
        assert_eq!(kind_of_state(&SqlState::UNIQUE_VIOLATION), Kind::Refused);
        assert_eq!(kind_of_state(&SqlState::SYNTAX_ERROR), Kind::Refused);
    }
}
