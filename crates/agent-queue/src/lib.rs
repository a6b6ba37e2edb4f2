//! Redis, for speed alone: an agent's inbox, wake-ups, and news of how far a run's events go.
//!
//! Nothing in here is the truth. Every message says "look into the database", may be lost, doubled, late or left over
//! from before, and whoever listens has another wake-up and a timer behind it. So nothing here blocks a start, fails a
//! caller, or waits for Redis: what cannot be sent soon is dropped.
//!
//! # What it does not do
//! It keeps no task, run, event or lease; it starts no server; it never decides what an agent works on. The client
//! library shows in no signature, so that another one can take its place.

pub mod address;
pub mod health;
pub mod inbox;
pub mod queue;
pub mod subscription;

mod keys;
mod link;
mod outbox;
