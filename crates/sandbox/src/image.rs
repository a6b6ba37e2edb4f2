//! The image of a sandbox, as a setting names it and as the engine takes it.

/// The image that documents and the setting's default name.
pub const DOCUMENTED_IMAGE: &str = "openTiger/worker:latest";
/// What it stands for: an engine takes no upper case in a repository's name, or takes `openTiger` for a host.
pub const DEFAULT_IMAGE: &str = "opentiger/worker:latest";

/// The image as the engine takes it. Other names were checked when they were set, and stay as they are.
#[must_use]
pub fn resolved(setting: &str) -> &str {
    if setting == DOCUMENTED_IMAGE { DEFAULT_IMAGE } else { setting }
}

#[cfg(test)]
mod tests {
    use core_config::table::{Fallback, setting};

    use super::*;

    #[test]
    fn the_settings_default_is_the_documented_image() {
        let image = setting("SANDBOX_DOCKER_IMAGE").unwrap();
        assert_eq!(image.default, Fallback::Text(DOCUMENTED_IMAGE));
        assert_eq!(resolved(DOCUMENTED_IMAGE), DEFAULT_IMAGE);
        assert_eq!(resolved("localhost:5000/worker:1"), "localhost:5000/worker:1");
    }
}
