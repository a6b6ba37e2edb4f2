//! Removing directories that others filled: however deep, whatever the modes, and never through a link.
//!
//! `std::fs::remove_dir_all` calls itself and holds a descriptor for every level, so that whoever may write into a
//! directory decides how much of both its removal takes. Here both are bounded: what lies deeper than [`DEPTH`] levels
//! is moved up into the directory that is being removed, and goes from there. Paths longer than the system takes do
//! not matter, since each step names one entry of an open directory.

use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags},
    io::Errno,
};

/// Levels that are open at once.
const DEPTH: usize = 32;
/// How often a directory is gone through in which others still make something, or from which something did not go.
const PASSES: usize = 4;

/// Removes a directory with all it holds, directories that their modes close too, or a single file or link. Nothing
/// there is fine, as is what vanishes meanwhile.
///
/// # Errors
/// The system's error about the first entry that stays. Whatever can be removed beside it is gone all the same.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::openat(
        CWD,
        parent.unwrap_or_else(|| Path::new(".")),
        flags,
        Mode::empty(),
    ) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    remove_entry(parent.as_fd(), name)
}

/// A directory that is being emptied.
struct Level {
    entries: Dir,
    /// Its name in the level above.
    name: CString,
}

/// One way through everything below a directory.
struct Pass<'a> {
    top: BorrowedFd<'a>,
    open: Vec<Level>,
    /// The number of the next directory that is moved up.
    next: &'a mut u64,
    moved: bool,
    failed: Option<Errno>,
}

fn remove_entry(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let (mut passes, mut next) = (0, 0);
    loop {
        let top = match open(parent, name) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (moved, failed) = Pass::new(top.as_fd(), &mut next).run();
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(error) => {
                // Moving up ends by itself: it makes the whole less deep each time.
                passes += usize::from(!moved);
                if passes == PASSES {
                    return Err(failed.unwrap_or(error).into());
                }
            }
        }
    }
}

impl<'a> Pass<'a> {
    const fn new(top: BorrowedFd<'a>, next: &'a mut u64) -> Self {
        Self { top, open: Vec::new(), next, moved: false, failed: None }
    }

    /// Returns whether something was moved up, and the first failure.
    fn run(mut self) -> (bool, Option<Errno>) {
        match open(self.top, c".").and_then(Dir::new) {
            Ok(entries) => self.open.push(Level { entries, name: CString::default() }),
            Err(error) => self.failed = Some(error),
        }
        while let Some(level) = self.open.last_mut() {
            let done = match level.entries.read() {
                Some(Ok(entry)) if matches!(entry.file_name().to_bytes(), b"." | b"..") => Ok(()),
                Some(Ok(entry)) => self.take(entry.file_name()),
                Some(Err(error)) => Err(error),
                None => self.leave(),
            };
            if let Err(error) = done {
                self.failed.get_or_insert(error);
            }
        }
        (self.moved, self.failed)
    }

    /// Removes an entry of the deepest open level, or goes into it.
    fn take(&mut self, name: &CStr) -> Result<(), Errno> {
        let Some(level) = self.open.last() else {
            return Ok(());
        };
        let directory = level.entries.fd()?;
        let unlinked = match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR),
            unlinked => unlinked,
        };
        match unlinked {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        // Opened before it is moved: a directory can be moved elsewhere only while it is writable.
        let opened = match open(directory, name) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        if self.open.len() >= DEPTH {
            move_up(directory, name, self.top, self.next)?;
            self.moved = true;
        } else {
            let entries = Dir::new(opened)?;
            self.open.push(Level { entries, name: name.to_owned() });
        }
        Ok(())
    }

    /// Leaves the deepest open level and removes it. The topmost one stays to the caller.
    fn leave(&mut self) -> Result<(), Errno> {
        let left = self.open.pop();
        let (Some(left), Some(above)) = (left, self.open.last()) else {
            return Ok(());
        };
        match rustix::fs::unlinkat(above.entries.fd()?, &left.name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed,
        }
    }
}

/// Opens a directory, no link followed, and makes it one that can be emptied.
fn open(parent: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = rustix::fs::openat(parent, name, place, Mode::empty())?;
            // The way to change the mode of exactly what was found, which could not be opened to change it.
            let itself = format!("/proc/self/fd/{}", found.as_raw_fd());
            rustix::fs::chmod(itself, Mode::RWXU)?;
            rustix::fs::openat(&found, c".", flags, Mode::empty())?
        }
        opened => opened?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        // What then cannot be removed is told by its own failure.
        rustix::fs::fchmod(&opened, Mode::RWXU).ok();
    }
    Ok(opened)
}

/// Moves a directory to where the removal began. What it might replace there is to be removed as well.
fn move_up(
    directory: BorrowedFd<'_>,
    name: &CStr,
    top: BorrowedFd<'_>,
    next: &mut u64,
) -> Result<(), Errno> {
    loop {
        let fresh = format!(".deep-{next}");
        *next += 1;
        match rustix::fs::renameat(directory, name, top, fresh) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR) => {}
            Err(Errno::NOENT) => return Ok(()),
            renamed => return renamed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
        thread,
    };

    use super::*;

    /// Makes a chain of directories, each in the one before, and returns the deepest.
    fn chain(from: &Path, name: &str, levels: usize) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = rustix::fs::openat(CWD, from, flags, Mode::empty()).unwrap();
        for _ in 0..levels {
            rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, name, flags, Mode::empty()).unwrap();
        }
        at
    }

    fn tree() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::TempDir::new().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        (directory, tree)
    }

    /// Deeper than a process may have descriptors, by default.
    #[test]
    fn chain_of_any_depth_goes_with_little_stack_and_few_descriptors() {
        let (_directory, tree) = tree();
        drop(chain(&tree, "d", 5_000));
        let removed = tree.clone();
        let small = thread::Builder::new().stack_size(64 * 1024);
        small.spawn(move || remove_tree(&removed)).unwrap().join().unwrap().unwrap();
        assert!(!tree.try_exists().unwrap());
    }

    #[test]
    fn paths_longer_than_the_system_takes_and_wide_trees_go() {
        let (_directory, tree) = tree();
        for wide in 0..300 {
            fs::create_dir(tree.join(wide.to_string())).unwrap();
            fs::write(tree.join(wide.to_string()).join("file"), "x").unwrap();
        }
        // Names that the moved ones would get.
        fs::write(tree.join(".deep-0"), "x").unwrap();
        fs::create_dir(tree.join(".deep-1")).unwrap();
        fs::write(tree.join(".deep-1/file"), "x").unwrap();
        for wide in 0..5 {
            let start = tree.join(wide.to_string());
            let deepest = chain(&start, &"n".repeat(255), 200);
            rustix::fs::mkdirat(&deepest, "leaf", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/", &deepest, "link").unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.try_exists().unwrap());
    }

    #[test]
    fn closed_directories_go_at_any_depth() {
        let (_directory, tree) = tree();
        for (name, mode) in [("none", 0o000), ("read", 0o400), ("search", 0o100), ("both", 0o500)] {
            let path = tree.join(name);
            fs::create_dir_all(path.join("inner")).unwrap();
            fs::write(path.join("inner/file"), "x").unwrap();
            for one in [path.join("inner"), path] {
                fs::set_permissions(one, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        let deepest = chain(&tree, "d", DEPTH - 1);
        rustix::fs::mkdirat(&deepest, "closed", Mode::RWXU).unwrap();
        rustix::fs::mkdirat(&deepest, "closed/inner", Mode::RWXU).unwrap();
        rustix::fs::chmodat(&deepest, "closed", Mode::empty(), AtFlags::empty()).unwrap();
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o000)).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.try_exists().unwrap());
    }

    #[test]
    fn links_go_and_what_they_name_stays() {
        let (directory, tree) = tree();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "mine").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o500)).unwrap();
        symlink(&outside, tree.join("directory")).unwrap();
        symlink(outside.join("file"), tree.join("file")).unwrap();
        symlink("nowhere", tree.join("dangling")).unwrap();
        remove_tree(&tree).unwrap();
        symlink(&outside, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(fs::symlink_metadata(&tree).is_err());
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "mine");
        assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o500);
    }

    #[test]
    fn nothing_there_is_fine() {
        let (_directory, tree) = tree();
        remove_tree(&tree.join("gone")).unwrap();
        remove_tree(&tree.join("gone/below")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.try_exists().unwrap());
    }
}
