//! A system of scripts in place of programs, with as many managers as a test wants.

use std::{
    collections::BTreeMap, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration,
};

use core_config::{
    database::DatabaseSnapshot,
    load::{Loaded, load_lenient_database},
    settings::Settings,
};
use core_types::process::{ProcessName, ProcessState};
use launcher::{
    handle::{LaunchState, StopRequest},
    launcher::{Discovered, Launcher as _},
    process::ProcessLauncher,
};
use processes::{control::Control, info::ProcessInfo, manager::Manager, programs::Programs};
use store::{agents::HostId, processes::ProcessRow};
use tempfile::TempDir;
use testing::{database::TestDatabase, wait::wait_for};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// The longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);
/// A program that ends when it is asked.
pub(crate) const OBEDIENT: &str =
    "trap 'echo bye; exit 0' TERM\necho \"i am $*\"\nwhile :; do sleep 0.1; done";

/// A database, a state directory, programs and settings.
pub(crate) struct Stage {
    pub(crate) database: TestDatabase,
    pub(crate) launcher: ProcessLauncher,
    pub(crate) control: Control,
    settings: watch::Sender<Arc<Loaded>>,
    programs: TempDir,
    state: TempDir,
    managers: Vec<JoinSet<()>>,
}

impl Stage {
    /// Nobody manages yet; both programs end when they are asked.
    pub(crate) async fn new(variables: &[(&str, &str)]) -> Self {
        let (state, programs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let database = TestDatabase::new().await;
        let launcher = ProcessLauncher::new(state.path().to_path_buf()).unwrap();
        let control = Control {
            store: database.store.clone(),
            launcher: Arc::new(launcher.clone()),
            host: HostId::new("here"),
            may_manage: true,
        };
        let (settings, _) = watch::channel(Arc::new(loaded(variables)));
        let stage =
            Self { database, launcher, control, settings, programs, state, managers: Vec::new() };
        stage.program("dispatcher", OBEDIENT);
        stage.program("worker", OBEDIENT);
        stage
    }

    /// The same with one manager.
    pub(crate) async fn managed(variables: &[(&str, &str)]) -> Self {
        let mut stage = Self::new(variables).await;
        stage.manage();
        stage
    }

    /// Makes a program of a script.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.programs.path().join(name);
        let new = self.programs.path().join(format!(".{name}"));
        std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        // A program that runs is not written over.
        std::fs::rename(new, path).unwrap();
    }

    pub(crate) fn remove_program(&self, name: &str) {
        std::fs::remove_file(self.programs.path().join(name)).unwrap();
    }

    /// One more manager; its place in the line.
    pub(crate) fn manage(&mut self) -> usize {
        let machine = [("PATH".to_owned(), testing::programs::search_path())].into();
        let (programs, state) = (self.programs.path().into(), self.state.path().into());
        let manager = Manager {
            store: self.database.store.clone(),
            launcher: Arc::new(self.launcher.clone()),
            host: self.control.host.clone(),
            programs: Programs::new(programs, state, machine, &BTreeMap::new()),
            settings: self.settings.subscribe(),
        };
        let mut task = JoinSet::new();
        task.spawn(manager.run(CancellationToken::new()));
        self.managers.push(task);
        self.managers.len() - 1
    }

    /// Ends a manager in the middle of whatever it does.
    pub(crate) async fn kill_manager(&mut self, which: usize) {
        let manager = self.managers.get_mut(which).expect("there is such a manager");
        manager.shutdown().await;
    }

    pub(crate) fn set(&self, variables: &[(&str, &str)]) {
        self.settings.send_replace(Arc::new(loaded(variables)));
    }

    /// The same with rows of the database, which may be unusable.
    pub(crate) fn set_with_rows(&self, variables: &[(&str, &str)], rows: &[(&str, &str)]) {
        self.settings.send_replace(Arc::new(with_rows(variables, rows)));
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow().settings)
    }

    pub(crate) async fn show(&self, name: &str) -> ProcessInfo {
        self.control.show(of(name), &self.settings()).await.unwrap()
    }

    pub(crate) async fn row(&self, name: &str) -> ProcessRow {
        let rows = self.database.store.processes().await.unwrap();
        let found = rows.into_iter().find(|row| row.name == of(name));
        found.unwrap_or_else(|| panic!("no row of `{name}`"))
    }

    /// Waits until a process stands so, in its row and not only by what was asked.
    pub(crate) async fn wait(&self, name: &str, state: ProcessState) -> ProcessInfo {
        wait_for(&format!("{name} to be {state}"), DEADLINE, async || {
            let info = self.show(name).await;
            let rows = self.database.store.processes().await.unwrap();
            let row = rows.iter().find(|row| row.name == of(name)).map(|row| row.state);
            // Nothing that is skipped has such a row.
            let state_of_row =
                if state == ProcessState::Skipped { ProcessState::Stopped } else { state };
            if info.state == state && row.is_none_or(|row| row == state_of_row) {
                Ok(info)
            } else {
                Err(format!("{info:?}"))
            }
        })
        .await
    }

    /// Waits until a process runs under this generation; its pid.
    pub(crate) async fn wait_generation(&self, name: &str, generation: u64) -> i32 {
        wait_for(&format!("generation {generation} of {name}"), DEADLINE, async || {
            let rows = self.database.store.processes().await.unwrap();
            let row = rows.iter().find(|row| row.name == of(name) && row.generation == generation);
            row.and_then(|row| row.pid).ok_or_else(|| format!("{rows:?}"))
        })
        .await
    }

    /// Waits until a process runs here, whatever stands in the rows of other hosts.
    pub(crate) async fn wait_generation_on_this_host(&self, name: &str) -> i32 {
        wait_for(&format!("{name} to run here"), DEADLINE, async || {
            let rows = self.database.store.processes().await.unwrap();
            let here = rows.iter().find(|row| row.host == self.control.host);
            here.and_then(|row| row.pid).ok_or_else(|| format!("{rows:?}"))
        })
        .await
    }

    /// Names of the processes that are alive, as the launches say.
    pub(crate) async fn alive(&self) -> Vec<String> {
        let launches = self.launches().await;
        let alive = launches.into_iter().filter(|l| !matches!(l.state, LaunchState::Ended(_)));
        let mut names: Vec<String> = alive.map(|l| l.labels["opentiger.process"].clone()).collect();
        names.sort();
        names
    }

    pub(crate) async fn wait_alive(&self, names: &[&str]) {
        wait_for(&format!("{names:?} alone to be alive"), DEADLINE, async || {
            let alive = self.alive().await;
            if alive == names { Ok(()) } else { Err(format!("{alive:?}")) }
        })
        .await;
    }

    pub(crate) async fn launches(&self) -> Vec<Discovered> {
        self.launcher.discover().await.unwrap()
    }

    pub(crate) fn launch_directory(&self, launch: &str) -> std::path::PathBuf {
        self.launcher.launch_dir(&launch.parse().unwrap())
    }

    pub(crate) fn state_path(&self) -> &Path {
        self.state.path()
    }
}

impl Drop for Stage {
    /// Ends whatever still runs.
    fn drop(&mut self) {
        self.managers.clear();
        let state = self.state_path().to_path_buf();
        let ending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let Ok(launcher) = ProcessLauncher::new(state) else { return };
                for found in launcher.discover().await.unwrap_or_default() {
                    if let Ok(handle) = launcher.attach(&found.record).await {
                        handle.stop(StopRequest::new("the test is over", Duration::ZERO)).await;
                    }
                }
            });
        });
        // A second panic would hide the first.
        ending.join().ok();
    }
}

pub(crate) fn of(name: &str) -> ProcessName {
    name.parse().unwrap()
}

fn loaded(variables: &[(&str, &str)]) -> Loaded {
    with_rows(variables, &[])
}

fn with_rows(variables: &[(&str, &str)], rows: &[(&str, &str)]) -> Loaded {
    let few = [
        ("OPENTIGER_STATE_DIR", "/srv/tiger"),
        ("WORKER_COUNT", "0"),
        ("TESTER_COUNT", "0"),
        ("DOCSER_COUNT", "0"),
        ("PROCESS_RESTART_DELAY_MS", "10"),
    ];
    let variables = few.iter().chain(variables);
    let variables = variables.map(|(name, value)| ((*name).into(), (*value).into()));
    let rows = rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    let rows = DatabaseSnapshot { revision: 1, rows };
    load_lenient_database(variables, Some(&rows)).unwrap()
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
