//! Keeping what this process knows from other processes of the same user.

use std::io;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Closes `/proc/<pid>/environ`, `/proc/<pid>/mem` and tracing to everybody but root.
///
/// Agents may run under the same user, and the environment holds the database's URL and keys. What is started from
/// here is not closed by it: each program that is executed begins open.
pub(crate) fn hide_memory() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from)
}
