//! Which paths of this host a task may name.

use std::path::{Path, PathBuf};

use crate::error::CheckoutError;

/// The directories below which repositories may lie. Empty: anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedRoots(Vec<PathBuf>);

impl AllowedRoots {
    /// Wraps the configured directories. One that does not exist allows nothing.
    #[must_use]
    pub const fn new(roots: Vec<PathBuf>) -> Self {
        Self(roots)
    }

    /// Checks that a path lies below one of the roots, with every symbolic link on both sides resolved, and returns
    /// the resolved path. A root itself counts as below.
    ///
    /// # Errors
    /// [`CheckoutError::PathNotAbsolute`], [`CheckoutError::PathMissing`], [`CheckoutError::PathUnreadable`] where
    /// the path cannot be resolved; [`CheckoutError::OutsideAllowedRoots`].
    pub fn check(&self, path: &Path) -> Result<PathBuf, CheckoutError> {
        let resolved = resolve(path)?;
        let below =
            |root: &PathBuf| root.canonicalize().is_ok_and(|root| resolved.starts_with(root));
        if self.0.is_empty() || self.0.iter().any(below) {
            return Ok(resolved);
        }
        let allowed: Vec<String> = self.0.iter().map(|root| root.display().to_string()).collect();
        Err(CheckoutError::OutsideAllowedRoots {
            path: path.to_owned(),
            allowed: allowed.join(", "),
        })
    }
}

fn resolve(path: &Path) -> Result<PathBuf, CheckoutError> {
    if !path.is_absolute() {
        return Err(CheckoutError::PathNotAbsolute { path: path.to_owned() });
    }
    path.canonicalize().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            CheckoutError::PathMissing { path: path.to_owned() }
        }
        _ => CheckoutError::PathUnreadable { path: path.to_owned(), source },
    })
}
