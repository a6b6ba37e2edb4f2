//! What tests of other crates stand on: databases, network faults, scratch repositories, servers of repositories,
//! scripted programs.
//!
//! For tests only; it panics where a test cannot go on, with a text that says what to do. It fakes no part of ours:
//! a fake that has to keep a contract lives beside that contract.

#![expect(
    clippy::panic,
    reason = "a test that cannot go on panics, with a text for the person who reads it"
)]

pub mod account_host;
pub mod database;
pub mod engine;
pub mod git_server;
pub mod programs;
pub mod proxy;
pub mod redis;
pub mod repository;
pub mod samples;
pub mod ssh_server;
pub mod wait;

mod certificate;
mod owner;
mod server;
