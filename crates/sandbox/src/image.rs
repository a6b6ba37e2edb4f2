//! The image of a sandbox, as a setting names it and as the engine takes it.

/// The image that documents and the setting's default name.
pub const DOCUMENTED_IMAGE: &str = "openTiger/worker:latest";
/// What it stands for: an engine takes no upper case in a repository's name, or takes `openTiger` for a host.
pub const DEFAULT_IMAGE: &str = "opentiger/worker:latest";
