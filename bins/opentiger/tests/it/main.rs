//! The command line as its users call it: the built program, and what it starts, in a state directory of the test's own.

mod backup;
mod docker;
mod doctor;
mod documents;
mod gc;
mod journey;
mod logs;
mod page;
mod plain;
mod refusals;
mod remotes;
mod system;
mod terminal;
mod turned_away;
mod units;
mod world;
