//! Another user of the machine, who runs the programs of a test.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::lchown,
    path::{Path, PathBuf},
    process::Command,
};

/// A user of the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    /// A group besides its own, which has the user's number.
    pub(crate) group: Option<u32>,
}

impl Account {
    /// The command that starts a program as this user.
    pub(crate) fn command(account: Option<Self>, program: PathBuf) -> Command {
        let Some(Self { uid, group }) = account else { return errand(program) };
        let mut command = errand("setpriv");
        command.arg(format!("--reuid={uid}")).arg(format!("--regid={uid}"));
        match group {
            Some(group) => command.arg(format!("--groups={group}")),
            None => command.arg("--clear-groups"),
        };
        command.arg(program);
        command
    }
}

fn errand(program: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the test stands in for an operator's shell")]
    Command::new(program)
}

/// Makes a directory with all in it a user's.
pub(crate) fn give(directory: &Path, uid: u32) {
    lchown(directory, Some(uid), Some(uid)).expect("root may give things away");
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            give(&entry.path(), uid);
        } else {
            lchown(entry.path(), Some(uid), Some(uid)).expect("it is there");
        }
    }
}
