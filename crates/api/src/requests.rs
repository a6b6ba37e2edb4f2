//! What clients send: bodies and queries with their limits.

pub(crate) mod auth;
pub(crate) mod batch;
pub(crate) mod cleanup;
pub(crate) mod config;
pub(crate) mod cursor;
pub(crate) mod diff;
pub(crate) mod filters;
pub(crate) mod gates;
pub(crate) mod log;
pub(crate) mod new_task;
pub(crate) mod paging;
pub(crate) mod processes;
pub(crate) mod retry;
pub(crate) mod self_test;
