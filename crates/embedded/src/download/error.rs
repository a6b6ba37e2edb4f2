//! Why no programs were downloaded.

use std::{io, path::PathBuf};

use crate::error::EmbeddedError;

/// Why no programs were downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The settings say so.
    #[error("downloads are not allowed (`OPENTIGER_DOWNLOADS`)")]
    NotAllowed,
    /// No package is known for this kind of machine.
    #[error("there is no package of it for this kind of machine")]
    NoPackage,
    /// There is no Python.
    #[error("`python3` is not installed")]
    NoPython,
    /// Python has no pip.
    #[error("`python3` has no pip")]
    NoPip,
    /// The index was not reached.
    #[error("the package index was not reached: {detail}")]
    NoNetwork {
        /// pip's last words.
        detail: String,
    },
    /// What came is not what it should be.
    #[error("what came as `{package}` is not what it should be: its hash is another one")]
    WrongHash {
        /// The package.
        package: &'static str,
    },
    /// The index has no such package, or pip failed in another way.
    #[error("cannot {doing} `{package}`: {detail}")]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// The package.
        package: &'static str,
        /// Its last words.
        detail: String,
    },
    /// What came does not run here.
    #[error("`{package}` does not run here: {why}")]
    Unusable {
        /// The package.
        package: &'static str,
        /// What it said.
        why: String,
    },
    /// The cache cannot be used.
    #[error("the cache of programs cannot be used")]
    Busy(#[source] Box<EmbeddedError>),
    /// A file could not be read or written.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Makes an error of this module from one of the system.
pub(crate) fn io_error(
    doing: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> DownloadError {
    let path = path.to_owned();
    move |source| DownloadError::Io { doing, path, source }
}
