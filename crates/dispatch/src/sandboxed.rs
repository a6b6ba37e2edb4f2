//! Runs in sandboxes, from claim to finish.
//!
//! Each run is tended by one dispatcher of its host, in a task of its own: prepare the checkout, launch, watch, collect,
//! push, finish, remove ([`tending`]). Every step can be found again from the database, the launcher and the checkout's
//! record, so a dispatcher that takes over goes on where another one stopped ([`tenders`]). Only the end of the container
//! and what it left count; what the sandbox says of itself is a claim ([`ending`]).
//!
//! What a sandbox looks like is not known here: an [`outfit::Outfitter`] says it.

pub mod containers;
pub mod demand;
pub mod ending;
pub mod outfit;
pub mod readiness;
pub mod self_test;
pub mod self_tests;
pub mod sessions;
pub mod tenders;
pub mod tending;
