//! The directory of all checkouts: makes one for a run, lists and removes them.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use core_types::{
    ids::{RunId, TaskId},
    repository::Repository,
};
use uuid::Uuid;

use crate::{
    branch::BranchName,
    error::CheckoutError,
    files::{blocking, io_error, make_private_dir, read_small, remove_tree, write_new},
    git::{CommitId, GitCommand},
    git_dir::GitDir,
    local::{Base, LocalRepository, inspect_local},
    objects::{Source, bring_objects},
    roots::AllowedRoots,
};

/// What a result may have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one new or changed file.
    pub file_bytes: u64,
    /// Files of a work tree that are not ignored.
    pub files: usize,
    /// Bytes of the pack that carries a result.
    pub pack_bytes: u64,
}

impl Default for Limits {
    /// 100 MiB for a file (what public hosts accept), 200,000 files, 256 MiB for a result.
    fn default() -> Self {
        Self { file_bytes: 100 << 20, files: 200_000, pack_bytes: 256 << 20 }
    }
}

/// All checkouts of this host.
#[derive(Debug, Clone)]
pub struct Checkouts {
    root: PathBuf,
    pub(crate) git: GitCommand,
    roots: AllowedRoots,
    pub(crate) limits: Limits,
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
    pub(crate) source: Arc<LocalRepository>,
    pub(crate) shallow: Option<Vec<u8>>,
}

impl Checkout {
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
        Self { root, git, roots: AllowedRoots::default(), limits: Limits::default() }
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
    /// Those of [`inspect_local`] and [`LocalRepository::base`]; [`CheckoutError::PartialClone`]; faults of the host.
    pub async fn prepare(&self, request: PrepareRequest<'_>) -> Result<Checkout, CheckoutError> {
        let path = match request.repository {
            Repository::Local { path } => path,
            Repository::Git { url } => {
                return Err(CheckoutError::GitModeUnsupported { url: url.clone() });
            }
        };
        let source = inspect_local(&self.git, path, &self.roots).await?;
        let base = source.base(&self.git, request.base_branch).await?;
        self.remove(request.run).await?;
        let made = self.make(&request, source, base).await;
        if made.is_err()
            && let Err(error) = self.remove(request.run).await
        {
            tracing::warn!(run.id = %request.run, error = %error, "cannot remove a failed checkout");
        }
        made
    }

    async fn make(
        &self,
        request: &PrepareRequest<'_>,
        source: LocalRepository,
        base: Base,
    ) -> Result<Checkout, CheckoutError> {
        let directory = self.directory(request.run);
        let shallow = read_small(&source.common_dir, "shallow", 4 << 20)
            .map_err(io_error("read", &source.common_dir))?;
        let checkout = Checkout {
            run: request.run,
            work: directory.join("work"),
            tmp: directory.join("tmp"),
            home: directory.join("home"),
            base_commit: base.commit,
            base_branch: base.branch,
            branch: BranchName::of_run(request.task, request.number),
            directory,
            source: Arc::new(source),
            shallow,
        };
        let (root, in_background) = (self.root.clone(), checkout.clone());
        blocking(move || lay_out(&root, &in_background)).await?;
        self.write_work_tree(&checkout).await?;
        Ok(checkout)
    }

    /// Writes the base's files and the agent's index. No filter, hook or configuration of the user's applies.
    async fn write_work_tree(&self, checkout: &Checkout) -> Result<(), CheckoutError> {
        let call = self.git.call("write the work tree");
        let call = call.git_dir(&checkout.work.join(".git"))?.work_tree(&checkout.work)?;
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

    fn directory(&self, run: RunId) -> PathBuf {
        self.root.join(run.to_string())
    }
}

/// Makes the directories, the borrowed objects and the agent's own git directory.
fn lay_out(root: &Path, checkout: &Checkout) -> Result<(), CheckoutError> {
    fs::create_dir_all(root).map_err(io_error("make directory", root))?;
    for directory in [&checkout.directory, &checkout.work, &checkout.tmp, &checkout.home] {
        make_private_dir(directory)?;
    }
    let source = &checkout.source;
    let objects = Source {
        repository: source.path.clone(),
        objects: source.common_dir.join("objects"),
        format: source.format,
        roots: source.roots().clone(),
        owner: source.owner.map(|user| user.uid),
    };
    let brought = bring_objects(&objects, &checkout.directory.join("objects"))?;
    tracing::debug!(
        objects.linked = brought.linked,
        objects.copied = brought.copied,
        "brought the repository's objects over"
    );
    write_agent_git_dir(checkout)
}

fn write_agent_git_dir(checkout: &Checkout) -> Result<(), CheckoutError> {
    let source = &checkout.source;
    let exclude = read_small(&source.common_dir, "info/exclude", 64 << 10)
        .map_err(io_error("read", &source.common_dir))?
        .unwrap_or_default();
    write_new(&checkout.exclude_file(), &exclude)?;
    let git_dir = GitDir {
        path: checkout.work.join(".git"),
        format: source.format,
        bare: false,
        borrow_from: "../../../objects",
        head: format!("ref: {}", checkout.branch.to_ref()),
        shallow: checkout.shallow.clone(),
        exclude: Some(exclude),
    };
    git_dir.make()?;
    let commit = checkout.base_commit.as_str();
    git_dir.write_branch(checkout.branch.as_str(), commit)?;
    match &checkout.base_branch {
        // So that the agent can compare with it. A name that cannot stand beside the run's branch is left out.
        Some(base) if !base.as_str().starts_with("opentiger") => {
            git_dir.write_branch(base.as_str(), commit)
        }
        Some(_) | None => Ok(()),
    }
}

impl Checkout {
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
            borrow_from: "../../objects",
            head: "ref: refs/heads/none".to_owned(),
            shallow: self.shallow.clone(),
            exclude: None,
        }
    }
}
