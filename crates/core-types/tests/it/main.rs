//! The decisions of `core-types` over long stretches of time.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail by panicking, their helpers too"
)]

mod gate;
