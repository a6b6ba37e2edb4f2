//! A private PostgreSQL for a machine that has none configured, from binaries that are installed already.
//!
//! [`ensure_postgres`](postgres::ensure_postgres) answers with the URL of a running server, whoever started it. The
//! server is launched under one fixed id with a lease that every user renews: any binary may start it, none takes it
//! from the others, and about a minute after the last user is gone it ends by itself, cleanly. A crash is answered by
//! the next user, on the same data.
//!
//! # What it does not do
//! It never stands in for a configured server that is down, downloads nothing, upgrades no data directory, and is
//! reachable on loopback only. It knows no tables.

pub mod error;
pub mod postgres;

mod account;
mod binaries;
mod cluster;
mod database;
mod endpoint;
mod files;
mod init;
mod launch;
mod lock;
mod server;
