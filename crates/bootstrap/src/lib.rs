//! What every binary does first and last: settings, logging, state directory, database, signals, exit code.
//!
//! Owns their order and what stops a start. It does not serve, claim or run anything.

pub mod check;
pub mod environment;
pub mod error;
pub mod exit;
pub mod host;
pub mod once;
pub mod settings;
pub mod signals;
pub mod start;
pub mod whole;

mod publishing;
mod queue;
mod secrecy;
mod servers;
