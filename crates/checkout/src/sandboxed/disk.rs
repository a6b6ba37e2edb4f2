//! How much of the disk hostile code uses, counted without being led elsewhere.

use std::{ffi::CStr, path::Path};

use rustix::{
    fd::BorrowedFd,
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};

/// Directories below each other that are counted.
const DEEPEST: usize = 256;

/// How much of the disk a sandbox uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Bytes, as the file system counts them.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
    /// Whether there is something that could not be counted: too many directories below each other, or one that its owner
    /// closed (for a moment, perhaps).
    pub uncounted: bool,
}

impl DiskUse {
    /// Whether what was counted is more than `limit`.
    #[must_use]
    pub const fn exceeds(self, limit: Self) -> bool {
        self.bytes > limit.bytes || self.files > limit.files
    }
}

/// Counts what is below a directory that hostile code writes. A descriptor is held for each level, so that nothing leads
/// elsewhere, whatever is renamed or linked meanwhile.
pub(super) fn disk_use(directory: &Path, limit: DiskUse) -> DiskUse {
    let mut sum = DiskUse::default();
    let mut levels: Vec<Dir> = sum.open(CWD, directory).into_iter().collect();
    while let Some(level) = levels.last_mut() {
        let Some(Ok(entry)) = level.next() else {
            levels.pop();
            continue;
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let below = match level.fd() {
            Ok(fd) => sum.add(fd, name),
            Err(_) => None,
        };
        if sum.exceeds(limit) {
            return sum;
        }
        levels.extend(below);
        if levels.len() > DEEPEST {
            sum.uncounted = true;
            levels.pop();
        }
    }
    sum
}

impl DiskUse {
    /// Adds an entry of a directory; gives what is below it, where there can be something.
    fn add(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> Option<Dir> {
        // What is gone takes nothing.
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
        self.files += 1;
        self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512));
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory { self.open(directory, name) } else { None }
    }

    fn open(&mut self, directory: BorrowedFd<'_>, name: impl rustix::path::Arg) -> Option<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(directory, name, flags, Mode::empty()).and_then(Dir::new) {
            Ok(below) => Some(below),
            Err(Errno::NOENT) => None,
            // Closed by its owner, or something else by now.
            Err(_) => {
                self.uncounted = true;
                None
            }
        }
    }
}
