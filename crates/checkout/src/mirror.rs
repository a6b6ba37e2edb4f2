//! The mirrors: for each remote repository one bare repository of our own, which runs share.
//!
//! `<root>/<key>/` holds `repo.git`, the file `url`, whose time says when it was used last, and while something is
//! fetched a directory `incoming-…`. `<root>/<key>.lock` is locked by whoever changes anything; it is never removed.
//! A mirror that turns out damaged, or too large, is `old.git` until a new one is whole and has taken over what nobody
//! else has: the results. What fails at that for the moment is done by the next run.
//!
//! A fetch writes into a directory of its own. Only what arrived whole, and was checked, is moved over, the index of a
//! pack last: a fetch that is killed anywhere leaves nothing that counts, and a git that outlives its caller writes where
//! nobody looks. So whatever commit is in a mirror, all of its history is.

mod healing;
mod info;
mod layout;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    time::Duration,
};

use core_types::ids::RunId;
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub use self::info::MirrorInfo;
pub(crate) use self::info::keys;
use self::{
    info::{info, note_use, remove_if},
    layout::{clear_leftovers, clear_locks, make_repository, move_packs},
};
use crate::{
    branch::BranchName,
    error::CheckoutError,
    files::{blocking, io_error, make_private_dir, remove_tree},
    git::{CommitId, GitCall, path_text},
    git_dir::ObjectFormat,
    remote::{Advertised, Remote, RemoteCall},
    trouble::Trouble,
};

/// The mirror itself.
pub(crate) const REPOSITORY: &str = "repo.git";
/// A mirror that is made anew, until what it alone has is taken over.
///
/// There are several where results could not be taken over at once; after the last one they are lost.
pub(crate) const OLD: [&str; 3] = ["old.git", "old-2.git", "old-3.git"];
/// How often a lock that somebody else has is tried.
const LOCK_EVERY: Duration = Duration::from_millis(100);
/// So many packs are made one; each fetch that finds something new adds one.
const MANY_PACKS: usize = 40;
/// So many loose objects in one of 256 directories are packed; results add them.
const MANY_LOOSE: usize = 20;

/// The mirrors of this host.
#[derive(Debug, Clone)]
pub struct Mirrors {
    pub(crate) root: PathBuf,
}

/// Where a run starts: a commit that the mirror has, with the mirror locked until this value is gone.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) git_dir: PathBuf,
    pub(crate) format: ObjectFormat,
    pub(crate) base: Advertised,
    _lock: Lock,
}

/// The right to change a mirror.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing it gives the lock back")] File);

impl Mirrors {
    /// Takes the directory that holds all mirrors; it is made when the first one is.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// All mirrors.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] where the directory cannot be read.
    pub async fn list(&self) -> Result<Vec<MirrorInfo>, CheckoutError> {
        let root = self.root.clone();
        blocking(move || keys(&root).map(|keys| keys.iter().map(|key| info(&root, key)).collect()))
            .await
    }

    /// Removes a mirror and returns whether it is gone; one that is in use stays. A run that uses it later fetches anew.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] where it cannot be locked or removed.
    pub async fn remove(&self, key: &str) -> Result<bool, CheckoutError> {
        let (root, key) = (self.root.clone(), key.to_owned());
        blocking(move || remove_if(&root, &key, |_| true)).await
    }

    /// The mirrors that no run used for so long.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] as [`Self::list`].
    pub async fn unused(&self, keep: Duration) -> Result<Vec<MirrorInfo>, CheckoutError> {
        let mut all = self.list().await?;
        all.retain(|mirror| mirror.is_unused(keep));
        Ok(all)
    }

    /// Removes the mirrors that no run used for so long, and returns them.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] as [`Self::remove`].
    pub async fn remove_unused(&self, keep: Duration) -> Result<Vec<MirrorInfo>, CheckoutError> {
        let old = move |info: &MirrorInfo| info.is_unused(keep);
        let root = self.root.clone();
        blocking(move || {
            let mut removed = Vec::new();
            for key in keys(&root)? {
                let info = info(&root, &key);
                if old(&info) && remove_if(&root, &key, old)? {
                    removed.push(info);
                }
            }
            Ok(removed)
        })
        .await
    }

    /// Brings the commit that a run starts from into the mirror of a remote.
    pub(crate) async fn fetch(
        &self,
        remote: &Remote,
        run: RunId,
        branch: Option<&BranchName>,
    ) -> Result<Fetched, CheckoutError> {
        let lock = self.lock(&remote.url.cache_key()).await?;
        let mirror = self.mirror(remote, run);
        let fetched = match mirror.fetch(branch).await {
            Err(error) if mirror.may_be_at_fault(&error).await => {
                tracing::warn!(error = %error, mirror.url = %remote.url, "mirror is made anew");
                mirror.set_aside().await?;
                mirror.fetch(branch).await
            }
            fetched => fetched,
        };
        let (base, format) = fetched?;
        Ok(Fetched { git_dir: mirror.git_dir, format, base, _lock: lock })
    }

    /// Reads a mirror through that something could not be done with, and has it made anew when it is used the next time
    /// where it is damaged; tells whether it is.
    pub(crate) async fn distrust(
        &self,
        remote: &Remote,
        run: RunId,
    ) -> Result<bool, CheckoutError> {
        let _lock = self.lock(&remote.url.cache_key()).await?;
        let mirror = self.mirror(remote, run);
        let is_damaged = mirror.is_damaged().await;
        if is_damaged {
            tracing::warn!(mirror.url = %remote.url, "mirror is damaged and made anew");
            mirror.set_aside().await?;
        }
        Ok(is_damaged)
    }

    pub(crate) fn mirror<'a>(&self, remote: &'a Remote, run: RunId) -> Mirror<'a> {
        let directory = self.root.join(remote.url.cache_key());
        Mirror { git_dir: directory.join(REPOSITORY), directory, remote, run }
    }

    /// Waits for the lock of a mirror.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn lock(&self, key: &str) -> Result<Lock, CheckoutError> {
        loop {
            let (root, key) = (self.root.clone(), key.to_owned());
            if let Some(lock) = blocking(move || try_lock(&root, &key)).await? {
                return Ok(lock);
            }
            tokio::time::sleep(LOCK_EVERY).await;
        }
    }
}

/// Whether the server does not have the commit any more that it named a moment ago.
fn is_stale(detail: &str) -> bool {
    ["not our ref", "unadvertised object", "no such remote ref", "couldn't find remote ref"]
        .iter()
        .any(|words| detail.contains(words))
}

/// One mirror, locked.
pub(crate) struct Mirror<'a> {
    pub(crate) directory: PathBuf,
    pub(crate) git_dir: PathBuf,
    pub(crate) remote: &'a Remote,
    run: RunId,
}

impl Mirror<'_> {
    async fn fetch(
        &self,
        branch: Option<&BranchName>,
    ) -> Result<(Advertised, ObjectFormat), CheckoutError> {
        self.make_ready().await?;
        // A branch that moved between the two questions is asked for once more.
        let mut asked = 0;
        loop {
            let base = self.remote.look(self.run, &self.git_dir, branch).await?;
            let format = self.take_format(ObjectFormat::of(&base.commit)).await?;
            asked += 1;
            match self.bring(&base).await {
                Err(CheckoutError::Remote(error)) if asked < 3 && is_stale(&error.detail) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.take_over_results().await;
                    return Ok((base, format));
                }
            }
        }
    }

    /// Makes the repository where it is not there, and removes what killed calls left.
    pub(crate) async fn make_ready(&self) -> Result<(), CheckoutError> {
        let (directory, git_dir) = (self.directory.clone(), self.git_dir.clone());
        let url = self.remote.url.to_string();
        blocking(move || {
            fs::create_dir_all(&directory).map_err(io_error("make directory", &directory))?;
            clear_leftovers(&directory)?;
            clear_locks(&git_dir)?;
            if !git_dir.join("HEAD").is_file() {
                make_repository(&directory, &git_dir, ObjectFormat::Sha1)?;
            }
            note_use(&directory, &url)
        })
        .await
    }

    /// Makes an empty mirror one of the hash that the remote uses.
    pub(crate) async fn take_format(
        &self,
        wanted: ObjectFormat,
    ) -> Result<ObjectFormat, CheckoutError> {
        if format_of(&self.git_dir)? != wanted {
            let (directory, git_dir) = (self.directory.clone(), self.git_dir.clone());
            blocking(move || make_repository(&directory, &git_dir, wanted)).await?;
        }
        Ok(wanted)
    }

    /// Brings a commit with all of its history, and keeps it for as long as its branch is asked for.
    async fn bring(&self, base: &Advertised) -> Result<(), CheckoutError> {
        if !self.has(&base.commit).await? {
            let incoming = self.directory.join(format!("incoming-{}", Uuid::new_v4().simple()));
            let brought = self.fetch_into(&incoming, &base.commit).await;
            blocking(move || remove_tree(&incoming)).await?;
            brought?;
        }
        self.keep(base).await?;
        self.tidy().await;
        Ok(())
    }

    async fn has(&self, commit: &CommitId) -> Result<bool, CheckoutError> {
        let name = format!("{commit}^{{commit}}");
        let call = self.call("look for the commit")?;
        let answer = call.args(["cat-file", "-e", &name]).try_run().await?;
        match answer.status {
            Some(status) => Ok(status == 0),
            // A git that was killed has not said that it is not there.
            None => Err(answer.into_error("look for the commit")),
        }
    }

    async fn fetch_into(&self, incoming: &Path, commit: &CommitId) -> Result<(), CheckoutError> {
        make_private_dir(incoming)?;
        make_private_dir(&incoming.join("pack"))?;
        make_private_dir(&incoming.join("info"))?;
        let args = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--refmap=",
            "--end-of-options",
            self.remote.url.as_str(),
            commit.as_str(),
        ];
        let variables = BTreeMap::from([
            ("GIT_DIR".to_owned(), path_text(&self.git_dir)?),
            ("GIT_OBJECT_DIRECTORY".to_owned(), path_text(incoming)?),
            (
                "GIT_ALTERNATE_OBJECT_DIRECTORIES".to_owned(),
                path_text(&self.git_dir.join("objects"))?,
            ),
        ]);
        let args = args.map(str::to_owned).to_vec();
        let call = RemoteCall {
            run: self.run,
            part: "fetch",
            args,
            variables,
            watched: &[self.git_dir.clone(), incoming.to_owned()],
        };
        self.remote.run_well(call).await?;
        let (from, into) = (incoming.join("pack"), self.git_dir.join("objects/pack"));
        blocking(move || move_packs(&from, &into)).await?;
        if self.has(commit).await? {
            return Ok(());
        }
        let detail = format!("commit {commit} did not arrive");
        Err(self.remote.error(Trouble::Damaged, detail).into())
    }

    /// Points a ref of our own at the commit. Its name is made from the branch's: no name that a remote chose becomes a
    /// path here.
    async fn keep(&self, base: &Advertised) -> Result<(), CheckoutError> {
        let branch = base.branch.as_ref().map_or("HEAD", BranchName::as_str);
        let digest = Sha256::digest(branch.as_bytes());
        let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let name = format!("refs/opentiger/{name}");
        let call = self.call("note the branch")?;
        call.args(["update-ref", "--no-deref", &name, base.commit.as_str()]).run().await?;
        Ok(())
    }

    /// Makes many packs one, and drops what no ref leads to any more. A run that has linked the old files keeps them.
    async fn tidy(&self) {
        let objects = self.git_dir.join("objects");
        let count = |directory: &str, suffix: &str| {
            let entries = fs::read_dir(objects.join(directory)).into_iter().flatten().flatten();
            entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(suffix)).count()
        };
        if count("pack", ".pack") < MANY_PACKS && count("17", "") < MANY_LOOSE {
            return;
        }
        for args in [&["repack", "-a", "-d", "-q", "-n"][..], &["prune", "--expire=now"]] {
            let done = match self.call("make many packs one") {
                Ok(call) => call.args(args.iter().copied()).run().await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::warn!(error = %error, "mirror not repacked");
                return;
            }
        }
    }

    pub(crate) fn call(&self, doing: &'static str) -> Result<GitCall<'_>, CheckoutError> {
        self.remote.git.call(doing).git_dir(&self.git_dir)
    }
}

/// The hash that a mirror uses.
pub(crate) fn format_of(git_dir: &Path) -> Result<ObjectFormat, CheckoutError> {
    let config = git_dir.join("config");
    let text = fs::read_to_string(&config).map_err(io_error("read", &config))?;
    Ok(if text.contains("sha256") { ObjectFormat::Sha256 } else { ObjectFormat::Sha1 })
}

impl ObjectFormat {
    fn of(commit: &CommitId) -> Self {
        if commit.as_str().len() == 64 { Self::Sha256 } else { Self::Sha1 }
    }
}

/// Takes the lock of a mirror, unless somebody has it. The kernel gives it back when its holder dies.
pub(crate) fn try_lock(root: &Path, key: &str) -> Result<Option<Lock>, CheckoutError> {
    fs::create_dir_all(root).map_err(io_error("make directory", root))?;
    let path = root.join(format!("{key}.lock"));
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(io_error("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(io_error("lock", &path)(error.into())),
    }
}
