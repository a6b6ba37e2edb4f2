//! The fuzzer of the HTTP API, schemathesis, pinned in `ops/fuzz` and installed into `.opentiger/fuzz` of this workspace.
//!
//! pip checks every file against a hash. Nothing of the system's Python is changed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::{
    commands::{Tool, find_program},
    console::line,
    workspace,
};

/// Whether the pinned version is installed.
#[must_use]
pub(crate) fn are_current() -> bool {
    let stamp = fs::read_to_string(directory().join("stamp")).ok();
    stamp.is_some() && stamp == pins_hash().ok()
}

/// Whether a Python with pip is there to install it.
#[must_use]
pub(crate) fn has_pip() -> bool {
    find_program("python3")
        .is_some_and(|python| Tool::new(python).args(["-m", "pip", "--version"]).output().is_ok())
}

/// Installs the pinned version where it is not there yet. Returns the folder of its Python packages.
pub(crate) fn ensure() -> Result<PathBuf> {
    if !are_current() {
        let folder = workspace::local_dir();
        fs::create_dir_all(&folder).with_context(|| format!("make `{}`", folder.display()))?;
        let lock = File::create(folder.join("fuzz.lock")).context("open the fuzzer's lock")?;
        lock.lock().context("wait for another installation of the fuzzer")?;
        if !are_current() {
            install()?;
        }
    }
    Ok(packages())
}

fn install() -> Result<()> {
    let directory = directory();
    line(format!("installing the fuzzer of the API into `{}`", directory.display()));
    drop(fs::remove_dir_all(&directory));
    fs::create_dir_all(&directory).with_context(|| format!("make `{}`", directory.display()))?;
    Tool::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
        .args(["--root-user-action=ignore", "--require-hashes", "--only-binary=:all:"])
        .args([Path::new("--target"), &packages(), Path::new("--requirement"), &pins()])
        .run()
        .context("install the fuzzer of the API; needs Python 3.10 with pip and the index")?;
    fs::write(directory.join("stamp"), pins_hash()?).context("note what is installed")
}

fn directory() -> PathBuf {
    workspace::local_dir().join("fuzz")
}

fn packages() -> PathBuf {
    directory().join("packages")
}

fn pins() -> PathBuf {
    workspace::root().join("ops/fuzz/requirements.txt")
}

fn pins_hash() -> Result<String> {
    let pins = fs::read(pins()).context("read the fuzzer's pins")?;
    Ok(Sha256::digest(&pins).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_exact_and_has_a_hash() {
        let text = fs::read_to_string(pins()).unwrap();
        let pins: Vec<&str> = text.lines().filter(|line| line.contains("==")).collect();
        assert!(pins.iter().any(|pin| pin.starts_with("schemathesis==")));
        let unhashed = |pin: &&str| !text.contains(&format!("{pin}\n    --hash=sha256:"));
        assert_eq!(pins.into_iter().filter(unhashed).collect::<Vec<_>>(), [""; 0]);
    }
}
