//! One run at a time, from its claim to its end, with agents that behave and agents that do not.

mod behaviour;
mod bench;
mod interruptions;
mod outcomes;
mod remotes;
mod spending;
