//! Labels of launches: how whoever did not launch something knows what it is.
//!
//! The launcher gives them no meaning; it keeps them with the launch, before anything runs.

/// Of every launch of a run: the run's id.
pub const RUN: &str = "opentiger.run";
/// Of what works on a run: the fencing number of its claim.
pub const LEASE: &str = "opentiger.lease";
/// Which part of the system it is, or of a run.
pub const PART: &str = "opentiger.part";
/// Of what the process manager launches: the process's name.
pub const PROCESS: &str = "opentiger.process";
/// Of what a check of a login or of a sandbox launches: the process that checks.
pub const CHECK: &str = "opentiger.check";

/// What decides whether an executor works in a sandbox, as it was when the sandbox was made.
pub const SUBJECT: &str = "opentiger.subject";
