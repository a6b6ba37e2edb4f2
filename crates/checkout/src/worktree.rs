//! Decides, path by path, what of a work tree goes into the result. Looks at files without opening one.
//!
//! The work tree was written by code that may be hostile, and everything that wrote it is dead by now. Paths are bytes;
//! no symbolic link is followed.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::FileTypeExt as _},
    path::{Path, PathBuf},
};

use crate::{checkouts::Limits, error::CheckoutError};

/// Most notices that are kept; the rest is counted.
const NOTICES: usize = 20;

/// A path of the base's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tracked {
    pub(crate) path: Vec<u8>,
    pub(crate) object: String,
    pub(crate) kind: TrackedKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrackedKind {
    File,
    /// A commit of another repository (a submodule).
    Gitlink,
}

/// What shall happen to the index.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Paths to read again from the work tree.
    pub(crate) update: Vec<Vec<u8>>,
    /// Paths to take out.
    pub(crate) remove: Vec<Vec<u8>>,
    /// Tracked files over the limit with their size; fine if they are unchanged.
    pub(crate) large: Vec<(Tracked, u64)>,
    pub(crate) notices: Notices,
}

/// What a person should know about what was left out.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    texts: Vec<String>,
    more: usize,
}

impl Notices {
    pub(crate) fn add(&mut self, text: String) {
        if self.texts.len() < NOTICES {
            self.texts.push(text);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn into_texts(mut self) -> Vec<String> {
        if self.more > 0 {
            self.texts.push(format!("{} more like these", self.more));
        }
        self.texts
    }
}

/// Parses the output of `git ls-tree -r -z`.
pub(crate) fn parse_tree(listing: &[u8]) -> Vec<Tracked> {
    let entry = |entry: &[u8]| {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let (facts, path) = entry.split_at_checked(tab)?;
        let facts = std::str::from_utf8(facts).ok()?;
        let mut facts = facts.split(' ');
        let kind = match facts.next()? {
            "160000" => TrackedKind::Gitlink,
            _ => TrackedKind::File,
        };
        let object = facts.nth(1)?.to_owned();
        Some(Tracked { path: path.get(1..)?.to_owned(), object, kind })
    };
    listing.split(|byte| *byte == 0).filter_map(entry).collect()
}

/// Looks at a work tree and collects the plan.
#[derive(Debug)]
pub(crate) struct Scan {
    work: PathBuf,
    limits: Limits,
    plan: Plan,
    /// Whether a directory is a real one, all its parents too.
    directories: HashMap<PathBuf, bool>,
}

impl Scan {
    pub(crate) fn new(work: &Path, limits: Limits) -> Result<Self, CheckoutError> {
        if !is_real_directory(work) {
            return Err(CheckoutError::WorkTreeGone { path: work.to_owned() });
        }
        let directories = [(PathBuf::new(), true)].into();
        Ok(Self { work: work.to_owned(), limits, plan: Plan::default(), directories })
    }

    /// Decides about the paths of the base.
    pub(crate) fn tracked(&mut self, entries: Vec<Tracked>) -> Result<(), CheckoutError> {
        for entry in entries {
            self.tracked_path(entry)?;
        }
        Ok(())
    }

    fn tracked_path(&mut self, entry: Tracked) -> Result<(), CheckoutError> {
        let relative = Path::new(OsStr::from_bytes(&entry.path));
        let metadata = if self.parent_is_real(relative) {
            fs::symlink_metadata(self.work.join(relative)).ok()
        } else {
            None
        };
        let Some(metadata) = metadata else {
            self.plan.remove.push(entry.path);
            return Ok(());
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            // A submodule stays what it was, whatever the agent did inside of it.
            if entry.kind != TrackedKind::Gitlink {
                self.plan.remove.push(entry.path);
            }
            return Ok(());
        }
        if kind.is_file() && metadata.len() > self.limits.file_bytes {
            self.plan.large.push((entry.clone(), metadata.len()));
        }
        if kind.is_file() || kind.is_symlink() {
            return self.update(entry.path);
        }
        self.plan.remove.push(entry.path);
        Ok(())
    }

    /// Decides about files that the base does not have. Returns those that are repositories of their own.
    pub(crate) fn others(
        &mut self,
        below: &Path,
        listing: &[u8],
    ) -> Result<Vec<PathBuf>, CheckoutError> {
        let mut repositories = Vec::new();
        for name in listing.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let relative = below.join(OsStr::from_bytes(name));
            if name.ends_with(b"/") {
                repositories.push(relative);
            } else {
                self.other(&relative)?;
            }
        }
        Ok(repositories)
    }

    fn other(&mut self, relative: &Path) -> Result<(), CheckoutError> {
        let shown = || relative.display().to_string();
        if relative.components().any(|part| is_git_name(part.as_os_str())) {
            self.plan.notices.add(format!("left out `{}`: git does not allow the name", shown()));
            return Ok(());
        }
        let path = self.work.join(relative);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) if self.parent_is_real(relative) => metadata,
            Ok(_) => return Ok(()),
            Err(_) => return Err(CheckoutError::Unreadable { path: shown() }),
        };
        let limit = self.limits.file_bytes;
        if metadata.is_file() && metadata.len() > limit {
            return Err(CheckoutError::FileTooLarge {
                path: shown(),
                bytes: metadata.len(),
                limit,
            });
        }
        self.update(relative.as_os_str().as_bytes().to_owned())
    }

    fn update(&mut self, path: Vec<u8>) -> Result<(), CheckoutError> {
        if self.plan.update.len() >= self.limits.files {
            return Err(CheckoutError::TooManyFiles { limit: self.limits.files });
        }
        self.plan.update.push(path);
        Ok(())
    }

    /// Ends the scan: git does not list fifos, sockets and devices, so they are looked for beside what it listed.
    pub(crate) fn finish(mut self) -> Plan {
        let seen = self.directories.iter().filter(|(_, real)| **real);
        let mut directories: Vec<&PathBuf> = seen.map(|(path, _)| path).collect();
        directories.sort();
        for directory in directories {
            let Ok(entries) = fs::read_dir(self.work.join(directory)) else {
                continue;
            };
            for entry in entries.flatten() {
                if let Some(kind) = entry.file_type().ok().and_then(special) {
                    let path = directory.join(entry.file_name());
                    self.plan.notices.add(format!("left out `{}`: it is {kind}", path.display()));
                }
            }
        }
        self.plan
    }

    pub(crate) fn note(&mut self, text: String) {
        self.plan.notices.add(text);
    }

    fn parent_is_real(&mut self, relative: &Path) -> bool {
        relative.parent().is_none_or(|parent| self.is_real(parent))
    }

    /// Whether a path below the work tree is a directory reached through directories only.
    pub(crate) fn is_real(&mut self, relative: &Path) -> bool {
        if let Some(known) = self.directories.get(relative) {
            return *known;
        }
        let real = self.parent_is_real(relative) && is_real_directory(&self.work.join(relative));
        self.directories.insert(relative.to_owned(), real);
        real
    }
}

fn is_real_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Git refuses these in a path whatever the file system makes of their case.
fn is_git_name(part: &OsStr) -> bool {
    part.eq_ignore_ascii_case(".git") || part.eq_ignore_ascii_case("git~1")
}

fn special(kind: fs::FileType) -> Option<&'static str> {
    if kind.is_fifo() {
        Some("a fifo")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_block_device() || kind.is_char_device() {
        Some("a device")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_listing_is_taken_apart() {
        let listing = b"100644 blob aaaa\ta\tb\n\x00160000 commit bbbb\tsub\0";
        let entries = parse_tree(listing);
        assert_eq!(
            entries,
            [
                Tracked {
                    path: b"a\tb\n".to_vec(),
                    object: "aaaa".to_owned(),
                    kind: TrackedKind::File
                },
                Tracked {
                    path: b"sub".to_vec(),
                    object: "bbbb".to_owned(),
                    kind: TrackedKind::Gitlink
                },
            ]
        );
    }

    #[test]
    fn notices_are_bounded() {
        let mut notices = Notices::default();
        for number in 0..30 {
            notices.add(number.to_string());
        }
        let texts = notices.into_texts();
        assert_eq!(texts.len(), NOTICES + 1);
        assert_eq!(texts.last().map(String::as_str), Some("10 more like these"));
    }
}
