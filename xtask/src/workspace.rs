//! Where things are in the workspace.

use std::path::{Path, PathBuf};

/// The root of the workspace this program was built from.
#[must_use]
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies one level below the workspace's root")
}

/// The folder for things installed for this workspace alone; git ignores it.
#[must_use]
pub(crate) fn local_dir() -> PathBuf {
    root().join(".opentiger")
}
