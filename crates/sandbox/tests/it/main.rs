//! Tests of what a sandbox gets, from outside of the crate.

mod rewriting;
