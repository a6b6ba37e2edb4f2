//! Tests of what a sandbox gets, from outside of the crate.

mod relaying;
mod rewriting;
mod trusting;
mod viewing;
