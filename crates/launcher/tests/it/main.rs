//! What launches promise, shown on this machine.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod conformance;
mod descendants;
mod docker;
mod escape;
mod limits;
mod output;
mod recovery;
mod secrets;
mod start;
mod support;
mod tool;
