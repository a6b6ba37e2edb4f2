//! The directory of all checkouts: makes one for a run, lists and removes them.

mod layout;
mod not_made;

use std::{fmt, fs, io, os::unix::fs::DirBuilderExt as _, path::PathBuf, sync::Arc};

use core_types::{
    ids::{RunId, TaskId},
    repository::Repository,
};
use launcher::launcher::Launcher;
use uuid::Uuid;

use self::{layout::lay_out, not_made::NotMade};
use crate::{
    access::RemoteAccess,
    branch::BranchName,
    error::CheckoutError,
    files::{blocking, io_error, read_small, remove_tree},
    git::{CommitId, GitCommand, path_text},
    git_dir::GitDir,
    local::{Base, Head, LocalRepository, inspect_local},
    mirror::{Fetched, Mirrors},
    remote::Remote,
    roots::AllowedRoots,
    url::RepositoryUrl,
};

/// The directory of a checkout that a sandbox sees and may write.
pub(crate) const BOX: &str = "box";

/// What a result may have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one new or changed file.
    pub file_bytes: u64,
    /// Files of a work tree that are not ignored.
    pub files: usize,
    /// Bytes of the pack that carries a result.
    pub pack_bytes: u64,
    /// Bytes of memory that git may take to check a result of a sandbox: what is small in a pack need not be small.
    pub memory_bytes: u64,
}

impl Default for Limits {
    /// 100 MiB for a file (what public hosts accept), 200,000 files, 256 MiB for a result, 2 GiB of memory.
    fn default() -> Self {
        Self { file_bytes: 100 << 20, files: 200_000, pack_bytes: 256 << 20, memory_bytes: 2 << 30 }
    }
}

/// All checkouts of this host.
#[derive(Debug, Clone)]
pub struct Checkouts {
    pub(crate) root: PathBuf,
    pub(crate) git: GitCommand,
    roots: AllowedRoots,
    pub(crate) limits: Limits,
    pub(crate) mirrors: Option<PathBuf>,
    pub(crate) remotes: Option<Remotes>,
}

/// What repositories behind a network need beside a place for their mirrors: a way to them, and who starts git for it.
#[derive(Clone)]
pub struct Remotes {
    /// How they are reached.
    pub access: Arc<RemoteAccess>,
    /// Starts git.
    pub launcher: Arc<dyn Launcher>,
}

impl fmt::Debug for Remotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remotes").field("access", &self.access).finish_non_exhaustive()
    }
}

/// What a checkout is made from.
#[derive(Debug, Clone, Copy)]
pub struct PrepareRequest<'a> {
    /// The run it is for.
    pub run: RunId,
    /// The run's task.
    pub task: TaskId,
    /// Which attempt at the task this is, from 1.
    pub number: u32,
    /// Where the repository is.
    pub repository: &'a Repository,
    /// The branch to start from; none: what `HEAD` of the repository says.
    pub base_branch: Option<&'a str>,
}

/// A run's own copy of a repository.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// The run it is for.
    pub run: RunId,
    /// The work tree, a repository of its own on `branch`: the agent's current directory.
    pub work: PathBuf,
    /// A directory for temporary files, empty.
    pub tmp: PathBuf,
    /// A home directory, empty.
    pub home: PathBuf,
    /// The commit that the run starts from.
    pub base_commit: CommitId,
    /// The branch that the run starts from; none where that is a commit without a branch.
    pub base_branch: Option<BranchName>,
    /// The branch that the result goes to.
    pub branch: BranchName,
    /// The directory of it all.
    pub(crate) directory: PathBuf,
    /// Whether a sandbox works in it, which sees a directory below that alone.
    pub(crate) boxed: bool,
    pub(crate) source: Arc<LocalRepository>,
    /// Where the result is pushed to; none where it goes into `source`.
    pub(crate) remote: Option<Arc<Remote>>,
    pub(crate) shallow: Option<Vec<u8>>,
}

impl Checkout {
    /// Whether the result goes to another host.
    #[must_use]
    pub const fn is_pushed(&self) -> bool {
        self.remote.is_some()
    }

    /// Makes a directory of the run's own, 0700 and empty, under a name that nobody could foresee: what the agent left
    /// lying in wait is not in it.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] where it cannot be made.
    pub fn fresh_directory(&self, purpose: &str) -> Result<PathBuf, CheckoutError> {
        let path = self.directory.join(format!("{purpose}-{}", Uuid::new_v4().simple()));
        // Not recursive: a path that exists is refused.
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(io_error("make", &path))?;
        Ok(path)
    }
}

impl Checkouts {
    /// Takes the directory that holds all checkouts; it is made when the first one is.
    #[must_use]
    pub fn new(root: PathBuf, git: GitCommand) -> Self {
        let (roots, limits) = (AllowedRoots::default(), Limits::default());
        Self { root, git, roots, limits, mirrors: None, remotes: None }
    }

    /// The same with the directory that holds all mirrors; it is made when the first one is.
    #[must_use]
    pub fn with_mirrors(mut self, root: PathBuf) -> Self {
        self.mirrors = Some(root);
        self
    }

    /// The same below another directory, of any local repository.
    #[must_use]
    pub(crate) fn apart(&self, root: PathBuf) -> Self {
        let (roots, git) = (AllowedRoots::default(), self.git.clone());
        Self { root, git, roots, limits: self.limits, mirrors: None, remotes: None }
    }

    /// The mirrors, where a directory for them was named.
    #[must_use]
    pub fn mirrors(&self) -> Option<Mirrors> {
        self.mirrors.clone().map(Mirrors::new)
    }

    /// The same, for repositories behind a network too, if there is a directory for mirrors.
    #[must_use]
    pub fn with_remotes(mut self, remotes: Remotes) -> Self {
        self.remotes = Some(remotes);
        self
    }

    /// The same, for repositories below the given directories only.
    #[must_use]
    pub fn with_allowed_roots(mut self, roots: AllowedRoots) -> Self {
        self.roots = roots;
        self
    }

    /// The same with other limits.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Makes the checkout of a run. What an earlier attempt at the same call left is removed first; what a failed
    /// one made is removed too.
    ///
    /// # Errors
    /// Those of [`inspect_local`] and [`LocalRepository::base`]; [`CheckoutError::PartialClone`]; for a repository
    /// behind a network [`CheckoutError::Url`], [`CheckoutError::Remote`] and those of a missing branch; faults of the
    /// host.
    pub async fn prepare(&self, request: PrepareRequest<'_>) -> Result<Checkout, CheckoutError> {
        self.prepare_as(request, false).await
    }

    /// The same; `boxed` where a sandbox shall work in it.
    pub(crate) async fn prepare_as(
        &self,
        request: PrepareRequest<'_>,
        boxed: bool,
    ) -> Result<Checkout, CheckoutError> {
        let mut made = self.try_prepare(&request, boxed).await;
        // A copy of somebody else's repository may be damaged where only reading all of it shows. It can be made anew.
        if let Err(NotMade { error: error @ CheckoutError::Git { .. }, remote: Some(remote) }) =
            &made
            && !error.is_disk_full()
            && let Some(mirrors) = self.mirrors()
        {
            if mirrors.distrust(remote, request.run).await? {
                made = self.try_prepare(&request, boxed).await;
            } else if let Err(not_made) = &mut made {
                // Then it is not the repository either, as far as anybody can tell.
                not_made.remote = None;
            }
        }
        let made = made.map_err(NotMade::into_error);
        if made.is_err()
            && let Err(error) = self.remove(request.run).await
        {
            tracing::warn!(run.id = %request.run, error = %error, "cannot remove a failed checkout");
        }
        made
    }

    async fn start_locally(
        &self,
        path: &str,
        branch: Option<&str>,
    ) -> Result<Start, CheckoutError> {
        let source = inspect_local(&self.git, path, &self.roots).await?;
        let base = source.base(&self.git, branch).await?;
        Ok(Start { source, base, remote: None, mirror: None })
    }

    /// Fetches into the mirror, which then is what a repository of this host is to the rest.
    async fn start_remotely(
        &self,
        url: &str,
        request: &PrepareRequest<'_>,
    ) -> Result<Start, CheckoutError> {
        let (Some(remotes), Some(mirrors)) = (self.remotes.clone(), self.mirrors.clone()) else {
            return Err(CheckoutError::RemotesUnavailable { url: url.to_owned() });
        };
        let url = RepositoryUrl::parse(url, remotes.access.rules)?;
        let branch = request.base_branch.map(str::parse::<BranchName>).transpose()?;
        let remote = Remote {
            url,
            access: remotes.access,
            git: self.git.clone(),
            launcher: remotes.launcher,
            private_dir: mirrors.clone(),
        };
        let fetched = Mirrors::new(mirrors).fetch(&remote, request.run, branch.as_ref()).await?;
        let commit = fetched.base.commit.clone();
        let head = Head::Detached { commit: commit.clone() };
        let source = LocalRepository::of_our_own(&fetched.git_dir, fetched.format, head);
        let base = Base { branch: fetched.base.branch.clone(), commit };
        Ok(Start { source, base, remote: Some(Arc::new(remote)), mirror: Some(fetched) })
    }

    async fn make(
        &self,
        request: &PrepareRequest<'_>,
        Start { source, base, remote, mirror }: Start,
        boxed: bool,
    ) -> Result<Checkout, CheckoutError> {
        let directory = self.directory(request.run);
        let inner = if boxed { directory.join(BOX) } else { directory.clone() };
        let shallow = read_small(&source.common_dir, "shallow", 4 << 20)
            .map_err(io_error("read", &source.common_dir))?;
        let checkout = Checkout {
            run: request.run,
            work: inner.join("work"),
            tmp: inner.join("tmp"),
            home: inner.join("home"),
            base_commit: base.commit,
            base_branch: base.branch,
            branch: BranchName::of_run(request.task, request.number),
            directory,
            boxed,
            source: Arc::new(source),
            remote,
            shallow,
        };
        let (root, in_background) = (self.root.clone(), checkout.clone());
        blocking(move || lay_out(&root, &in_background)).await?;
        // The objects are linked: whatever happens to the mirror now is no matter.
        drop(mirror);
        self.write_work_tree(&checkout).await?;
        Ok(checkout)
    }

    /// Writes the base's files and the agent's index. No filter, hook or configuration of the user's applies.
    async fn write_work_tree(&self, checkout: &Checkout) -> Result<(), CheckoutError> {
        let call = self.git.call("write the work tree");
        let mut call = call.git_dir(&checkout.work.join(".git"))?.work_tree(&checkout.work)?;
        if checkout.boxed {
            // What the git directory borrows from is there in the sandbox only.
            call = call.objects(&path_text(&checkout.objects())?);
        }
        let args = ["read-tree", "--reset", "-u", checkout.base_commit.as_str()];
        call.args(args).run().await?;
        Ok(())
    }

    /// Removes the checkout of a run. Nothing there is fine.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] where something of it cannot be removed.
    pub async fn remove(&self, run: RunId) -> Result<(), CheckoutError> {
        let directory = self.directory(run);
        blocking(move || remove_tree(&directory)).await
    }

    /// The runs whose checkouts are on disk.
    ///
    /// # Errors
    /// [`CheckoutError::Io`] where the directory of all checkouts cannot be read.
    pub async fn list(&self) -> Result<Vec<RunId>, CheckoutError> {
        let root = self.root.clone();
        blocking(move || {
            let entries = match fs::read_dir(&root) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(io_error("list", &root)(error)),
            };
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            Ok(names.filter_map(|name| name.parse().ok()).collect())
        })
        .await
    }

    pub(crate) fn directory(&self, run: RunId) -> PathBuf {
        self.root.join(run.to_string())
    }
}

/// Where a run starts, and where its result goes.
struct Start {
    source: LocalRepository,
    base: Base,
    remote: Option<Arc<Remote>>,
    /// Keeps the mirror as it is until its objects are linked.
    mirror: Option<Fetched>,
}

impl Checkout {
    /// The base's objects.
    pub(crate) fn objects(&self) -> PathBuf {
        self.directory.join("objects")
    }

    /// Where a sandbox leaves its result.
    pub(crate) fn result_dir(&self) -> PathBuf {
        self.directory.join(BOX).join("result")
    }

    /// What the user's repository excludes beside `.gitignore`.
    pub(crate) fn exclude_file(&self) -> PathBuf {
        self.directory.join("exclude")
    }

    /// The git directory that seals the result; the agent never sees it before.
    pub(crate) fn seal_dir(&self) -> PathBuf {
        self.directory.join("seal.git")
    }

    /// The git directory that takes the result's pack apart.
    pub(crate) fn quarantine_dir(&self) -> PathBuf {
        self.directory.join("quarantine.git")
    }

    /// A git directory beside the work tree that borrows the base's objects.
    pub(crate) fn private_git_dir(&self, path: PathBuf) -> GitDir {
        GitDir {
            path,
            format: self.source.format,
            bare: true,
            borrow_from: Some("../../objects"),
            head: "ref: refs/heads/none".to_owned(),
            shallow: self.shallow.clone(),
            exclude: None,
        }
    }
}
