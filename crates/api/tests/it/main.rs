//! The API over a real connection, on a real database, with real git repositories.

mod access;
mod agent;
mod auth;
mod bad_input;
mod breaker;
mod cleanup;
mod config;
mod dashboard;
mod diffs;
mod documents;
mod errors;
mod events;
mod filters;
mod gates;
mod logs;
mod metrics;
mod notices;
mod outages;
mod pages;
mod processes;
mod redis;
mod retry;
mod self_tests;
mod support;
mod system;
mod tasks;
