//! Ending a process: asked at once, or once it has nothing to do; and what its end means.

use core_config::settings::Settings;
use core_types::process::{ProcessName, ProcessState};
use launcher::{
    handle::StopRequest,
    outcome::{ExitReport, StopCause},
};
use store::processes::LastExit;

use super::{Done, NotManager, Reign, insist};
use crate::launches::Start;

impl Reign {
    /// Asks a process to end, and kills it after the grace. A run in hand is given back.
    pub(super) async fn stop(
        &mut self,
        name: ProcessName,
        why: &'static str,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        let Some(child) = self.children.get_mut(&name) else {
            return Ok(());
        };
        child.row.state = ProcessState::Stopping;
        child.row.draining = false;
        child.row.message = Some(why.to_owned());
        // Written before it is asked: whoever takes over must know that this end was wanted.
        self.save(name).await?;
        tracing::info!(process = %name, why, "stopping process");
        self.ask_to_end(name, why, settings);
        Ok(())
    }

    pub(super) fn ask_to_end(&mut self, name: ProcessName, why: &'static str, settings: &Settings) {
        let handle = self.children.get(&name).and_then(|child| child.handle.clone());
        let request = StopRequest::new(why, settings.process_stop_grace);
        // The request stands once it is made, whatever becomes of this task; the end comes through the watch.
        if let Some(handle) = handle {
            self.work.spawn(async move {
                handle.stop(request).await;
                Done::Nothing
            });
        }
    }

    /// Lets an agent finish its run before it is asked to end. Others have no such moment and are asked at once.
    pub(super) async fn drain(
        &mut self,
        name: ProcessName,
        why: &'static str,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        if name == ProcessName::Dispatcher {
            return self.stop(name, why, settings).await;
        }
        let Some(child) = self.children.get_mut(&name) else {
            return Ok(());
        };
        child.row.state = ProcessState::Stopping;
        child.row.draining = true;
        child.row.message = Some(format!("{why}; it ends when its run is over"));
        self.save(name).await?;
        self.stop_if_idle(name, settings).await
    }

    /// Asks an agent that drains to end if it has no run. It gets no other one: it was signed off.
    pub(super) async fn stop_if_idle(
        &mut self,
        name: ProcessName,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        let host = self.manager.host.clone();
        let Some(pid) = self.pid_of(name).await else {
            // Nobody knows whether it has a run; that is looked at again.
            return Ok(());
        };
        let text = name.to_string();
        let (store, epoch) = (&self.manager.store, self.epoch);
        let busy = insist("agent", || store.sign_off_agents_of(epoch, &host, &text, pid)).await;
        if busy { Ok(()) } else { self.stop(name, "it is one too many and idle", settings).await }
    }

    /// Its process, which the launch may have been too busy to tell at first.
    async fn pid_of(&mut self, name: ProcessName) -> Option<i32> {
        let child = self.children.get_mut(&name)?;
        if child.row.pid.is_none() {
            let stats = child.handle.as_ref()?.stats().await.ok()?;
            child.row.pid = stats.leader_pid;
        }
        child.row.pid
    }

    /// A process that failed or waits to be started again is not wanted any more.
    pub(super) async fn give_up(&mut self, name: ProcessName) -> Result<(), NotManager> {
        if let Some(child) = self.children.get_mut(&name) {
            child.row.state = ProcessState::Stopped;
            child.row.next_start = None;
            child.row.message = None;
            child.row.hint = None;
        }
        self.save(name).await
    }

    pub(super) async fn note_end(
        &mut self,
        start: Start,
        report: &ExitReport,
        lines: Vec<String>,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        let Some(child) = self.present(start) else {
            return Ok(());
        };
        let outcome = describe(report);
        let unasked = child.row.state != ProcessState::Stopping;
        let lines = (unasked && !lines.is_empty()).then(|| lines.join("\n"));
        child.row.pid = None;
        child.row.draining = false;
        child.row.started_at = report.started_at.or(child.row.started_at);
        child.row.last_exit =
            Some(LastExit { outcome: outcome.clone(), at: report.ended_at, unasked, lines });
        if unasked {
            tracing::warn!(process = %start.name, outcome, "process ended unasked");
            let hint = "see the last lines of its log; mend what they say, then start it";
            return self.try_again(start, &outcome, hint, settings).await;
        }
        child.row.state = ProcessState::Stopped;
        child.row.message = None;
        child.row.hint = None;
        tracing::info!(process = %start.name, outcome, "process stopped");
        self.save(start.name).await
    }
}

/// How a process ended, in one line.
fn describe(report: &ExitReport) -> String {
    let cause = match &report.cause {
        None => "",
        Some(StopCause::Requested { .. }) => ", as asked",
        Some(StopCause::WallTime) => ", out of time",
        Some(StopCause::LeaseExpired) => ", its lease was not renewed",
        Some(StopCause::EngineOrOperator { .. }) => ", asked by somebody else",
    };
    let memory = if report.out_of_memory { ", memory ran out" } else { "" };
    format!("{}{cause}{memory}", report.outcome)
}
