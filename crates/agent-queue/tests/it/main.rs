//! Messages through a real Redis that is there, away, slow, emptied or wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod bench;
mod inboxes;
mod outages;
mod topics;
