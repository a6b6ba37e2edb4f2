//! Results in mirrors: each commit that is pushed stays here too, so that it can be looked at, and is not lost where the
//! push is refused.
//!
//! Each has a ref `refs/opentiger/results/<run>` in its repository's mirror, which is no branch: no checkout gets it. The
//! time of the ref's file says since when it is kept. Refs here are always files: nothing of ours packs them.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use core_types::ids::RunId;

use crate::{
    diff::ObjectSource,
    error::CheckoutError,
    files::{blocking, io_error, remove_tree},
    git::{CommitId, path_text},
    git_dir::ObjectFormat,
    mirror::{Lock, Mirror, Mirrors, OLD, REPOSITORY, format_of, keys, try_lock},
    remote::Remote,
    url::RepositoryUrl,
};

/// Where their refs are.
pub(crate) const RESULTS: &str = "refs/opentiger/results";
/// How long a result waits for a mirror that others use; it is pushed then without being kept.
const WAIT_AT_MOST: Duration = Duration::from_secs(60);

/// A mirror that takes a result; locked until this value is gone.
pub(crate) struct Keeper<'a> {
    mirror: Mirror<'a>,
    run: RunId,
    _lock: Lock,
}

impl Mirrors {
    /// Makes a mirror ready to take the result of a run.
    pub(crate) async fn keeper<'a>(
        &self,
        remote: &'a Remote,
        run: RunId,
        format: ObjectFormat,
    ) -> Result<Keeper<'a>, CheckoutError> {
        let key = remote.url.cache_key();
        let lock = tokio::time::timeout(WAIT_AT_MOST, self.lock(&key)).await;
        let lock = lock.map_err(|_| CheckoutError::Timeout {
            doing: "keep the result in the mirror, which others use",
            after: WAIT_AT_MOST,
        })??;
        let mirror = self.mirror(remote, run);
        mirror.make_ready().await?;
        mirror.take_format(format).await?;
        Ok(Keeper { mirror, run, _lock: lock })
    }

    /// Where the commits of a repository behind a URL may lie on this host, the likeliest place first; nothing where it
    /// has no mirror.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] where the mirror cannot be read.
    pub async fn objects(&self, url: &RepositoryUrl) -> Result<Vec<ObjectSource>, CheckoutError> {
        let directory = self.root.join(url.cache_key());
        blocking(move || {
            let names = std::iter::once(REPOSITORY).chain(OLD);
            let places: Vec<PathBuf> = names.map(|name| directory.join(name)).collect();
            let places = places.iter().filter(|place| place.join("config").is_file());
            let source = |place: &PathBuf| Ok(ObjectSource::of_our_own(place, format_of(place)?));
            places.map(source).collect()
        })
        .await
    }

    /// The runs whose results are kept for longer than this.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] where the mirrors cannot be listed.
    pub async fn old_results(&self, keep: Duration) -> Result<Vec<RunId>, CheckoutError> {
        let root = self.root.clone();
        blocking(move || {
            let mut all = Vec::new();
            for key in keys(&root)? {
                all.extend(results_in(&root.join(key).join(REPOSITORY).join(RESULTS))?);
            }
            let old = all.into_iter().filter(|(_, since)| is_old(*since, keep));
            Ok(old.map(|(run, _)| run).collect())
        })
        .await
    }

    /// Forgets the results that are kept for longer than this, and returns their runs; those of a mirror that is in use
    /// stay. The room they take is free when their mirror is put in order the next time.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] where one cannot be removed.
    pub async fn remove_results(&self, keep: Duration) -> Result<Vec<RunId>, CheckoutError> {
        let root = self.root.clone();
        blocking(move || {
            let mut removed = Vec::new();
            for key in keys(&root)? {
                let directory = root.join(&key).join(REPOSITORY).join(RESULTS);
                if !results_in(&directory)?.iter().any(|(_, since)| is_old(*since, keep)) {
                    continue;
                }
                let Some(_lock) = try_lock(&root, &key)? else {
                    continue;
                };
                let all = results_in(&directory)?.into_iter();
                for (run, _) in all.filter(|(_, since)| is_old(*since, keep)) {
                    let path = directory.join(run.to_string());
                    fs::remove_file(&path).map_err(io_error("remove", &path))?;
                    removed.push(run);
                }
            }
            Ok(removed)
        })
        .await
    }
}

fn is_old(since: SystemTime, keep: Duration) -> bool {
    since.elapsed().is_ok_and(|age| age > keep)
}

impl Keeper<'_> {
    /// Keeps a commit that the mirror has.
    pub(crate) async fn keep(&self, commit: &CommitId) -> Result<(), CheckoutError> {
        let name = format!("{RESULTS}/{}", self.run);
        let call = self.mirror.call("keep the result")?;
        call.args(["update-ref", "--no-deref", &name, commit.as_str()]).run().await?;
        Ok(())
    }
}

impl Mirror<'_> {
    /// Takes the results over from the copies that this one replaces, and removes each that has none left. What cannot be
    /// read there is lost; what fails for another reason stays for the next time.
    pub(crate) async fn take_over_results(&self) {
        for old in OLD.map(|name| self.directory.join(name)) {
            if !old.is_dir() {
                continue;
            }
            let done = match self.take_over_from(&old).await {
                Ok(true) => blocking(move || remove_tree(&old)).await,
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::warn!(error = %error, "old mirror not removed");
            }
        }
    }

    /// Tells whether nothing is left there that could be taken over.
    async fn take_over_from(&self, old: &Path) -> Result<bool, CheckoutError> {
        let mut is_empty = true;
        for (run, since) in results_in(&old.join(RESULTS))? {
            let Err(error) = self.take_over(old, run).await else {
                let kept = self.git_dir.join(RESULTS).join(run.to_string());
                if let Err(error) = keep_time(&kept, since) {
                    tracing::warn!(run.id = %run, error = %error, "result is kept as if it were new");
                }
                continue;
            };
            if self.is_lost(old, run).await {
                tracing::warn!(run.id = %run, error = %error, "result is lost with its mirror");
            } else {
                tracing::warn!(run.id = %run, error = %error, "result not taken over yet");
                is_empty = false;
            }
        }
        Ok(is_empty)
    }

    /// Whether git, asked about it alone, says that a result cannot be read. A git that was killed says nothing.
    async fn is_lost(&self, old: &Path, run: RunId) -> bool {
        let name = format!("{RESULTS}/{run}");
        let Ok(call) = self.remote.git.call("look for a result").git_dir(old) else { return false };
        let answer = call.args(["rev-list", "--objects", "--quiet", name.as_str()]).try_run().await;
        answer.is_ok_and(|answer| answer.status.is_some_and(|status| status != 0))
    }

    async fn take_over(&self, old: &Path, run: RunId) -> Result<(), CheckoutError> {
        let name = format!("{RESULTS}/{run}");
        let call = self.call("take over a result")?;
        let options = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--refmap="];
        let call = call.args(options).args(["--no-auto-maintenance", "--end-of-options"]);
        call.args([path_text(old)?.as_str(), &format!("+{name}:{name}")]).run().await?;
        Ok(())
    }
}

/// The results whose refs are in a directory, and since when they are kept; none where it is not there.
pub(crate) fn results_in(directory: &Path) -> Result<Vec<(RunId, SystemTime)>, CheckoutError> {
    let entries = match fs::read_dir(directory) {
        // Something else in its place is damage.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(io_error("list", directory))?,
    };
    let mut results = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", directory))?;
        if let Some(run) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            let since = entry.metadata().and_then(|meta| meta.modified());
            results.push((run, since.map_err(io_error("look at", &entry.path()))?));
        }
    }
    Ok(results)
}

fn keep_time(path: &Path, since: SystemTime) -> Result<(), CheckoutError> {
    let set = File::options().write(true).open(path).and_then(|file| file.set_modified(since));
    set.map_err(io_error("set the time of", path))
}
