//! What launches under a shim have in common, wherever the shim runs.
//!
//! Directory, records, output, and the handle's view on them. How a shim is started, looked at from
//! outside and killed differs between this machine and a container engine: that is a
//! [`Site`](site::Site), and each launcher brings its own.

pub(crate) mod answers;
pub(crate) mod attach;
pub(crate) mod directory;
pub(crate) mod evidence;
mod follow;
#[expect(dead_code, reason = "the host writes input frames and reads output frames only")]
#[path = "../shim/format.rs"]
pub(crate) mod format;
pub(crate) mod frame;
pub(crate) mod housekeeping;
pub(crate) mod log;
pub(crate) mod procfs;
pub(crate) mod records;
pub(crate) mod site;
pub(crate) mod store;
pub(crate) mod view;
mod watcher;

use std::{io, sync::Arc};

use self::{directory::Directory, records::Intent};
use crate::id::LaunchId;

/// A launch that is there: its directory, held open, and what was to be launched.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) directory: Directory,
    pub(crate) intent: Arc<Intent>,
}

impl Launch {
    pub(crate) fn id(&self) -> &LaunchId {
        &self.intent.id
    }
}

/// Does what may wait for a disk away from the caller's thread, which may be the only one.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}
