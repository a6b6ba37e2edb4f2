//! A directory of a check's own, gone with it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use uuid::Uuid;

/// What a check that died left behind is removed after this time; no check lasts so long.
const LEFT_BEHIND: Duration = Duration::from_secs(600);

/// A directory that nobody else can read, removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below `root`, and removes what dead checks left there.
    pub(crate) fn make(root: &Path) -> io::Result<Self> {
        private(root)?;
        sweep(root);
        let path = root.join(Uuid::new_v4().simple().to_string());
        private(&path)?;
        Ok(Self(path))
    }

    /// A directory in it, made where it is missing.
    pub(crate) fn directory(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        private(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is swept up by a later check.
        fs::remove_dir_all(&self.0).ok();
    }
}

pub(crate) fn private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sweep(root: &Path) {
    let now = SystemTime::now();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let made = entry.metadata().and_then(|found| found.modified());
        if made.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > LEFT_BEHIND)) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
