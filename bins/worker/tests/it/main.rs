//! Tests of `worker once`: launched as a sandbox launches it, without a container.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail by panicking, their helpers too"
)]

mod behaviour;
mod bench;
