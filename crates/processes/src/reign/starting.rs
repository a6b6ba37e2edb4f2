//! Starting a process: its row first, then its launch.

use std::sync::Arc;

use core_config::settings::Settings;
use core_types::process::{ProcessName, ProcessState};
use jiff::Timestamp;
use launcher::{error::LaunchError, launcher::Launched as LaunchedBy, spec::LaunchSpec};
use store::processes::{ProcessRow, Wish};
use telemetry::chain::error_chain;

use super::{Child, Done, Launched, NotManager, Reign};
use crate::{
    launches::Start,
    restarts::{Next, RestartPolicy},
    tail::last_lines,
};

/// How many of its last lines are kept of a process that ended unasked.
const LAST_LINES: usize = 20;

impl Reign {
    /// Starts the next generation. Its row is written before it is launched, so that whoever takes over finds it.
    pub(super) async fn start(
        &mut self,
        name: ProcessName,
        wish: Wish,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        let row = self.next_row(name, wish);
        let start = Start { name, generation: row.generation };
        let labels = start.labels(&self.instance);
        let spec = match self.manager.programs.spec(name, labels, settings) {
            Ok(spec) => spec,
            Err(missing) => {
                // Nothing is started, so what was there before stays the last generation.
                let old = self.children.get(&name).map(|child| child.row.clone());
                let row = ProcessRow {
                    attempts: row.attempts,
                    start_seen: row.start_seen,
                    restart_seen: row.restart_seen,
                    ..old.unwrap_or(row)
                };
                self.children.insert(name, Child::new(row));
                let (message, hint) = (missing.to_string(), missing.hint());
                return self.look_again(name, &message, hint, settings).await;
            }
        };
        self.launched.insert(name, row.generation);
        self.children.insert(name, Child::new(row));
        self.save(name).await?;
        tracing::info!(process = %name, process.generation = start.generation, "starting process");
        self.launch(start, spec);
        Ok(())
    }

    /// Forgets what held up a process that runs by now.
    pub(super) async fn note_start_asked(
        &mut self,
        name: ProcessName,
        wish: Wish,
    ) -> Result<(), NotManager> {
        if let Some(child) = self.children.get_mut(&name) {
            child.row.start_seen = wish.start_number;
            child.row.attempts = 0;
            child.row.window_began = None;
        }
        self.save(name).await
    }

    fn next_row(&self, name: ProcessName, wish: Wish) -> ProcessRow {
        let old = self.children.get(&name).map(|child| &child.row);
        let asked = old.is_none_or(|old| wish.start_number > old.start_seen);
        let generation = old.map_or(0, |old| old.generation);
        let generation = generation.max(self.launched.get(&name).copied().unwrap_or(0)) + 1;
        // What was never launched has not ended.
        let is_restart =
            old.is_some_and(|old| old.state == ProcessState::BackingOff && old.record.is_some());
        let start = Start { name, generation };
        ProcessRow {
            host: self.manager.host.clone(),
            name,
            generation,
            state: ProcessState::Starting,
            draining: false,
            launch: start.id(&self.instance).map_or_else(|error| error.text, |id| id.to_string()),
            record: None,
            pid: None,
            started_at: None,
            restarts: old.map_or(0, |old| old.restarts) + u64::from(is_restart),
            attempts: old.filter(|_| !asked).map_or(0, |old| old.attempts),
            window_began: old.filter(|_| !asked).and_then(|old| old.window_began),
            next_start: None,
            start_seen: wish.start_number,
            restart_seen: wish.restart_number,
            last_exit: old.and_then(|old| old.last_exit.clone()),
            message: None,
            hint: None,
        }
    }

    fn launch(&mut self, start: Start, spec: LaunchSpec) {
        let launcher = Arc::clone(&self.manager.launcher);
        let input = self.manager.programs.input();
        let instance = self.instance.clone();
        // Dropped before it is accepted, the launch ends as never started.
        self.work.spawn(async move {
            let launching = async {
                let id = start.id(&instance).map_err(|error| LaunchError::InvalidSpec {
                    field: "id",
                    why: error.to_string(),
                })?;
                let handle =
                    launcher.launch(&id, &spec, input).await.map(LaunchedBy::into_handle)?;
                let pid = handle.stats().await.ok().and_then(|stats| stats.leader_pid);
                Ok(Launched { handle, pid })
            };
            Done::Launched { start, result: launching.await }
        });
    }

    pub(super) async fn note_launch(
        &mut self,
        start: Start,
        result: Result<Launched, LaunchError>,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        let Some(child) = self.present(start) else {
            return Ok(());
        };
        let Launched { handle, pid } = match result {
            Ok(launched) => launched,
            Err(error) => return self.note_refused_launch(start, &error, settings).await,
        };
        child.row.state = ProcessState::Running;
        child.row.record = serde_json::to_value(handle.record()).ok();
        child.row.pid = pid;
        child.row.started_at = Some(Timestamp::now());
        child.handle = Some(handle.clone());
        self.watch(start, handle);
        self.save(start.name).await
    }

    async fn note_refused_launch(
        &mut self,
        start: Start,
        error: &LaunchError,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        tracing::warn!(process = %start.name, error = %error_chain(error), "process not launched");
        let (message, hint) = (error_chain(error).to_string(), error.hint().to_owned());
        match error {
            LaunchError::ProgramMissing { .. } => {
                self.look_again(start.name, &message, hint, settings).await
            }
            LaunchError::NotExecutable { .. }
            | LaunchError::CwdMissing { .. }
            | LaunchError::Permission { .. }
            | LaunchError::InvalidSpec { .. }
            | LaunchError::LimitUnsupported { .. }
            // Of containers, which processes of this manager have none of.
            | LaunchError::EnginePermission { .. }
            | LaunchError::EngineRefused { .. }
            | LaunchError::ImageMissing { .. }
            | LaunchError::ImageRefused { .. }
            | LaunchError::NetworkMissing { .. }
            | LaunchError::MountDenied { .. }
            | LaunchError::DirectoryNotShared { .. } => self.fail(start.name, message, hint).await,
            LaunchError::ResourceExhausted { .. }
            | LaunchError::SpecMismatch { .. }
            | LaunchError::ShimUnusable { .. }
            | LaunchError::AwaitsAssignment { .. }
            | LaunchError::NeverStarted(_)
            | LaunchError::EngineUnreachable { .. }
            | LaunchError::Io { .. } => self.try_again(start, &message, &hint, settings).await,
        }
    }

    /// Follows a launch to its end.
    pub(super) fn watch(&mut self, start: Start, handle: launcher::handle::Handle) {
        self.work.spawn(async move {
            let report = Box::new(handle.exited().await);
            let lines = last_lines(&handle, LAST_LINES).await;
            Done::Ended { start, report, lines }
        });
    }

    /// Has a process that ended, or could not be launched, started again later, if it did not happen too often.
    pub(super) async fn try_again(
        &mut self,
        start: Start,
        what: &str,
        hint: &str,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        let policy = RestartPolicy::from_settings(settings);
        let Some(child) = self.present(start) else {
            return Ok(());
        };
        match policy.after_end(&child.row, Timestamp::now()) {
            Next::GiveUp => {
                let message = format!("{what}; given up after {}", policy.limit());
                self.fail(start.name, message, hint.to_owned()).await
            }
            Next::Again { at, delay, attempt, window_began } => {
                let row = &mut child.row;
                row.state = ProcessState::BackingOff;
                row.attempts = attempt;
                row.window_began = Some(window_began);
                row.next_start = Some(at);
                let delay = delay.as_millis();
                row.message = Some(format!("{what}; started again {delay} ms later"));
                self.save(start.name).await
            }
        }
    }

    /// Has a process whose program is missing started once it is there: it is looked for less and less often, and never
    /// given up, for somebody may be building it.
    async fn look_again(
        &mut self,
        name: ProcessName,
        missing: &str,
        hint: String,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        let policy = RestartPolicy::from_settings(settings);
        let Some(child) = self.children.get_mut(&name) else {
            return Ok(());
        };
        let row = &mut child.row;
        let delay = policy.delay_after(row.attempts);
        let text = format!("{missing}; looked for again after {} s", delay.as_secs_f64());
        if row.attempts == 0 {
            tracing::error!(process = %name, error = missing, "process cannot be started");
        }
        row.state = ProcessState::BackingOff;
        row.attempts = row.attempts.saturating_add(1);
        row.next_start = Timestamp::now().checked_add(delay).ok();
        row.window_began = None;
        row.pid = None;
        row.started_at = None;
        row.message = Some(text);
        row.hint = Some(hint);
        self.save(name).await
    }

    async fn fail(
        &mut self,
        name: ProcessName,
        message: String,
        hint: String,
    ) -> Result<(), NotManager> {
        if let Some(child) = self.children.get_mut(&name) {
            child.row.state = ProcessState::Failed;
            child.row.message = Some(message);
            child.row.hint = Some(hint);
        }
        self.save(name).await
    }
}
