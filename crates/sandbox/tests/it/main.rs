//! What a sandbox gets, shown from outside of the crate.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod docker;
mod lending;
mod relaying;
mod rewriting;
mod trusting;
mod viewing;
