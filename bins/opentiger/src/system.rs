//! The commands about the system on this machine as a whole.

pub(crate) mod backup;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod gc;
pub(crate) mod status;
pub(crate) mod up;

mod api_server;
mod processes;
mod records;
mod self_test;
mod state;

use client::address::ADDRESS_VARIABLE;

use crate::{failure::Failure, server::Wanted, surroundings::Surroundings};

/// Refuses to start or stop a server that is somewhere else.
fn expect_this_machine(
    what: &str,
    wanted: &Wanted,
    surroundings: &Surroundings,
) -> Result<(), Failure> {
    if !wanted.is_named(surroundings) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "`opentiger {what}` is for the server of this machine's state directory"
    ))
    .with_hint(format!(
        "leave `--api` and `{ADDRESS_VARIABLE}` out; `OPENTIGER_STATE_DIR` names the directory"
    )))
}
