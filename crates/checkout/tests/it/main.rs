//! The life of a checkout with the real git: what is prepared, sealed, collected and removed, and what hostile content
//! cannot do to it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod bench;
mod bombs;
mod branch_names;
mod collect;
mod contents;
mod cost;
mod diffs;
mod healing;
mod hostile;
mod inspect;
mod kinds;
mod mirrors;
mod over_https;
mod over_ssh;
mod prepare;
mod remote_bench;
mod results;
mod sandboxed;
mod seal;
