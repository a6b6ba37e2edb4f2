//! Telling people what matters: a webhook, a command, or both, for what the outbox of the database holds.
//!
//! Any number of processes may deliver. Each notice is claimed for a while; whoever dies in between leaves it to the
//! next, under the same id, so that none is lost and a receiver can tell a second copy. It does not decide what is worth
//! a notice (the database writes those, with what makes them true) and shows none.

pub mod deliverer;
pub mod message;
pub mod webhook;

mod command;
