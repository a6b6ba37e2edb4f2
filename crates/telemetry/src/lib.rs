//! What openTiger tells its operators: log lines and the text of error chains.
//!
//! Owns how a line looks. Which lines there are is decided where things happen. Numbers come from the database (`store`,
//! `api`), and so do traces (`traces`).

pub mod chain;
pub mod log;
