//! Files of a checkout: written fresh, opened without following anything, removed whatever their modes.
//!
//! All functions block; callers on a runtime go through [`blocking`].

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, lchown},
    path::{Component, Path},
};

use launcher::{removal, spec::UserId};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::error::CheckoutError;

/// Runs blocking file work away from the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CheckoutError> + Send + 'static,
) -> Result<T, CheckoutError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(CheckoutError::Io {
                doing: "go on with",
                path: "file work".into(),
                source: io::Error::other(error),
            }),
        },
    }
}

/// Makes an error of this crate from one of the system.
pub(crate) fn io_error(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> CheckoutError {
    let path = path.to_owned();
    move |source| CheckoutError::Io { doing, path, source }
}

/// Makes a directory for this user alone; its parents must be there.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), CheckoutError> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(io_error("make directory", path))
}

/// Writes a file that must not be there yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), CheckoutError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(io_error("write", path))
}

/// What a path below a directory turned out to be.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A regular file with its size.
    Plain(File, u64),
    /// Nothing is there.
    Missing,
    /// Something that is not opened: its kind.
    Other(&'static str),
}

/// Opens a regular file for reading without following a symbolic link anywhere below `base`, and without being held
/// up by a fifo.
pub(crate) fn open_plain(base: &Path, relative: &Path) -> io::Result<Opened> {
    let mut directory = rustix::fs::open(base, directory_flags(), Mode::empty())?;
    let mut components = relative.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            return Ok(Opened::Other("a path that leaves its directory"));
        };
        if components.peek().is_some() {
            directory = match rustix::fs::openat(&directory, name, directory_flags(), Mode::empty())
            {
                Ok(next) => next,
                Err(rustix::io::Errno::NOENT) => return Ok(Opened::Missing),
                Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                    return Ok(Opened::Other("below something that is no directory"));
                }
                Err(error) => return Err(error.into()),
            };
            continue;
        }
        let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(Opened::Missing),
            Err(error) => return Err(error.into()),
        };
        if let Some(kind) = special_kind(FileType::from_raw_mode(stat.st_mode)) {
            return Ok(Opened::Other(kind));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&directory, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        return Ok(if metadata.is_file() {
            Opened::Plain(file, metadata.len())
        } else {
            Opened::Other("replaced while it was opened")
        });
    }
    Ok(Opened::Other("a directory"))
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// What to call a file that is not a regular one.
fn special_kind(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Symlink => Some("a symbolic link"),
        FileType::Fifo => Some("a fifo"),
        FileType::Socket => Some("a socket"),
        FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
        FileType::Unknown => Some("of an unknown kind"),
    }
}

/// Reads a small regular file, if there is one. Anything else there, and anything longer, counts as absent.
pub(crate) fn read_small(base: &Path, relative: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let Opened::Plain(file, size) = open_plain(base, Path::new(relative))? else {
        return Ok(None);
    };
    if size > limit {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Removes a directory with all it holds, read-only directories too. Nothing there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), CheckoutError> {
    removal::remove_tree(path).map_err(io_error("remove", path))
}

/// Gives a directory and all it holds to a user, no link followed. For trees that nobody else writes.
pub(crate) fn give_to(path: &Path, user: UserId) -> Result<(), CheckoutError> {
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        lchown(&path, Some(user.uid), Some(user.gid)).map_err(io_error("give away", &path))?;
        let metadata = fs::symlink_metadata(&path).map_err(io_error("look at", &path))?;
        if !metadata.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&path).map_err(io_error("list", &path))? {
            waiting.push(entry.map_err(io_error("list", &path))?.path());
        }
    }
    Ok(())
}

/// How many bytes the files below a directory have, no link followed. What vanishes meanwhile counts nothing.
pub(crate) fn directory_bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}
