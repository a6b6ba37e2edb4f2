//! The workbench for repositories behind a network: a state directory, a launcher, and an access to be changed.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use checkout::{
    access::RemoteAccess,
    checkouts::{Checkout, Checkouts, PrepareRequest, Remotes},
    collect::Collected,
    error::CheckoutError,
    git::GitCommand,
    mirror::Mirrors,
    seal::{CommitMessage, Sealed, SealedCommit},
    trouble::Trouble,
    url::UrlRules,
};
use core_types::{
    credential::parse_host_tokens,
    ids::{RunId, TaskId},
    repository::Repository,
};
use launcher::{launcher::Launcher, process::ProcessLauncher};
use tempfile::TempDir;
use testing::{git_server::GitServer, programs::search_path, ssh_server::SshServer};

use crate::bench::git;

pub(crate) struct RemoteBench {
    pub(crate) state: TempDir,
    pub(crate) access: RemoteAccess,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) git: GitCommand,
}

impl RemoteBench {
    pub(crate) fn new() -> Self {
        let state = TempDir::new().unwrap();
        let launcher = ProcessLauncher::new(state.path().to_path_buf()).unwrap();
        let access = RemoteAccess {
            rules: UrlRules::default(),
            tokens: Vec::new(),
            accept_unknown_ssh_hosts: false,
            ssh_config: None,
            ca_file: None,
            timeout: Duration::from_secs(60),
            max_bytes: None,
            environment: BTreeMap::from([
                ("PATH".to_owned(), search_path()),
                ("HOME".to_owned(), state.path().join("home").to_str().unwrap().to_owned()),
            ]),
        };
        std::fs::create_dir(state.path().join("home")).unwrap();
        Self { state, access, launcher: Arc::new(launcher), git: git() }
    }

    /// A bench that trusts the server.
    pub(crate) fn of(server: &GitServer) -> Self {
        let mut bench = Self::new();
        bench.access.ca_file = Some(server.ca_file());
        bench
    }

    /// A bench that gets in at the server, once it knows its key.
    pub(crate) fn of_ssh(server: &SshServer) -> Self {
        let mut bench = Self::new();
        bench.access.ssh_config = Some(server.client_config());
        bench
    }

    pub(crate) fn set_tokens(&mut self, tokens: &str) {
        self.access.tokens = parse_host_tokens(tokens).unwrap();
    }

    pub(crate) fn mirrors_dir(&self) -> PathBuf {
        self.state.path().join("mirrors")
    }

    pub(crate) fn mirrors(&self) -> Mirrors {
        Mirrors::new(self.mirrors_dir())
    }

    pub(crate) fn checkouts(&self) -> Checkouts {
        let remotes =
            Remotes { access: Arc::new(self.access.clone()), launcher: Arc::clone(&self.launcher) };
        Checkouts::new(self.state.path().join("checkouts"), self.git.clone())
            .with_mirrors(self.mirrors_dir())
            .with_remotes(remotes)
    }

    pub(crate) async fn prepare(&self, url: &str) -> Checkout {
        self.try_prepare(url, None).await.unwrap()
    }

    pub(crate) async fn try_prepare(
        &self,
        url: &str,
        base_branch: Option<&str>,
    ) -> Result<Checkout, CheckoutError> {
        self.prepare_for(RunId::generate(), url, base_branch).await
    }

    pub(crate) async fn prepare_for(
        &self,
        run: RunId,
        url: &str,
        base_branch: Option<&str>,
    ) -> Result<Checkout, CheckoutError> {
        let repository = Repository::Git { url: url.to_owned() };
        let task = TaskId::generate();
        let request = PrepareRequest { run, task, number: 1, repository: &repository, base_branch };
        self.checkouts().prepare(request).await
    }

    /// The trouble that keeps a run from its checkout.
    pub(crate) async fn trouble(&self, url: &str) -> Trouble {
        let error = self.try_prepare(url, None).await.unwrap_err();
        trouble_of(&error)
    }

    /// Writes a file and seals the work tree.
    pub(crate) async fn change(&self, checkout: &Checkout) -> SealedCommit {
        std::fs::write(checkout.work.join("new.txt"), "new\n").unwrap();
        let env = BTreeMap::from([("PATH".to_owned(), search_path())]);
        let message = CommitMessage::new("A title", "A body.");
        let launcher = &*self.launcher;
        match self.checkouts().seal(checkout, launcher, &env, &message).await.unwrap() {
            Sealed::Commit(commit) => commit,
            Sealed::Nothing { notices } => panic!("nothing changed: {notices:?}"),
        }
    }

    pub(crate) async fn try_push(&self, checkout: &Checkout) -> Result<Collected, CheckoutError> {
        let sealed = self.change(checkout).await;
        self.checkouts().collect(checkout, &sealed).await
    }

    /// Every launch that is left, which is none.
    pub(crate) async fn assert_no_launches(&self) {
        let launches = self.launcher.discover().await.unwrap();
        assert!(launches.is_empty(), "{launches:?}");
    }
}

#[track_caller]
pub(crate) fn trouble_of(error: &CheckoutError) -> Trouble {
    match error {
        CheckoutError::Remote(error) => error.trouble,
        other => panic!("no trouble with a remote: {other:?}"),
    }
}
