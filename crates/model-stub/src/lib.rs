//! A scripted Messages API on loopback, for the demo, the self-test and tests that run a real agent without a
//! provider.
//!
//! [`script`] says what the model shall answer, [`server`] answers it. Which turn of a script comes next is read
//! from the conversation that a request carries, so that any number of runs and repeated requests go side by side.
//! It judges no request, knows no prices and listens on loopback only.

mod answer;
mod builtin;
mod conversation;
pub mod login;
pub mod record;
pub mod script;
pub mod server;
