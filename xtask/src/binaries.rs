//! Builds the programs and says where they are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::commands::Tool;

/// Which build of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build.
    Debug,
    /// Quick to run.
    Release,
}

/// The folder that holds the built programs.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Builds the programs of these packages.
    pub(crate) fn build(packages: &[&str], profile: Profile) -> Result<Self> {
        let mut cargo = Tool::cargo().args(["build", "--locked", "--bins"]);
        for package in packages {
            cargo = cargo.args(["--package", package]);
        }
        if profile == Profile::Release {
            cargo = cargo.args(["--release"]);
        }
        cargo.run().context("build the programs")?;
        Self::of(profile)
    }

    /// The folder where a build of this profile puts its programs.
    pub(crate) fn of(profile: Profile) -> Result<Self> {
        let folder = match profile {
            Profile::Debug => "debug",
            Profile::Release => "release",
        };
        Ok(Self { directory: target_directory()?.join(folder) })
    }

    /// The folder itself.
    #[must_use]
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of a program.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        if !path.is_file() {
            bail!(
                "program `{name}` is not in `{}`; run `cargo build --bins`",
                self.directory.display()
            );
        }
        Ok(path)
    }
}

fn target_directory() -> Result<PathBuf> {
    let metadata = metadata()?;
    let directory = metadata.get("target_directory").and_then(Value::as_str);
    Ok(PathBuf::from(
        directory.context("find `target_directory` in the output of `cargo metadata`")?,
    ))
}

/// What cargo says of the workspace's own packages.
pub(crate) fn metadata() -> Result<Value> {
    let text = Tool::cargo()
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"])
        .output()?;
    serde_json::from_str(&text).context("read the output of `cargo metadata`")
}
