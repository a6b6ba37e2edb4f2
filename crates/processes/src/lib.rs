//! The process manager: keeps the dispatcher and the resident agents running as settings and people want it.
//!
//! Of all processes that could manage, the holder of one lock in the database does ([`manager`]); any of them answers
//! what is asked and notes what is wanted ([`control`]). Processes are launches, so they outlive whoever started them:
//! the next manager of the same host attaches to them by what the rows say, and learns of an end that nobody watched.
//!
//! State belongs to a launch and not to a name: each start has a generation and a launch id of its own, written down
//! before it is launched, and a late end of an older one changes nothing.
//!
//! It does not know what the processes do, but for one thing: an agent that is one too many is left alone until its run
//! is over. It concludes nothing about launches of another host.

pub mod control;
pub mod info;
pub mod manager;
pub mod programs;

mod desired;
mod launches;
mod reign;
mod restarts;
mod tail;
