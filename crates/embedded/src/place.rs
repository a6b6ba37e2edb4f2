//! The directory of one server, who it belongs to, and the lock on its start.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    account::Account,
    error::{EmbeddedError, ServerKind, io_error},
    lock::StartLock,
};

/// The directory of a server and the account that it runs as.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) account: Account,
}

impl Place {
    /// Makes the directory where it is missing, and sees to it that only its owners can use it.
    pub(crate) fn prepare(kind: ServerKind, state_dir: &Path) -> Result<Self, EmbeddedError> {
        let account = Account::choose(kind)?;
        let state_dir = std::path::absolute(state_dir).map_err(io_error("resolve", state_dir))?;
        let directory = state_dir.join(kind.directory());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(io_error("make directory", &directory))?;
        close_to_others(&directory)?;
        account.open_way(&directory, &[&directory, &state_dir])?;
        Ok(Self { directory, account })
    }

    /// Waits until this process alone may look for, make or start the server.
    pub(crate) async fn lock(&self) -> Result<StartLock, EmbeddedError> {
        StartLock::take(&self.directory.join("lock")).await
    }

    pub(crate) fn endpoint_file(&self) -> PathBuf {
        self.directory.join("endpoint.json")
    }
}

/// Others may pass through the directory at most, and it must be ours: who can rename in it could give us another server.
fn close_to_others(directory: &Path) -> Result<(), EmbeddedError> {
    let metadata = fs::metadata(directory).map_err(io_error("look at", directory))?;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Err(EmbeddedError::NotOurs { path: directory.to_owned(), owner, user });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o711 == mode {
        return Ok(());
    }
    let closed = fs::Permissions::from_mode(mode & 0o711);
    fs::set_permissions(directory, closed).map_err(io_error("close", directory))
}
