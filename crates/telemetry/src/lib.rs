//! What openTiger tells its operators: log lines and the text of error chains.
//!
//! Owns how a line looks. Which lines there are is decided where things happen; metrics and traces are not here yet.

pub mod chain;
pub mod log;
