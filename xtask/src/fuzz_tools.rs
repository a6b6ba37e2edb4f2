//! The fuzzer of the HTTP API, schemathesis, pinned in `ops/fuzz` and installed into `.opentiger/fuzz` of this workspace.
//!
//! pip checks every file against a hash. Nothing of the system's Python is changed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    commands::{Tool, find_program},
    pinned::Pinned,
};

pub(crate) const FUZZER: Pinned = Pinned {
    what: "the fuzzer of the API",
    folder: "fuzz",
    pins: "ops/fuzz/requirements.txt",
    install,
};

/// Whether a Python with pip is there to install it.
#[must_use]
pub(crate) fn has_pip() -> bool {
    find_program("python3")
        .is_some_and(|python| Tool::new(python).args(["-m", "pip", "--version"]).output().is_ok())
}

/// Installs the pinned version where it is not there yet. Returns the folder of its Python packages.
pub(crate) fn ensure() -> Result<PathBuf> {
    Ok(packages(&FUZZER.ensure()?))
}

fn install(directory: &Path) -> Result<()> {
    Tool::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
        .args(["--root-user-action=ignore", "--require-hashes", "--only-binary=:all:"])
        .args([Path::new("--target"), &packages(directory)])
        .args([Path::new("--requirement"), &FUZZER.pins()])
        .run()
        .context("run pip; needs Python 3.10 with pip and the index")
}

fn packages(directory: &Path) -> PathBuf {
    directory.join("packages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_exact_and_has_a_hash() {
        let text = std::fs::read_to_string(FUZZER.pins()).unwrap();
        let pins: Vec<&str> = text.lines().filter(|line| line.contains("==")).collect();
        assert!(pins.iter().any(|pin| pin.starts_with("schemathesis==")));
        let unhashed = |pin: &&str| !text.contains(&format!("{pin}\n    --hash=sha256:"));
        assert_eq!(pins.into_iter().filter(unhashed).collect::<Vec<_>>(), [""; 0]);
    }
}
