//! Launches in containers, on a real engine.

mod conformance;
mod death;
mod engine;
mod facts;
mod fetching;
mod hardening;
mod limits;
mod recovery;
mod refusals;
mod support;
