//! Behaviour of the store against a real Postgres.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail by panicking, their helpers too"
)]

mod agents;
mod areas;
mod backups;
mod cancelling;
mod claiming;
mod cleaning;
mod creating;
mod fencing;
mod filters;
mod finishing;
mod flow;
mod gates;
mod lists;
mod locks;
mod measures;
mod migrating;
mod outages;
mod processes;
mod random;
mod recovering;
mod retrying;
mod revoking;
mod sandboxed;
mod sandboxes;
mod settings;
mod speed;
mod spending;
mod waiting;
mod waking;
mod world;
