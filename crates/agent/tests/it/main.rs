//! One run at a time, from its claim to its end, with agents that behave and agents that do not.

mod behaviour;
mod bench;
mod continuing;
mod interruptions;
mod opencode;
mod outcomes;
mod remotes;
mod roles;
mod spending;
