//! What clients are sent. Names on the wire are fixed here and nowhere else.

pub(crate) mod agent;
pub(crate) mod auth;
pub(crate) mod cleanup;
pub(crate) mod config;
pub(crate) mod counts;
pub(crate) mod diff;
pub(crate) mod gate;
pub(crate) mod health;
pub(crate) mod log;
pub(crate) mod notice;
pub(crate) mod process;
pub(crate) mod readiness;
pub(crate) mod run;
pub(crate) mod self_test;
pub(crate) mod spend;
pub(crate) mod task;
