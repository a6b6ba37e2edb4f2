//! All of openTiger's Postgres: schema, statements, transactions, wake-ups.
//!
//! Every function is one statement or one transaction and is named by what it means. The database's clock is the
//! only clock. Every write of a run is fenced: it carries the run and the lease number of its claim, and one with
//! an old number, or of a lease that was revoked, changes nothing and says so. Every call but a migration ends within a
//! deadline, whatever the server does; it then fails as unavailable, and what it began may or may not be done.
//!
//! It decides nothing that `core-types` decides (which step is allowed, what follows from an outcome), starts no
//! process, reads no settings and never waits for work: a wake-up only says "look now".
//!
//! # Order of locks
//! Every transaction that changes tasks takes its locks in this order, so that none waits in a circle:
//! 1. the claim gate (claims only),
//! 2. rows of `tasks` by `seq`, in which parents come before the tasks that depend on them,
//! 3. rows of `leases`,
//! 4. rows of `lanes` by `area`, in a statement of their own; the next statement decides what the area runs,
//! 5. everything else.
//!
//! A claim goes the other way round (`ready`, `lanes`, `tasks`), and may, because it skips what is locked and so
//! never waits while it holds something. Serialisation failures and deadlocks are tried again a few times inside.

pub mod agents;
pub mod backup;
pub mod bell;
pub mod cleanup;
pub mod config_rows;
pub mod dispatch;
pub mod dispatchers;
pub mod error;
pub mod flow;
pub mod gates;
pub mod measures;
pub mod migrate;
pub mod notices;
pub mod page;
pub mod pool;
pub mod process_settings;
pub mod processes;
pub mod recovery;
pub mod runs;
pub mod sandbox;
pub mod self_tests;
pub mod spend;
pub mod tasks;
pub mod traces;
pub mod wake;

mod connections;
mod listing;
mod ready;
mod row;
