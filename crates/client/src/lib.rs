//! A client of the HTTP API: requests with JSON in and out, and a run's events as they come.
//!
//! Owns how a server is found, how a caller shows who it is, what an error of the server means to a program, and how a
//! stream of events is taken up again where it broke, and what an event says to people. It knows no other route than that of
//! readiness, and no resource: answers are JSON, and what they mean is the caller's business.

pub mod address;
pub mod client;
pub mod credentials;
pub mod error;
pub mod follow;
pub mod readiness;
pub mod telling;

mod frames;
