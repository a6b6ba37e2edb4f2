//! The dispatcher: a reconciler whose only input is the database.
//!
//! It recovers what died, then hands ready tasks to idle agents, or has each run in a sandbox and tends it to its end
//! ([`sandboxed`]), as the settings say at that moment. A wake-up only says "look now"; a timer looks
//! anyway. It does not run tasks (`agent`), start agents, or decide what follows from an outcome (`core-types`).
//! Any number of dispatchers may run; killing one at any point loses and doubles nothing.

pub mod claim;
pub mod complaints;
pub mod found;
pub mod gates;
pub mod janitor;
pub mod launches;
pub mod pulse;
pub mod reconciler;
pub mod recovery;
pub mod retention;
pub mod sandboxed;
pub mod take_back;
pub mod view;
