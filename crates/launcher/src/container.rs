//! The container that a command runs in: image, network, what of the host it sees.
//!
//! It owns the words and their plain checks; what they become is the launcher's answer. How a container is hardened is
//! no choice: see `DockerLauncher`.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{error::LaunchError, spec::UserId};

/// A container to run a command in. Like the rest of a spec it is stored and hashed: no secret belongs here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// The image, as the engine takes it: a name with a tag, a digest, or an id.
    pub image: String,
    /// Whether the image is fetched.
    pub pull: ImagePolicy,
    /// The network's name; `none` is no network.
    pub network: String,
    /// Names that the container's `/etc/hosts` gets.
    pub hosts: BTreeMap<String, IpAddr>,
    /// What of the host's file system it sees.
    pub mounts: Vec<Mount>,
    /// Memory that it sees as directories, empty at the start.
    pub scratch: Vec<Scratch>,
    /// Whether nothing but mounts and scratch can be written.
    pub read_only_root: bool,
}

/// Whether an image is fetched before a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImagePolicy {
    /// What is not there is an error.
    Never,
    /// What is not there is fetched.
    #[default]
    IfMissing,
    /// It is fetched each time; where that fails and an image is there, it is used.
    Always,
}

/// A file or directory of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// On the host, absolute; it has to be there.
    pub source: PathBuf,
    /// In the container, absolute.
    pub target: PathBuf,
    /// Whether the container can only read it.
    pub read_only: bool,
}

/// A directory in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    /// In the container, absolute.
    pub target: PathBuf,
    /// The most that fits into it, in bytes.
    pub size_bytes: u64,
    /// Its mode, such as `0o700`.
    pub mode: u32,
    /// Whose it is; `None` is root's.
    pub owner: Option<UserId>,
    /// Whether programs in it can be executed.
    pub exec: bool,
}

impl ContainerSpec {
    /// A container of an image, fetched where it is missing, on a network, that sees nothing of the host.
    pub fn new(image: impl Into<String>, network: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            pull: ImagePolicy::default(),
            network: network.into(),
            hosts: BTreeMap::new(),
            mounts: Vec::new(),
            scratch: Vec::new(),
            read_only_root: true,
        }
    }

    /// Checks what every engine needs.
    ///
    /// # Errors
    /// [`LaunchError::InvalidSpec`] names the field.
    pub fn validate(&self) -> Result<(), LaunchError> {
        let Self { image, pull: _, network, hosts: _, mounts, scratch, read_only_root: _ } = self;
        for (field, text) in [("container.image", image), ("container.network", network)] {
            if text.is_empty() || text.contains(char::is_whitespace) || text.contains('\0') {
                let why = format!("`{text}` is empty or contains white space");
                return Err(LaunchError::InvalidSpec { field, why });
            }
        }
        let places = mounts.iter().flat_map(|mount| [&mount.source, &mount.target]);
        for path in places.chain(scratch.iter().map(|scratch| &scratch.target)) {
            let text = path.to_string_lossy();
            if !path.is_absolute() || text.contains('\0') {
                let why = format!("`{text}` is not absolute or contains a NUL byte");
                return Err(LaunchError::InvalidSpec { field: "container.mounts", why });
            }
        }
        Ok(())
    }
}
