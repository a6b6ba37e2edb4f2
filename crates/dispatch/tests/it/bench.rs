//! The workbench of these tests: a database, a launcher, and runs whose workers are alive, dead or silent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use checkout::{checkouts::Checkouts, git::GitCommand};
use core_types::ids::{AgentId, RunKey, TaskId};
use dispatch::{
    launches::Launches,
    recovery::{ACCEPT_WITHIN, Recovery},
    take_back::TakeBack,
    view::{Look, View},
};
use jiff::Timestamp;
use launcher::{
    handle::{Handle, LaunchState, StopRequest},
    identity,
    launcher::Launcher,
    process::ProcessLauncher,
    spec::{Input, LaunchSpec},
};
use store::{
    agents::{HostId, NewAgent, ProcessIdentity},
    dispatch::claim::ClaimRequest,
    runs::Run,
    tasks::Task,
};
use tempfile::TempDir;
use testing::{database::TestDatabase, samples};

use crate::doubles::FaultyLauncher;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// A lease that is over as soon as it is written.
pub(crate) const SPENT: Duration = Duration::from_millis(1);

/// How a worker's process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worker {
    Alive,
    Dead,
}

/// Everything one test needs.
pub(crate) struct Bench {
    pub(crate) database: TestDatabase,
    pub(crate) launcher: Arc<ProcessLauncher>,
    /// The launcher of [`Bench::recovery`]; fails on demand.
    pub(crate) faulty: Arc<FaultyLauncher>,
    pub(crate) checkouts: Arc<Checkouts>,
    pub(crate) state: TempDir,
}

/// One look with this view, and everything that it starts.
pub(crate) async fn look(recovery: &mut Recovery, view: View) {
    let found = recovery.find().await;
    recovery.take_up(found, &looks_again(view));
    recovery.all_done().await;
}

pub(crate) fn is_running(handle: &Handle) -> bool {
    matches!(&*handle.state().borrow(), LaunchState::Running { .. })
}

/// Ends a launch that a test does not need any more.
pub(crate) async fn end(handle: &Handle) {
    handle.stop(StopRequest::new("the test is over", Duration::ZERO)).await;
}

/// A view that trusts no silence: its first look is a gap.
pub(crate) fn fresh() -> View {
    View::default()
}

/// A view that trusts silence, as after more than a lease of looks without a gap.
pub(crate) fn steady() -> View {
    let (mut view, now) = (View::default(), tokio::time::Instant::now());
    for second in 0..40 {
        let passed = Duration::from_secs(second);
        let at = now - Duration::from_secs(40) + passed;
        view.looked(Look { at, since_boot: passed, database: Timestamp::UNIX_EPOCH + passed });
    }
    view
}

/// A view after one more look, now.
pub(crate) fn looks_again(mut view: View) -> View {
    let passed = Duration::from_secs(40);
    let (at, database) = (tokio::time::Instant::now(), Timestamp::UNIX_EPOCH + passed);
    view.looked(Look { at, since_boot: passed, database });
    view
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let state = TempDir::new().expect("a temporary directory can be made");
        let database = TestDatabase::new().await;
        let launcher = ProcessLauncher::new(state.path().to_path_buf()).expect("usable directory");
        let launcher = Arc::new(launcher);
        let git = GitCommand::find(&testing::programs::search_path()).expect("git is installed");
        let checkouts = Arc::new(Checkouts::new(state.path().join("checkouts"), git));
        let faulty = Arc::new(FaultyLauncher::new(Arc::clone(&launcher)));
        Self { database, launcher, faulty, checkouts, state }
    }

    /// A dispatcher's recovery on this host.
    pub(crate) fn recovery(&self) -> Recovery {
        self.recovery_of("here", ACCEPT_WITHIN)
    }

    pub(crate) fn recovery_of(&self, host: &str, accept_within: Duration) -> Recovery {
        let launcher: Arc<dyn Launcher> = Arc::<FaultyLauncher>::clone(&self.faulty);
        let hands = TakeBack {
            store: self.database.store.clone(),
            launches: Launches::new(launcher),
            sandboxes: None,
            checkouts: Arc::clone(&self.checkouts),
            host: HostId::new(host),
        };
        Recovery::new(hands, accept_within)
    }

    /// A run that an agent of this host was handed but has not accepted.
    pub(crate) async fn handed_out(&self, worker: Worker, lease: Duration) -> (RunKey, AgentId) {
        let store = &self.database.store;
        let own = identity::ProcessIdentity::own().expect("/proc is there");
        // The same pid with another start is another process, and one that is gone.
        let start_ticks = own.start_ticks - u64::from(worker == Worker::Dead);
        let agent = NewAgent {
            host: HostId::new("here"),
            process: ProcessIdentity { pid: own.pid, start_ticks, boot_id: own.boot_id },
            ..samples::agent()
        };
        store.register_agent(&agent).await.expect("the agent can register");
        store.create_tasks(vec![samples::task()]).await.expect("the task is right");
        let request = ClaimRequest { lease, ..samples::claim(1) };
        let claimed = store.claim_host_runs(request).await.expect("the database answers");
        (claimed.first().expect("the agent is idle and the task ready").key, agent.id)
    }

    /// A run that its worker has started.
    pub(crate) async fn started(&self, worker: Worker, lease: Duration) -> RunKey {
        let (key, agent) = self.handed_out(worker, lease).await;
        self.database.store.start_run(key, agent).await.expect("the run is ours");
        key
    }

    /// A process that was launched for a run, printed `prints`, and never ends by itself.
    pub(crate) async fn launched_printing(&self, run: &str, prints: &str) -> Handle {
        let mut spec = LaunchSpec::new("/bin/sh", self.state.path());
        spec.args = vec!["-c".to_owned(), format!("echo {prints}; exec sleep 600")];
        spec.env = BTreeMap::from([("PATH".to_owned(), testing::programs::search_path())]);
        spec.labels = BTreeMap::from([(core_types::label::RUN.to_owned(), run.to_owned())]);
        let id = format!("{run}.agent").parse().expect("a run id is a launch id");
        let launched = self.launcher.launch(&id, &spec, Input::default()).await;
        launched.expect("a shell can be launched").into_handle()
    }

    pub(crate) async fn launched(&self, run: &str) -> Handle {
        self.launched_printing(run, "working").await
    }

    pub(crate) async fn run(&self, key: RunKey) -> Run {
        let run = self.database.store.run(key.run).await.expect("the database answers");
        run.expect("the run is there")
    }

    pub(crate) async fn task(&self, id: TaskId) -> Task {
        let task = self.database.store.task(id).await.expect("the database answers");
        task.expect("the task is there")
    }
}
