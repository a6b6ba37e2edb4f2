//! Waiting for the end of a process that may not be a child of ours.

use std::io;

use rustix::{
    fd::OwnedFd,
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::io::unix::AsyncFd;

/// A process as a descriptor that becomes readable when the process has ended.
///
/// The caller proves that the number is still the process that is meant *after* this call: from
/// then on the descriptor cannot mean another one.
#[expect(unsafe_code, reason = "there is no safe way to wait for a descriptor of our own")]
pub(crate) fn watch(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` always gives the same open descriptor and closes it only when dropped.
    Ok(unsafe { AsyncFd::register(pidfd) }?)
}
