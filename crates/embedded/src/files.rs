//! Files and directories that only their owner can read, made so that no other user can bend a path meanwhile.
//!
//! As root, the data belongs to another user, who may replace any name in it. So nothing is given away by its path, only
//! by the open file, before it has its name; and no link is followed.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use core_types::secret::Secret;
use launcher::spec::UserId;
use rand::{Rng as _, distr::Alphanumeric};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown};

use crate::error::{EmbeddedError, io_error};

/// Length of a generated password: 190 bits.
const PASSWORD_LENGTH: usize = 32;

/// Makes a password that needs no escaping anywhere.
pub(crate) fn new_password() -> Secret {
    Secret::new(random_text(PASSWORD_LENGTH))
}

/// Letters and digits by chance.
pub(crate) fn random_text(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

/// Replaces a file by one that only `owner` can read; without one, this user.
pub(crate) fn write_private(
    path: &Path,
    bytes: &[u8],
    owner: Option<UserId>,
) -> Result<(), EmbeddedError> {
    let next = path.with_extension("new");
    remove_file(&next)?;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(bytes)?;
        give(&file, owner)?;
        file.sync_all()
    };
    write().map_err(io_error("write", &next))?;
    fs::rename(&next, path).map_err(io_error("rename", &next))
}

/// Makes a directory with exactly this mode that belongs to `owner`; without one, to this user.
pub(crate) fn make_directory(
    path: &Path,
    mode: u32,
    owner: Option<UserId>,
) -> Result<(), EmbeddedError> {
    let make = || {
        fs::DirBuilder::new().mode(0o700).create(path)?;
        let directory = open(path, OFlags::DIRECTORY)?;
        directory.set_permissions(Permissions::from_mode(mode))?;
        give(&directory, owner)
    };
    make().map_err(io_error("make directory", path))
}

/// Reads a file in a directory that may belong to another user: no link is followed, no pipe waited for.
pub(crate) fn read_plain(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path, OFlags::NONBLOCK)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Makes the names in a directory survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), EmbeddedError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(io_error("sync", path))
}

/// Removes a file if it is there.
pub(crate) fn remove_file(path: &Path) -> Result<(), EmbeddedError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("remove", path)(error)),
    }
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

fn give(file: &File, owner: Option<UserId>) -> io::Result<()> {
    let Some(UserId { uid, gid }) = owner else { return Ok(()) };
    Ok(fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn passwords_need_no_escaping_and_differ() {
        let (one, other) = (new_password(), new_password());
        assert!(one.expose().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(one.expose().len(), PASSWORD_LENGTH);
        assert_ne!(one, other);
    }

    #[test]
    fn a_planted_link_is_neither_written_through_nor_read() {
        let directory = tempfile::tempdir().unwrap();
        let (target, path) = (directory.path().join("target"), directory.path().join("a.password"));
        fs::write(&target, "theirs").unwrap();
        symlink(&target, &path).unwrap();
        symlink(&target, path.with_extension("new")).unwrap();
        read_plain(&path).unwrap_err();
        write_private(&path, b"mine", None).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
        assert_eq!(read_plain(&path).unwrap(), "mine");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        symlink(directory.path(), directory.path().join("link")).unwrap();
        make_directory(&directory.path().join("link"), 0o711, None).unwrap_err();
    }
}
