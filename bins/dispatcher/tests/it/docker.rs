//! Tasks in containers: the real dispatcher, engine, image and command line, through the relay to a scripted model.
//!
//! An agent at work is one that waits at a gate: a command that ends as soon as the test puts a file into its checkout.

mod chain;
mod deaths;
mod door;
mod engines;
mod greedy;
mod hostile;
mod logins;
mod opencode;
mod readiness;
mod results;
mod support;
mod surroundings;
mod switch;
mod twins;
mod users;
