//! The process manager on a real database with real launches; the programs are scripts.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail by panicking, their helpers too"
)]

mod crashes;
mod environment;
mod requests;
mod stage;
mod taking_over;
