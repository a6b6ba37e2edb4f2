//! Runs of a real database, told to a collector on the loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod collector;
mod telling;
mod world;
