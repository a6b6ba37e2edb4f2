//! What can go wrong with a checkout, by what can be done about it.

use std::{path::PathBuf, time::Duration};

use crate::{
    branch::InvalidBranchName,
    git::CommitId,
    trouble::{RemoteError, Trouble},
    url::InvalidUrl,
};

/// Who has to change something before the same call can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The task names something that is not there or not allowed.
    Request,
    /// The run's result is not acceptable; another attempt may do better.
    Result,
    /// This host: a missing program, a full disk, a lock; trying again may help.
    Host,
}

/// Why a checkout could not be prepared, sealed, collected or removed.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The task names a URL, and this process knows no way to one.
    #[error("repository `{url}` is on another host, which this process does not reach")]
    RemotesUnavailable {
        /// The URL as the task gave it.
        url: String,
    },
    /// The task names a URL that is not allowed.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// The repository behind the URL cannot be read or written.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The path does not start at the root.
    #[error("`{}` is not an absolute path", path.display())]
    PathNotAbsolute {
        /// The path as the task gave it.
        path: PathBuf,
    },
    /// There is nothing at the path.
    #[error("`{}` does not exist", path.display())]
    PathMissing {
        /// The path as the task gave it.
        path: PathBuf,
    },
    /// There is something else at the path.
    #[error("`{}` is not a directory", path.display())]
    PathNotDirectory {
        /// The path as the task gave it.
        path: PathBuf,
    },
    /// The path cannot be looked at.
    #[error("cannot look at `{}`", path.display())]
    PathUnreadable {
        /// The path as the task gave it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The path, or something its repository refers to, lies outside of the configured directories.
    #[error("`{}` lies outside of the allowed directories; allowed: {allowed}", path.display())]
    OutsideAllowedRoots {
        /// The path that lies outside.
        path: PathBuf,
        /// The configured directories, separated by `, `.
        allowed: String,
    },
    /// The directory is no repository.
    #[error("`{}` is not a git repository", path.display())]
    NotARepository {
        /// The path as the task gave it.
        path: PathBuf,
    },
    /// The directory lies inside of a repository.
    #[error("`{}` is a directory inside of a git repository", path.display())]
    NotTopLevel {
        /// The path as the task gave it.
        path: PathBuf,
    },
    /// The repository belongs to somebody whose files this process should not act on.
    #[error("`{}` belongs to user id {owner}, this process runs as user id {user}", path.display())]
    OwnedByAnother {
        /// The file or directory of another owner.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user this process acts as.
        user: u32,
    },
    /// The repository has no commit.
    #[error("repository `{}` has no commit yet", path.display())]
    NoCommit {
        /// The path as the task gave it.
        path: PathBuf,
    },
    /// `HEAD` names a branch without a commit, and the task names no base branch.
    #[error("HEAD of `{}` is the branch `{branch}`, which has no commit; branches: {existing}", path.display())]
    UnbornHead {
        /// The path as the task gave it.
        path: PathBuf,
        /// The branch that `HEAD` names.
        branch: String,
        /// Branches that have commits, separated by `, `.
        existing: String,
    },
    /// The base branch is no branch name.
    #[error(transparent)]
    BranchInvalid(#[from] InvalidBranchName),
    /// The base branch is not there.
    #[error("repository `{}` has no branch `{branch}`; branches: {existing}", path.display())]
    BranchMissing {
        /// The path as the task gave it.
        path: PathBuf,
        /// The branch that the task names.
        branch: String,
        /// Branches that exist, separated by `, `; at most twenty.
        existing: String,
    },
    /// The repository fetches objects when they are asked for.
    #[error("repository `{}` is a partial clone", path.display())]
    PartialClone {
        /// The path as the task gave it.
        path: PathBuf,
    },
    /// The work tree is gone or is no directory any more.
    #[error("work tree `{}` is missing or no directory", path.display())]
    WorkTreeGone {
        /// Where it was.
        path: PathBuf,
    },
    /// A file of the result is too large.
    #[error("file `{path}` has {bytes} bytes; at most {limit} are committed")]
    FileTooLarge {
        /// The file, relative to the work tree.
        path: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The result has too many files.
    #[error("the work tree has more than {limit} files that are not ignored")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// A file or directory of the work tree cannot be read.
    #[error("`{path}` in the work tree cannot be read")]
    Unreadable {
        /// The file or directory, relative to the work tree.
        path: String,
    },
    /// The pack is not a plain file where it should be.
    #[error("pack `{}` is {what}, not a plain file", path.display())]
    PackNotPlain {
        /// Where the pack should be.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The pack is too large.
    #[error("the result's pack has {bytes} bytes; at most {limit} are taken")]
    PackTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The pack is damaged, incomplete or holds objects that git refuses.
    #[error("the result's pack is refused: {detail}")]
    PackRefused {
        /// What git said, cut.
        detail: String,
    },
    /// The claimed commit does not build on the run's base.
    #[error("commit {tip} does not descend from the run's base {base}")]
    Unrelated {
        /// The claimed commit.
        tip: CommitId,
        /// The run's base commit.
        base: CommitId,
    },
    /// The run's branch is there already, with something else on it.
    #[error("branch `{branch}` exists already at {existing}")]
    BranchTaken {
        /// The run's branch.
        branch: String,
        /// What it points at.
        existing: String,
    },
    /// Another branch's name keeps the run's branch from being made.
    #[error("branch `{branch}` cannot be made beside the branch `{blocking}`")]
    BranchBlocked {
        /// The run's branch.
        branch: String,
        /// The branch in its way.
        blocking: String,
    },
    /// The user's repository cannot be written.
    #[error("repository `{}` cannot be written: {detail}", path.display())]
    NotWritable {
        /// The git directory.
        path: PathBuf,
        /// What git said, cut.
        detail: String,
    },
    /// Git took too long.
    #[error("git did not {doing} within {} s", after.as_secs())]
    Timeout {
        /// What it was asked to do.
        doing: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// Git failed for a reason that has no name here.
    #[error("git could not {doing}: {detail}")]
    Git {
        /// What it was asked to do.
        doing: &'static str,
        /// Exit status and error output, cut.
        detail: String,
    },
    /// Git could not be started.
    #[error("cannot run git to {doing}")]
    GitNotStarted {
        /// What it was asked to do.
        doing: &'static str,
        /// What the launcher said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of the checkout could not be read or written.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl CheckoutError {
    /// Whether the same call may succeed a little later with nothing changed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Remote(error) if error.trouble.is_transient())
    }

    /// Whether the disk of this host is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Remote(error) => error.trouble == Trouble::DiskFull,
            Self::Io { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded),
            Self::Git { detail, .. }
            | Self::NotWritable { detail, .. }
            | Self::PackRefused { detail } => Trouble::of(detail) == Trouble::DiskFull,
            _ => false,
        }
    }

    /// Who has to change something.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::RemotesUnavailable { .. }
            | Self::Url(_)
            | Self::PathNotAbsolute { .. }
            | Self::PathMissing { .. }
            | Self::PathNotDirectory { .. }
            | Self::PathUnreadable { .. }
            | Self::OutsideAllowedRoots { .. }
            | Self::NotARepository { .. }
            | Self::NotTopLevel { .. }
            | Self::OwnedByAnother { .. }
            | Self::NoCommit { .. }
            | Self::UnbornHead { .. }
            | Self::BranchInvalid(_)
            | Self::BranchMissing { .. }
            | Self::PartialClone { .. } => Fault::Request,
            Self::WorkTreeGone { .. }
            | Self::FileTooLarge { .. }
            | Self::TooManyFiles { .. }
            | Self::Unreadable { .. }
            | Self::PackNotPlain { .. }
            | Self::PackTooLarge { .. }
            | Self::PackRefused { .. }
            | Self::Unrelated { .. } => Fault::Result,
            Self::Remote(error) => error.trouble.fault(),
            Self::BranchTaken { .. }
            | Self::BranchBlocked { .. }
            | Self::NotWritable { .. }
            | Self::Timeout { .. }
            | Self::Git { .. }
            | Self::GitNotStarted { .. }
            | Self::Io { .. } => Fault::Host,
        }
    }

    /// What to do about it, where that is known.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::RemotesUnavailable { .. } => {
                "clone it to this host and use `{\"mode\": \"local\", \"path\": …}`"
            }
            Self::Url(error) => error.hint,
            Self::Remote(error) => error.trouble.hint(),
            Self::PathNotAbsolute { .. } => "give the full path, starting with `/`",
            Self::PathMissing { .. } => {
                "check the path; it is resolved on the host that runs the agents"
            }
            Self::PathNotDirectory { .. } | Self::NotARepository { .. } => {
                "name the top directory of a git work tree or a bare repository; `git init` makes one"
            }
            Self::PathUnreadable { .. } => "let the user that runs openTiger read the path",
            Self::OutsideAllowedRoots { .. } => {
                "move the repository, or add a directory above it to LOCAL_REPO_ROOTS"
            }
            Self::NotTopLevel { .. } => "name the top directory: `git rev-parse --show-toplevel`",
            Self::OwnedByAnother { .. } => {
                "run openTiger as the repository's owner, or give all of the repository to one owner with `chown -R`"
            }
            Self::NoCommit { .. } => "make a first commit: `git commit --allow-empty -m start`",
            Self::UnbornHead { .. } | Self::BranchMissing { .. } => {
                "name one of the existing branches as the base branch"
            }
            Self::BranchInvalid(_) => "see `git help check-ref-format` for the rules",
            Self::PartialClone { .. } => {
                "fetch all of its objects with `git fetch --refetch --no-filter`, or use a full clone"
            }
            Self::FileTooLarge { .. } | Self::TooManyFiles { .. } => {
                "let `.gitignore` name what should not be committed"
            }
            Self::Unreadable { .. } => "let `.gitignore` name it, or make it readable",
            Self::BranchTaken { .. } => "delete or rename that branch if its content is not needed",
            Self::BranchBlocked { .. } => "rename the branch that is in the way",
            Self::NotWritable { .. } => {
                "free space on the disk, and let the user that runs openTiger write to the repository"
            }
            Self::Timeout { .. } => {
                "check the machine's load, and the work tree for fifos and devices"
            }
            Self::GitNotStarted { .. } => "install git 2.30 or newer and check PATH",
            Self::WorkTreeGone { .. }
            | Self::PackNotPlain { .. }
            | Self::PackTooLarge { .. }
            | Self::PackRefused { .. }
            | Self::Unrelated { .. }
            | Self::Git { .. }
            | Self::Io { .. } => return None,
        })
    }
}
