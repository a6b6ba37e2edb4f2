//! One process at a time looks for, makes and starts a server, or fills the cache of programs.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::time::Instant;

use crate::{
    download::DOWNLOAD_TIMEOUT,
    error::{EmbeddedError, io_error},
    postgres::init::INIT_TIMEOUT,
    server::READY_TIMEOUT,
};

/// How long a process waits for another one: longer than that one may take for a first start.
const PATIENCE: Duration = DOWNLOAD_TIMEOUT
    .saturating_add(INIT_TIMEOUT)
    .saturating_add(READY_TIMEOUT)
    .saturating_add(Duration::from_secs(60));
/// A wait that is longer than most starts is told.
const TOLD_AFTER: Duration = Duration::from_secs(10);
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
        let begun = Instant::now();
        let mut is_told = false;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => {
                    if begun.elapsed() > TOLD_AFTER && !std::mem::replace(&mut is_told, true) {
                        tracing::info!("waiting for another process that starts a private server");
                    }
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
