//! Launches in containers, on a real engine.

mod conformance;
mod hardening;
mod support;
