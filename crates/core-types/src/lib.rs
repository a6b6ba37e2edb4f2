//! The words every other crate speaks: ids, states and their transitions, outcomes, run events, secrets.
//!
//! Owns meanings only. It does no I/O, knows no runtime, no database and no wire format beyond serde.

pub mod auth;
pub mod choice;
pub mod credential;
pub mod event;
pub mod gate;
pub mod ids;
pub mod label;
pub mod notice;
pub mod outcome;
pub mod process;
pub mod provider;
pub mod readiness;
pub mod repository;
pub mod sandbox;
pub mod secret;
pub mod self_test;
pub mod task;
pub mod usage;
