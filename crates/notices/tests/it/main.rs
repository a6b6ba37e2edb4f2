//! Notices on a real database, to a real receiver and real programs.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod delivering;
mod receiver;
mod world;
