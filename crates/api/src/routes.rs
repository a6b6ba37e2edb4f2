//! The handlers. Each reads its request, asks `store`, and makes a view of the answer.

pub(crate) mod agents;
pub(crate) mod auth;
pub(crate) mod changing;
pub(crate) mod cleanup;
pub(crate) mod config;
pub(crate) mod creation;
pub(crate) mod diff;
pub(crate) mod events;
pub(crate) mod gates;
pub(crate) mod health;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod notices;
pub(crate) mod processes;
pub(crate) mod readiness;
pub(crate) mod runs;
pub(crate) mod self_tests;
pub(crate) mod spend;
pub(crate) mod tasks;
