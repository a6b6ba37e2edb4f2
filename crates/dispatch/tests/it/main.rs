//! Recovery and pauses of the dispatcher, against a real Postgres and real processes.

mod bench;
mod doubles;
mod janitor;
mod keeping;
mod pauses;
mod proving;
mod pulse;
mod racing;
mod recovery;
mod sandboxed;
