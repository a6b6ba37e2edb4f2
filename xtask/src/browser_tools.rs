//! What the tests of the dashboard have besides a browser: axe-core, which checks a page for what keeps people out. Pinned
//! in `ops/browser` and installed into `.opentiger/browser` of this workspace.
//!
//! npm checks it against the hash in the lock file; no script of a package runs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{commands::Tool, pinned::Pinned, workspace};

pub(crate) const CHECKER: Pinned = Pinned {
    what: "the checker of accessibility",
    folder: "browser",
    pins: "ops/browser/package-lock.json",
    install,
};

/// Installs the pinned version where it is not there yet. Returns the script that is given to pages.
pub(crate) fn ensure() -> Result<PathBuf> {
    Ok(CHECKER.ensure()?.join("node_modules/axe-core/axe.min.js"))
}

fn install(directory: &Path) -> Result<()> {
    for name in ["package.json", "package-lock.json"] {
        fs::copy(workspace::root().join("ops/browser").join(name), directory.join(name))
            .with_context(|| format!("copy `{name}`"))?;
    }
    Tool::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"])
        .args(["--loglevel=error"])
        .directory(directory)
        .run()
        .context("run npm; needs version 7 or newer and the registry")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_pin_is_exact_and_the_lock_holds_its_hash() {
        let read = |path: PathBuf| -> Value {
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
        };
        let wanted = read(workspace::root().join("ops/browser/package.json"));
        let lock = read(CHECKER.pins());
        let locked = lock.pointer("/packages/node_modules~1axe-core").unwrap();
        assert_eq!(locked.get("version"), wanted.pointer("/dependencies/axe-core"));
        let integrity = locked.get("integrity").and_then(Value::as_str).unwrap_or_default();
        assert!(integrity.starts_with("sha512-"), "{locked}");
        assert_eq!(lock.get("packages").and_then(Value::as_object).map(|all| all.len()), Some(2));
    }
}
