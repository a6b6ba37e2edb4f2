//! Git directories made by hand: no template, no hooks, no configuration but our own.

use std::{fs, path::PathBuf};

use crate::{
    error::CheckoutError,
    files::{io_error, make_private_dir, write_new},
    git::{IDENTITY_MAIL, IDENTITY_NAME},
};

/// The hash a repository names its objects with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectFormat {
    Sha1,
    Sha256,
}

impl ObjectFormat {
    /// Digits of an object's file name below its two-digit directory.
    pub(crate) const fn file_digits(self) -> usize {
        match self {
            Self::Sha1 => 38,
            Self::Sha256 => 62,
        }
    }

    /// The name that means "no object".
    pub(crate) fn zero(self) -> String {
        "0".repeat(self.file_digits() + 2)
    }
}

/// A git directory to be made.
#[derive(Debug, Clone)]
pub(crate) struct GitDir {
    pub(crate) path: PathBuf,
    pub(crate) format: ObjectFormat,
    pub(crate) bare: bool,
    /// Another object directory to borrow from, relative to this one's `objects`.
    pub(crate) borrow_from: Option<&'static str>,
    /// What `HEAD` says.
    pub(crate) head: String,
    /// The content of `shallow`, where the history is cut.
    pub(crate) shallow: Option<Vec<u8>>,
    /// The content of `info/exclude`.
    pub(crate) exclude: Option<Vec<u8>>,
}

impl GitDir {
    /// Makes the directory; it must not be there yet.
    pub(crate) fn make(&self) -> Result<(), CheckoutError> {
        make_private_dir(&self.path)?;
        for directory in ["objects", "objects/info", "objects/pack", "refs", "refs/heads", "info"] {
            make_private_dir(&self.path.join(directory))?;
        }
        write_new(&self.path.join("config"), self.config().as_bytes())?;
        write_new(&self.path.join("HEAD"), format!("{}\n", self.head).as_bytes())?;
        if let Some(borrow_from) = self.borrow_from {
            let alternates = format!("{borrow_from}\n");
            write_new(&self.path.join("objects/info/alternates"), alternates.as_bytes())?;
        }
        if let Some(shallow) = &self.shallow {
            write_new(&self.path.join("shallow"), shallow)?;
        }
        if let Some(exclude) = &self.exclude {
            write_new(&self.path.join("info/exclude"), exclude)?;
        }
        Ok(())
    }

    /// Makes a branch by writing its file.
    pub(crate) fn write_branch(&self, name: &str, commit: &str) -> Result<(), CheckoutError> {
        let file = self.path.join("refs/heads").join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(io_error("make directory", parent))?;
        }
        write_new(&file, format!("{commit}\n").as_bytes())
    }

    fn config(&self) -> String {
        let (version, extensions) = match self.format {
            ObjectFormat::Sha1 => (0, ""),
            ObjectFormat::Sha256 => (1, "[extensions]\n\tobjectFormat = sha256\n"),
        };
        format!(
            "[core]\n\trepositoryFormatVersion = {version}\n\tfileMode = true\n\tbare = {bare}\n\
             \tlogAllRefUpdates = true\n{extensions}[user]\n\tname = {IDENTITY_NAME}\n\temail = {IDENTITY_MAIL}\n\
             [commit]\n\tgpgSign = false\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n",
            bare = self.bare,
        )
    }
}
