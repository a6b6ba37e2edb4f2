//! One process at a time looks for, makes and starts the server.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::time::Instant;

use crate::error::{EmbeddedError, io_error};

/// How long a process waits for another one: a first start with crash recovery fits in.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it looks. The kernel has no way to wait for a file lock without holding a thread.
const INTERVAL: Duration = Duration::from_millis(20);

/// Held while the server is looked for or started; dropping it lets the next process in.
#[derive(Debug)]
pub(crate) struct StartLock {
    _file: File,
}

impl StartLock {
    pub(crate) async fn take(path: &Path) -> Result<Self, EmbeddedError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(io_error("open", path))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    tokio::time::sleep(INTERVAL).await;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(EmbeddedError::Busy { path: path.to_owned(), waited: PATIENCE });
                }
                Err(error) => return Err(io_error("lock", path)(error.into())),
            }
        }
    }
}
