//! Where private servers live, what they are started from, and for how long they stay.

use std::{path::PathBuf, time::Duration};

use launcher::process::ProcessLauncher;

use crate::download::Downloads;

/// How long a server lives after the last renewal.
const LEASE: Duration = Duration::from_secs(60);

/// Whether a commit is on the disk when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives a power cut.
    Full,
    /// Faster, and loses everything at a power cut: for tests.
    Test,
}

/// Where a server lives and how it is found.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The state directory; everything is below its `postgres` and its `redis`.
    pub state_dir: PathBuf,
    /// The directory of PostgreSQL's binaries; none: they are looked for.
    pub bin_dir: Option<PathBuf>,
    /// The program of Redis or Valkey; none: it is looked for.
    pub redis_bin: Option<PathBuf>,
    /// Directories separated by `:` in which binaries are looked for first.
    pub search_path: String,
    /// Whether binaries are looked for where distributions put them, too.
    pub known_places: bool,
    /// What happens where no binaries are installed.
    pub downloads: Downloads,
    /// Whether a commit is on the disk when it is acknowledged.
    pub durability: Durability,
    /// The port on 127.0.0.1; none: the last one if it is free, else any.
    pub port: Option<u16>,
    /// Starts the server. All users of one server need launchers on the same directory.
    pub launcher: ProcessLauncher,
    /// How long the server lives after the last renewal; 60 s unless a test says otherwise.
    pub lease: Duration,
}

impl EmbeddedOptions {
    /// Full durability, any port, installed binaries from `search_path` and the usual places.
    #[must_use]
    pub const fn new(state_dir: PathBuf, search_path: String, launcher: ProcessLauncher) -> Self {
        Self {
            state_dir,
            bin_dir: None,
            redis_bin: None,
            search_path,
            known_places: true,
            downloads: Downloads::Never,
            durability: Durability::Full,
            port: None,
            launcher,
            lease: LEASE,
        }
    }
}
