//! A launch directory as the host reads it: with care, because the command may be able to write it.
//!
//! Files are opened beneath the directory without following links, only regular ones are read, and
//! never more than a cap. It knows file names and bytes; what they mean is in `records`.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{self, FileType, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
    process::{Flock, FlockType, Pid, fcntl_getlk},
};
use serde::de::DeserializeOwned;

/// The longest record that is read.
const MAX_RECORD: u64 = 8 << 20;

/// Tries to take a guard before somebody really has it.
#[cfg(feature = "docker")]
const GUARD_TRIES: u32 = 10;

/// One launch directory, held open.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
    fd: Arc<OwnedFd>,
}

/// What lies in the place of a file.
#[derive(Debug)]
pub(crate) enum Content<T> {
    /// The record.
    Record(T),
    /// Nothing.
    Missing,
    /// Something that is not what it should be, and why.
    Unreadable(String),
}

impl Directory {
    /// Opens a directory; `None` if there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { path: path.to_owned(), fd: Arc::new(fd) })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something lies under this name, whatever it is.
    pub(crate) fn has(&self, name: &str) -> io::Result<bool> {
        match fs::statat(&*self.fd, name, fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file for reading.
    pub(crate) fn open_file(&self, name: &str) -> io::Result<File> {
        // Not blocking, so that a planted fifo does not hold us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = File::from(self.open_beneath(name, flags)?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    }

    /// Reads a JSON record. An error says nothing about the record: it may be read the next time.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Content<T>> {
        let file = match self.open_file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Missing),
            Err(error) if is_no_file(&error) => return Ok(Content::Unreadable(error.to_string())),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_RECORD + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_RECORD {
            return Ok(Content::Unreadable(format!("longer than {MAX_RECORD} bytes")));
        }
        Ok(match serde_json::from_slice(&bytes) {
            Ok(record) => Content::Record(record),
            Err(error) => Content::Unreadable(error.to_string()),
        })
    }

    /// Reads a record that is used where it is there.
    pub(crate) fn read_if_there<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        Ok(match self.read(name)? {
            Content::Record(record) => Some(record),
            Content::Missing | Content::Unreadable(_) => None,
        })
    }

    /// Writes a record durably, unless one is there already. `false`: there was.
    pub(crate) fn write_new(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let tmp = format!("{name}.{}", random_name()?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let mut file = File::from(fs::openat(&*self.fd, &tmp, flags, mode)?);
        file.write_all(bytes)?;
        file.sync_all()?;
        let renamed = rename_new(self.fd.as_fd(), &tmp, name);
        if !matches!(renamed, Ok(true)) {
            fs::unlinkat(&*self.fd, &tmp, fs::AtFlags::empty())?;
        }
        fs::fsync(&*self.fd)?;
        renamed
    }

    /// Writes a record that only this launch's starter writes, in the place of an earlier one.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let tmp = format!("{name}.{}", random_name()?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let mut file = File::from(fs::openat(&*self.fd, &tmp, flags, mode)?);
        file.write_all(bytes)?;
        Ok(fs::renameat(&*self.fd, &tmp, &*self.fd, name)?)
    }

    /// Who holds the launch lock: the proof that a shim is alive, and which process it is. A
    /// holder that has no number here, such as one outside of our container, is 1.
    pub(crate) fn lock_holder(&self) -> io::Result<Option<Pid>> {
        let file = match self.open_file("lock") {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let asked = Flock::from(FlockType::ReadLock);
        Ok(fcntl_getlk(&file, &asked)?.map(|found| found.pid.unwrap_or(Pid::INIT)))
    }

    /// Takes a guard of the host's side until the file is dropped; `None`: somebody has it.
    #[cfg(feature = "docker")]
    pub(crate) fn guard(&self, name: &str) -> io::Result<Option<File>> {
        let file = self.open_guard(name)?;
        // Whoever only looks whether it is taken has it for a moment.
        for _ in 0..GUARD_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(std::fs::TryLockError::WouldBlock) => {
                    std::thread::sleep(std::time::Duration::from_millis(2))
                }
                Err(std::fs::TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether somebody has a guard. Who takes it in the same moment may be told so, too.
    #[cfg(feature = "docker")]
    pub(crate) fn is_guarded(&self, name: &str) -> io::Result<bool> {
        match self.open_file(name) {
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(std::fs::TryLockError::WouldBlock) => Ok(true),
                Err(std::fs::TryLockError::Error(error)) => Err(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    #[cfg(feature = "docker")]
    fn open_guard(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(fs::openat(&*self.fd, name, flags, Mode::from_raw_mode(0o600))?))
    }

    /// Whether a process holds the launch lock, and the lock is one of our user.
    pub(crate) fn is_locked_by_our(&self, pid: i32) -> bool {
        let owner = fs::statat(&*self.fd, "lock", fs::AtFlags::SYMLINK_NOFOLLOW).map(|s| s.st_uid);
        owner == Ok(rustix::process::geteuid().as_raw())
            && matches!(self.lock_holder(), Ok(Some(holder)) if holder.as_raw_pid() == pid)
    }

    /// Hands a line to the shim. [`io::ErrorKind::NotFound`]: there is no shim any more.
    pub(crate) fn write_control(&self, line: &str) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        let mut fifo = match self.open_beneath("ctl", flags) {
            Ok(fd) => File::from(fd),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            Err(error) => return Err(error),
        };
        if FileType::from_raw_mode(fs::fstat(&fifo)?.st_mode) != FileType::Fifo {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a fifo"));
        }
        // At most PIPE_BUF bytes, so the kernel writes all of it or nothing.
        fifo.write_all(line.as_bytes())
    }

    /// The names in it.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&*self.fd)? {
            names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// Removes a file.
    pub(crate) fn remove_file(&self, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&*self.fd, name, fs::AtFlags::empty())?)
    }

    fn open_beneath(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match fs::openat2(&*self.fd, name, flags, Mode::empty(), resolve) {
            // Kernels before 5.6 and some filters. A bare name needs no more than `NOFOLLOW`.
            Err(Errno::NOSYS | Errno::PERM) => {
                Ok(fs::openat(&*self.fd, name, flags, Mode::empty())?)
            }
            opened => Ok(opened?),
        }
    }
}

/// Whether what lies there is no regular file, rather than one that cannot be read now.
fn is_no_file(error: &io::Error) -> bool {
    // A file of our own that we may not read was made unreadable on purpose.
    let kinds = [Errno::LOOP, Errno::NXIO, Errno::XDEV, Errno::ACCESS];
    error.kind() == io::ErrorKind::InvalidInput
        || Errno::from_io_error(error).is_some_and(|errno| kinds.contains(&errno))
}

/// Gives a finished entry its name, unless the name is taken. `false`: it is.
pub(crate) fn rename_new(
    parent: rustix::fd::BorrowedFd<'_>,
    from: impl AsRef<OsStr>,
    to: impl AsRef<OsStr>,
) -> io::Result<bool> {
    let (from, to) = (from.as_ref(), to.as_ref());
    match fs::renameat_with(parent, from, parent, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// 16 random hex digits.
pub(crate) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(crate::spec::hex(&bytes))
}
