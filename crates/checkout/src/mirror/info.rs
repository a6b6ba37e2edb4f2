//! What mirrors there are, which address each one has, and when it was used last.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use super::try_lock;
use crate::{
    error::CheckoutError,
    files::{directory_bytes, io_error, remove_tree, write_new},
};

/// One mirror, for people and for whoever makes room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorInfo {
    /// The name of its directory.
    pub key: String,
    /// The address it mirrors.
    pub url: String,
    /// Its size.
    pub bytes: u64,
    /// When a run last used it.
    pub last_used: SystemTime,
}

impl MirrorInfo {
    /// Whether no run used it for so long.
    #[must_use]
    pub fn is_unused(&self, keep: Duration) -> bool {
        self.last_used.elapsed().is_ok_and(|age| age > keep)
    }
}

/// Removes a mirror that nobody uses and that still meets the condition, and says whether it is gone.
pub(super) fn remove_if(
    root: &Path,
    key: &str,
    condition: impl Fn(&MirrorInfo) -> bool,
) -> Result<bool, CheckoutError> {
    if !is_key(key) {
        return Ok(false);
    }
    let Some(_lock) = try_lock(root, key)? else {
        return Ok(false);
    };
    // It may have been used since it was listed.
    if !condition(&info(root, key)) {
        return Ok(false);
    }
    remove_tree(&root.join(key)).map(|()| true)
}

pub(crate) fn keys(root: &Path) -> Result<Vec<String>, CheckoutError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", root)(error)),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| is_key(name)).collect())
}

fn is_key(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn info(root: &Path, key: &str) -> MirrorInfo {
    let directory = root.join(key);
    let noted = directory.join("url");
    let used = fs::metadata(&noted).or_else(|_| fs::metadata(&directory));
    MirrorInfo {
        key: key.to_owned(),
        url: fs::read_to_string(&noted).unwrap_or_default().trim_end().to_owned(),
        bytes: directory_bytes(&directory),
        last_used: used.and_then(|used| used.modified()).unwrap_or_else(|_| SystemTime::now()),
    }
}

/// Writes down which address it is, and that it was used now.
pub(super) fn note_use(directory: &Path, url: &str) -> Result<(), CheckoutError> {
    let (path, new) = (directory.join("url"), directory.join("making-url"));
    remove_tree(&new)?;
    write_new(&new, format!("{url}\n").as_bytes())?;
    fs::rename(&new, &path).map_err(io_error("write", &path))
}
