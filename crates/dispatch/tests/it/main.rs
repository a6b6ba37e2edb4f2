//! Recovery and pauses of the dispatcher, against a real Postgres and real processes.

mod bench;
mod pauses;
mod recovery;
