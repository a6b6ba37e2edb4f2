//! Tools of the tests that are pinned by hash under `ops` and installed into a folder of this workspace, once for each
//! change of their pins. Knows nothing of how one is installed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::{console::line, workspace};

/// A pinned tool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pinned {
    /// What it is, in words.
    pub what: &'static str,
    /// The name of its folder in `.opentiger`.
    pub folder: &'static str,
    /// The file that holds its hashes, in this workspace.
    pub pins: &'static str,
    /// Installs it into an empty folder.
    pub install: fn(&Path) -> Result<()>,
}

impl Pinned {
    /// Whether the pinned version is installed.
    #[must_use]
    pub(crate) fn is_current(&self) -> bool {
        let stamp = fs::read_to_string(self.directory().join("stamp")).ok();
        stamp.is_some() && stamp == self.hash().ok()
    }

    /// Installs the pinned version where it is not there yet. Returns its folder.
    pub(crate) fn ensure(&self) -> Result<PathBuf> {
        if !self.is_current() {
            let local = workspace::local_dir();
            fs::create_dir_all(&local).with_context(|| format!("make `{}`", local.display()))?;
            let lock = File::create(local.join(format!("{}.lock", self.folder)));
            let lock = lock.with_context(|| format!("open the lock of {}", self.what))?;
            lock.lock()
                .with_context(|| format!("wait for another installation of {}", self.what))?;
            if !self.is_current() {
                self.install()?;
            }
        }
        Ok(self.directory())
    }

    fn install(&self) -> Result<()> {
        let directory = self.directory();
        line(format!("installing {} into `{}`", self.what, directory.display()));
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(&directory)
            .with_context(|| format!("make `{}`", directory.display()))?;
        (self.install)(&directory).with_context(|| format!("install {}", self.what))?;
        fs::write(directory.join("stamp"), self.hash()?).context("note what is installed")
    }

    /// The file that holds its hashes.
    #[must_use]
    pub(crate) fn pins(&self) -> PathBuf {
        workspace::root().join(self.pins)
    }

    fn directory(&self) -> PathBuf {
        workspace::local_dir().join(self.folder)
    }

    fn hash(&self) -> Result<String> {
        let pins = fs::read(self.pins()).with_context(|| format!("read `{}`", self.pins))?;
        Ok(Sha256::digest(&pins).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
