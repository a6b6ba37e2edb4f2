//! Looking at a repository of this host: is it one, whose is it, what does `HEAD` say, where would a run start.
//!
//! Nothing here writes. A privileged process looks through the eyes of the repository's owner: git then runs as that
//! user, so that what the repository's configuration could do, it does at most as its owner.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use launcher::spec::UserId;

use crate::{
    branch::BranchName,
    error::CheckoutError,
    git::{CommitId, GitCall, GitCommand, GitOutput},
    git_dir::ObjectFormat,
    roots::AllowedRoots,
};

/// Most branches that an error text names.
const NAMED_BRANCHES: &str = "--count=20";

/// A repository of this host.
#[derive(Debug, Clone)]
pub struct LocalRepository {
    /// The work tree's top directory or the bare repository, symbolic links resolved.
    pub path: PathBuf,
    /// The git directory; of a linked work tree its own one.
    pub git_dir: PathBuf,
    /// The git directory that holds objects and branches.
    pub common_dir: PathBuf,
    /// What `HEAD` says.
    pub head: Head,
    pub(crate) format: ObjectFormat,
    /// Some: git acts on this repository as this user, its owner.
    pub(crate) owner: Option<UserId>,
    roots: AllowedRoots,
}

/// What `HEAD` of a repository says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A branch with a commit.
    Branch {
        /// Its name.
        name: BranchName,
        /// Its commit.
        commit: CommitId,
    },
    /// A branch that has no commit yet.
    Unborn {
        /// Its name.
        name: String,
    },
    /// A commit without a branch.
    Detached {
        /// The commit.
        commit: CommitId,
    },
}

/// Where a run starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The branch; none where `HEAD` is detached and the task names no branch.
    pub branch: Option<BranchName>,
    /// The commit.
    pub commit: CommitId,
}

/// Looks at a repository of this host.
///
/// # Errors
/// A [`CheckoutError`] whose [`fault`](CheckoutError::fault) is `Request` where the path is not absolute, missing, a
/// file, outside of the allowed directories, no repository, inside of one, or not the user's own.
pub async fn inspect_local(
    git: &GitCommand,
    path: &str,
    roots: &AllowedRoots,
) -> Result<LocalRepository, CheckoutError> {
    let path = roots.check(Path::new(path))?;
    let metadata = fs::metadata(&path)
        .map_err(|source| CheckoutError::PathUnreadable { path: path.clone(), source })?;
    if !metadata.is_dir() {
        return Err(CheckoutError::PathNotDirectory { path });
    }
    let owner = acting_user(&metadata);
    let places = Places::find(git, &path, owner).await?;
    for place in [&places.git_dir, &places.common_dir] {
        roots.check(place)?;
    }
    let head = read_head(git, &places.git_dir, owner).await?;
    Ok(LocalRepository {
        path,
        git_dir: places.git_dir,
        common_dir: places.common_dir,
        head,
        format: places.format,
        owner,
        roots: roots.clone(),
    })
}

/// Whom a privileged process acts as; none where it acts as itself.
fn acting_user(metadata: &fs::Metadata) -> Option<UserId> {
    let privileged = rustix::process::geteuid().is_root();
    (privileged && metadata.uid() != 0).then(|| UserId { uid: metadata.uid(), gid: metadata.gid() })
}

/// Where git found the parts of a repository.
struct Places {
    git_dir: PathBuf,
    common_dir: PathBuf,
    format: ObjectFormat,
}

impl Places {
    async fn find(
        git: &GitCommand,
        path: &Path,
        owner: Option<UserId>,
    ) -> Result<Self, CheckoutError> {
        let ask = |what: &'static [&'static str]| async move {
            let call = git.call("look at the repository").inside(path)?.run_as(owner);
            let output = call.args(["rev-parse"]).args(what.iter().copied()).try_run().await?;
            if output.success { Ok(output) } else { Err(not_found(path, owner, output)) }
        };
        let (facts, git_dir, common_dir) = tokio::try_join!(
            ask(&["--is-inside-git-dir", "--show-object-format", "--show-prefix"]),
            ask(&["--absolute-git-dir"]),
            ask(&["--path-format=absolute", "--git-common-dir"]),
        )?;
        let facts = facts.text();
        let mut facts = facts.splitn(3, '\n');
        let inside_git_dir = facts.next() == Some("true");
        let format = match facts.next() {
            Some("sha256") => ObjectFormat::Sha256,
            Some(_) | None => ObjectFormat::Sha1,
        };
        let prefix = facts.next().unwrap_or_default();
        let git_dir = path_of(&git_dir);
        if !prefix.is_empty() || (inside_git_dir && git_dir != path) {
            return Err(CheckoutError::NotTopLevel { path: path.to_owned() });
        }
        Ok(Self { git_dir, common_dir: path_of(&common_dir), format })
    }
}

/// A path that git printed; it ends with one line end, whatever the path holds.
fn path_of(output: &GitOutput) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout);
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

fn not_found(path: &Path, owner: Option<UserId>, output: GitOutput) -> CheckoutError {
    let user = owner.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid);
    let path = path.to_owned();
    if output.stderr.contains("dubious ownership") {
        return CheckoutError::OwnedByAnother { owner: other_owner(&path, user), path, user };
    }
    if output.stderr.contains("cannot change to") {
        let why = format!("user id {user}, its owner, cannot reach it");
        let source = std::io::Error::new(std::io::ErrorKind::PermissionDenied, why);
        return CheckoutError::PathUnreadable { path, source };
    }
    if output.stderr.contains("not a git repository") {
        return CheckoutError::NotARepository { path };
    }
    output.into_error("look at the repository")
}

/// The owner that git complained about: of the directory itself or of its git directory.
fn other_owner(path: &Path, user: u32) -> u32 {
    let places = [path.to_owned(), path.join(".git")];
    let mut owners = places.iter().filter_map(|place| fs::symlink_metadata(place).ok());
    owners.find(|metadata| metadata.uid() != user).map_or(user, |metadata| metadata.uid())
}

async fn read_head(
    git: &GitCommand,
    git_dir: &Path,
    owner: Option<UserId>,
) -> Result<Head, CheckoutError> {
    let call = || -> Result<GitCall<'_>, CheckoutError> {
        Ok(git.call("read HEAD").git_dir(git_dir)?.run_as(owner))
    };
    let (branch, commit) = tokio::try_join!(
        call()?.args(["symbolic-ref", "--quiet", "HEAD"]).try_run(),
        call()?.args(["rev-parse", "--quiet", "--verify", "HEAD^{commit}"]).try_run(),
    )?;
    let target = branch.text();
    let branch = target.strip_prefix("refs/heads/").filter(|_| branch.success);
    match (branch, commit.commit()) {
        (Some(name), Some(commit)) => Ok(Head::Branch { name: name.parse()?, commit }),
        (Some(name), None) => Ok(Head::Unborn { name: name.to_owned() }),
        (None, Some(commit)) => Ok(Head::Detached { commit }),
        (None, None) => Err(commit.into_error("read HEAD")),
    }
}

impl LocalRepository {
    /// A bare repository that openTiger made itself.
    pub(crate) fn of_our_own(git_dir: &Path, format: ObjectFormat, head: Head) -> Self {
        Self {
            path: git_dir.to_owned(),
            git_dir: git_dir.to_owned(),
            common_dir: git_dir.to_owned(),
            head,
            format,
            owner: None,
            roots: AllowedRoots::default(),
        }
    }

    /// Finds the commit that a run starts from: of the named branch, else of `HEAD`.
    ///
    /// # Errors
    /// [`CheckoutError::BranchInvalid`], [`CheckoutError::BranchMissing`], [`CheckoutError::UnbornHead`],
    /// [`CheckoutError::NoCommit`].
    pub async fn base(
        &self,
        git: &GitCommand,
        branch: Option<&str>,
    ) -> Result<Base, CheckoutError> {
        let Some(branch) = branch else {
            return self.base_of_head(git).await;
        };
        let branch: BranchName = branch.parse()?;
        match self.branch_commit(git, &branch).await? {
            Some(commit) => Ok(Base { branch: Some(branch), commit }),
            None => {
                let existing = self.some_branches(git).await?;
                Err(CheckoutError::BranchMissing {
                    path: self.path.clone(),
                    branch: branch.to_string(),
                    existing: existing.ok_or_else(|| self.no_commit())?,
                })
            }
        }
    }

    async fn base_of_head(&self, git: &GitCommand) -> Result<Base, CheckoutError> {
        match &self.head {
            Head::Branch { name, commit } => {
                Ok(Base { branch: Some(name.clone()), commit: commit.clone() })
            }
            Head::Detached { commit } => Ok(Base { branch: None, commit: commit.clone() }),
            Head::Unborn { name } => {
                let existing = self.some_branches(git).await?;
                Err(CheckoutError::UnbornHead {
                    path: self.path.clone(),
                    branch: name.clone(),
                    existing: existing.ok_or_else(|| self.no_commit())?,
                })
            }
        }
    }

    fn no_commit(&self) -> CheckoutError {
        CheckoutError::NoCommit { path: self.path.clone() }
    }

    /// The commit of a branch; none where there is no such branch.
    pub(crate) async fn branch_commit(
        &self,
        git: &GitCommand,
        branch: &BranchName,
    ) -> Result<Option<CommitId>, CheckoutError> {
        let name = format!("{}^{{commit}}", branch.to_ref());
        let call = self.call(git, "read a branch")?;
        let args = ["rev-parse", "--quiet", "--verify", "--end-of-options", &name];
        Ok(call.args(args).try_run().await?.commit())
    }

    /// Names of branches, separated by `, `; none where there are none.
    async fn some_branches(&self, git: &GitCommand) -> Result<Option<String>, CheckoutError> {
        let format = "--format=%(refname:lstrip=2)";
        let call = self.call(git, "list the branches")?;
        let output =
            call.args(["for-each-ref", NAMED_BRANCHES, format, "refs/heads"]).run().await?;
        let names = output.text();
        Ok((!names.is_empty()).then(|| names.lines().collect::<Vec<_>>().join(", ")))
    }

    /// Begins a call that acts on this repository.
    pub(crate) fn call<'g>(
        &self,
        git: &'g GitCommand,
        doing: &'static str,
    ) -> Result<GitCall<'g>, CheckoutError> {
        Ok(git.call(doing).git_dir(&self.common_dir)?.run_as(self.owner))
    }

    pub(crate) const fn roots(&self) -> &AllowedRoots {
        &self.roots
    }
}
