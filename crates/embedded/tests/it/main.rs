//! The life of the private PostgreSQL with real servers: started once, shared, kept, ended, brought back.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod bench;
mod crash;
mod life;
mod redis;
mod refusals;
mod sharing;
