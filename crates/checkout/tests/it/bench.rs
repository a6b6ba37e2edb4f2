//! The workbench of these tests: a state directory, a launcher, and the steps of a checkout in a line each.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use checkout::{
    checkouts::{Checkout, Checkouts, Limits, PrepareRequest},
    collect::Collected,
    error::CheckoutError,
    git::GitCommand,
    seal::{CommitMessage, Sealed, SealedCommit},
};
use core_types::{
    ids::{RunId, TaskId},
    repository::Repository,
};
use launcher::process::ProcessLauncher;
use tempfile::TempDir;
use testing::{
    programs::search_path,
    repository::{ScratchRepository, git_in},
};

pub(crate) struct Bench {
    pub(crate) state: TempDir,
    pub(crate) checkouts: Checkouts,
    launcher: ProcessLauncher,
    pub(crate) env: BTreeMap<String, String>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let state = TempDir::new().unwrap();
        let git = git();
        let env =
            [("PATH".to_owned(), search_path()), ("HOME".to_owned(), "/nonexistent".to_owned())];
        Self {
            checkouts: Checkouts::new(state.path().join("checkouts"), git),
            launcher: ProcessLauncher::new(state.path().to_path_buf()).unwrap(),
            env: env.into(),
            state,
        }
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        let mut bench = Self::new();
        bench.checkouts = bench.checkouts.with_limits(limits);
        bench
    }

    pub(crate) async fn prepare(&self, path: &Path) -> Checkout {
        self.try_prepare(path, None).await.unwrap()
    }

    pub(crate) async fn try_prepare(
        &self,
        path: &Path,
        base_branch: Option<&str>,
    ) -> Result<Checkout, CheckoutError> {
        let repository = Repository::Local { path: path.to_str().unwrap().to_owned() };
        let request = PrepareRequest {
            run: RunId::generate(),
            task: TaskId::generate(),
            number: 1,
            repository: &repository,
            base_branch,
        };
        self.checkouts.prepare(request).await
    }

    pub(crate) async fn try_seal(&self, checkout: &Checkout) -> Result<Sealed, CheckoutError> {
        let message = CommitMessage::new("A title", "A body.");
        self.checkouts.seal(checkout, &self.launcher, &self.env, &message).await
    }

    /// Seals what must be a change.
    pub(crate) async fn seal(&self, checkout: &Checkout) -> SealedCommit {
        match self.try_seal(checkout).await.unwrap() {
            Sealed::Commit(commit) => commit,
            Sealed::Nothing { notices } => panic!("nothing changed: {notices:?}"),
        }
    }

    pub(crate) async fn collect(&self, checkout: &Checkout) -> (SealedCommit, Collected) {
        let sealed = self.seal(checkout).await;
        let collected = self.checkouts.collect(checkout, &sealed).await.unwrap();
        (sealed, collected)
    }

    /// A script that leaves a mark when it is executed, and the path of that mark.
    pub(crate) fn canary(&self) -> Canary {
        let mark = self.state.path().join("executed");
        let script = self.state.path().join("canary.sh");
        let text = format!("#!/bin/sh\ntouch '{}'\n[ $# -gt 0 ] || cat\nexit 0\n", mark.display());
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Canary { mark, script }
    }
}

/// Something to plant.
pub(crate) struct Canary {
    mark: PathBuf,
    pub(crate) script: PathBuf,
}

impl Canary {
    pub(crate) fn script(&self) -> &str {
        self.script.to_str().unwrap()
    }

    /// Asserts that the script was executed, and forgets it: the plant is a live one.
    #[track_caller]
    pub(crate) fn assert_live(&self) {
        fs::remove_file(&self.mark).expect("the plant executes when git is used without care");
    }

    #[track_caller]
    pub(crate) fn assert_silent(&self) {
        assert!(!self.mark.try_exists().unwrap(), "a planted program was executed");
    }
}

pub(crate) fn git() -> GitCommand {
    GitCommand::find(&search_path()).unwrap()
}

/// The paths of a commit's tree with their modes, in git's order.
pub(crate) fn tree(repository: &Path, revision: &str) -> Vec<String> {
    let listing = git_in(repository, &["ls-tree", "-r", "-z", "--full-tree", revision]);
    let entry = |entry: &str| {
        let (facts, path) = entry.split_once('\t').unwrap();
        format!("{} {path}", facts.split(' ').next().unwrap())
    };
    listing.split('\0').filter(|entry| !entry.is_empty()).map(entry).collect()
}

/// The tree of [`ScratchRepository::with_one_commit`] with further entries.
pub(crate) fn start_tree_and(more: &[&str]) -> Vec<String> {
    let start = ["100644 .gitignore", "100644 README.md", "100644 src/lib.rs"];
    let mut entries: Vec<String> = start.iter().chain(more).map(|e| (*e).to_owned()).collect();
    entries.sort_by(|a, b| a.split_once(' ').unwrap().1.cmp(b.split_once(' ').unwrap().1));
    entries
}

/// Asserts that a branch is one commit on top of `main`, that the repository is whole, and that nothing but that branch
/// came into it.
#[track_caller]
pub(crate) fn assert_one_commit(repository: &ScratchRepository, collected: &Collected) {
    let range = format!("main..{}", collected.branch);
    assert_eq!(repository.git(&["rev-list", "--count", &range]).trim(), "1");
    let author = repository.git(&["log", "-1", "--format=%an <%ae> %cn <%ce>", &range]);
    let identity = "openTiger <opentiger@localhost>";
    assert_eq!(author.trim(), format!("{identity} {identity}"));
    repository.git(&["fsck", "--strict"]);
    let refs = repository.git(&["for-each-ref", "--format=%(refname)", "refs/heads/opentiger"]);
    assert_eq!(refs.trim(), collected.branch.to_ref());
}

/// Makes a fifo.
pub(crate) fn make_fifo(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
}
