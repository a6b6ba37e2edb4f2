//! How much disk a checkout takes and how much is left: plain looks that whoever watches a run repeats.
//!
//! A container sees the host's whole disk through a mount, and without root there is no quota for a directory. So a run that
//! takes too much is found and stopped, and a reserve bounds what it took meanwhile.

use std::{
    collections::HashSet,
    ffi::CStr,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat, statvfs};

/// Directories below each other that are followed; a deeper tree was made in order not to be looked at.
const DEEPEST: usize = 256;

/// The most that directories may take together; `None` is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskLimits {
    /// Bytes on disk.
    pub bytes: Option<u64>,
    /// Files and directories.
    pub files: Option<u64>,
}

/// What directories take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUsage {
    /// Bytes on disk; a file that is linked several times counts once.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
}

/// Why a run is stopped, or none is claimed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Too many bytes.
    #[error("the checkout takes more than {limit} bytes of disk")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// Too many files.
    #[error("the checkout has more than {limit} files")]
    TooManyFiles {
        /// The limit.
        limit: u64,
    },
    /// Directories below each other without end.
    #[error("the checkout has more than {DEEPEST} directories below each other")]
    TooDeep,
    /// Less is free than shall stay free.
    #[error("{free} bytes are free at `{}`, fewer than the reserve of {reserve}", path.display())]
    BelowReserve {
        /// Where.
        path: PathBuf,
        /// What is free for this user, in bytes.
        free: u64,
        /// What shall be, in bytes.
        reserve: u64,
    },
    /// It cannot be looked at.
    #[error("look at `{}`", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

impl DiskError {
    /// What a person can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "raise SANDBOX_DISK_LIMIT_BYTES, or let the task make less",
            Self::TooManyFiles { .. } => "raise SANDBOX_FILE_LIMIT, or let the task make fewer",
            Self::TooDeep => "let the task make fewer directories below each other",
            Self::BelowReserve { .. } => "free disk space, or lower SANDBOX_DISK_RESERVE_BYTES",
            Self::Io { .. } => "check that the state directory is there and can be read",
        }
    }
}

/// Adds up what directories take, and stops as soon as that is too much.
///
/// Symbolic links are not followed, whoever changes the tree meanwhile; what cannot be opened counts as empty, which the
/// reserve makes up for.
///
/// # Errors
/// See [`DiskError`]; a directory of the list that is not there takes nothing.
pub fn usage(directories: &[PathBuf], limits: DiskLimits) -> Result<DiskUsage, DiskError> {
    let mut sum = Sum { limits, usage: DiskUsage::default(), linked: HashSet::new() };
    for path in directories {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(directory) => sum.tree(directory)?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => {
                return Err(DiskError::Io { path: path.clone(), source: error.into() });
            }
        }
    }
    Ok(sum.usage)
}

/// What is free at a place, in bytes, if it is at least the reserve.
///
/// # Errors
/// [`DiskError::BelowReserve`] and [`DiskError::Io`].
pub fn free(path: &Path, reserve: u64) -> Result<u64, DiskError> {
    let stats = statvfs(path)
        .map_err(|error| DiskError::Io { path: path.to_owned(), source: error.into() })?;
    let free = stats.f_bavail.saturating_mul(stats.f_frsize);
    if free < reserve {
        return Err(DiskError::BelowReserve { path: path.to_owned(), free, reserve });
    }
    Ok(free)
}

struct Sum {
    limits: DiskLimits,
    usage: DiskUsage,
    linked: HashSet<(u64, u64)>,
}

impl Sum {
    /// Depth first, with a descriptor for each level: nobody can lead it elsewhere by renaming.
    fn tree(&mut self, root: OwnedFd) -> Result<(), DiskError> {
        let mut levels: Vec<Dir> = Dir::new(root).ok().into_iter().collect();
        while let Some(level) = levels.last_mut() {
            let Some(Ok(entry)) = level.next() else {
                levels.pop();
                continue;
            };
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            let below = match level.fd() {
                Ok(fd) => self.entry(fd, entry.file_name())?,
                Err(_) => None,
            };
            levels.extend(below);
            if levels.len() > DEEPEST {
                return Err(DiskError::TooDeep);
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: rustix::fd::BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<Option<Dir>, DiskError> {
        let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Ok(None);
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let new =
            is_directory || stat.st_nlink < 2 || self.linked.insert((stat.st_dev, stat.st_ino));
        if new {
            let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
            self.count(blocks.saturating_mul(512))?;
        }
        if !is_directory {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(directory.as_fd(), name, flags, Mode::empty());
        Ok(opened.ok().and_then(|fd| Dir::new(fd).ok()))
    }

    fn count(&mut self, bytes: u64) -> Result<(), DiskError> {
        self.usage.bytes = self.usage.bytes.saturating_add(bytes);
        self.usage.files = self.usage.files.saturating_add(1);
        match self.limits {
            DiskLimits { bytes: Some(limit), .. } if self.usage.bytes > limit => {
                Err(DiskError::TooLarge { limit })
            }
            DiskLimits { files: Some(limit), .. } if self.usage.files > limit => {
                Err(DiskError::TooManyFiles { limit })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_tree_is_added_up_without_following_links() {
        let root = tempfile::tempdir().unwrap();
        let big = vec![1; 100_000];
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/file"), &big).unwrap();
        fs::hard_link(root.path().join("a/file"), root.path().join("again")).unwrap();
        symlink("/usr", root.path().join("elsewhere")).unwrap();
        let directories = [root.path().to_owned(), root.path().join("missing")];
        let usage = super::usage(&directories, DiskLimits::default()).unwrap();
        assert_eq!(usage.files, 3);
        assert!((100_000..200_000).contains(&usage.bytes), "{usage:?}");
    }

    #[test]
    fn a_tree_that_takes_too_much_is_found_out() {
        let root = tempfile::tempdir().unwrap();
        let directories = [root.path().to_owned()];
        for name in 0..5 {
            fs::write(root.path().join(name.to_string()), vec![1; 10_000]).unwrap();
        }
        let bytes = usage(&directories, DiskLimits { bytes: Some(20_000), files: None });
        assert!(matches!(bytes, Err(DiskError::TooLarge { limit: 20_000 })), "{bytes:?}");
        let files = usage(&directories, DiskLimits { bytes: None, files: Some(4) });
        assert!(matches!(files, Err(DiskError::TooManyFiles { limit: 4 })), "{files:?}");
        let deep: PathBuf = std::iter::repeat_n("d", 300).collect();
        fs::create_dir_all(root.path().join(deep)).unwrap();
        assert!(matches!(usage(&directories, DiskLimits::default()), Err(DiskError::TooDeep)));
    }

    #[test]
    fn what_is_free_is_held_against_the_reserve() {
        let root = tempfile::tempdir().unwrap();
        assert!(free(root.path(), 0).unwrap() > 0);
        assert!(matches!(free(root.path(), u64::MAX), Err(DiskError::BelowReserve { .. })));
        assert!(matches!(free(Path::new("/nonexistent"), 0), Err(DiskError::Io { .. })));
    }
}
