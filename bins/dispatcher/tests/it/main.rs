//! The whole system as processes: queued tasks to commits, and `kill -9` of each part in the middle of a run.

mod account;
mod http;
mod remotes;
mod system;

mod deaths;
mod docker;
mod docker_self_test;
mod gates;
mod journey;
mod redis;
