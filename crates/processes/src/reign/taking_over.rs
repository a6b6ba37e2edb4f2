//! Taking over: from the rows to the launches, which may have gone on, ended, or never begun.

use std::sync::Arc;

use core_config::settings::Settings;
use core_types::process::{ProcessName, ProcessState};
use jiff::Timestamp;
use launcher::{
    error::AttachError,
    handle::{HandleRecord, LaunchState},
    launcher::Discovered,
};
use store::processes::{LastExit, ProcessRow};
use telemetry::chain::error_chain;
use tokio::time::sleep;

use super::{ASK_AGAIN, Child, NotManager, Reign, insist};
use crate::launches::Start;

impl Reign {
    /// Reads the rows of this host, attaches to what lives, and ends what has no row.
    pub(super) async fn take_over(&mut self) -> Result<(), NotManager> {
        let settings = Arc::clone(&self.manager.settings.borrow().settings);
        let launches = self.launches_of_ours().await;
        for (start, _) in &launches {
            let highest = self.launched.entry(start.name).or_default();
            *highest = start.generation.max(*highest);
        }
        let rows = insist("rows", || self.manager.store.processes()).await;
        let host = self.manager.host.clone();
        // Of another host's launches nothing can be known here.
        for row in rows.into_iter().filter(|row| row.host == host) {
            let name = row.name;
            self.children.insert(name, Child::new(row));
            self.adopt(name, &launches, &settings).await?;
        }
        // A row that says it is over is followed by nobody: what lives of it all the same is as good as without a row.
        let current = |start: &Start| {
            let child = self.children.get(&start.name);
            child.is_some_and(|child| {
                child.row.generation == start.generation && child.row.state.is_live()
            })
        };
        let orphans: Vec<Discovered> = launches
            .into_iter()
            .filter(|(start, found)| {
                !matches!(found.state, LaunchState::Ended(_)) && !current(start)
            })
            .map(|(_, found)| found)
            .collect();
        self.end_orphans(orphans, settings.process_stop_grace);
        Ok(())
    }

    /// The launches of this database, however long it takes to list them.
    async fn launches_of_ours(&self) -> Vec<(Start, Discovered)> {
        let mut is_told = false;
        loop {
            match self.manager.launcher.discover().await {
                Ok(found) => {
                    let ours = found.into_iter();
                    return ours
                        .filter_map(|found| Some((Start::of(&found, &self.instance)?, found)))
                        .collect();
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::error!(error = %error_chain(&error), "launches not listed");
                    }
                    sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    /// Goes on with a process that was started by an earlier manager.
    async fn adopt(
        &mut self,
        name: ProcessName,
        launches: &[(Start, Discovered)],
        settings: &Settings,
    ) -> Result<(), NotManager> {
        let Some(child) = self.children.get(&name).filter(|child| child.row.state.is_live()) else {
            return Ok(());
        };
        let start = child.start();
        let found = launches.iter().find(|(other, _)| *other == start).map(|(_, found)| found);
        let Some(record) =
            record_of(&child.row).or_else(|| found.map(|found| found.record.clone()))
        else {
            // Its manager died between row and launch; it was never there.
            return self.note_vanished(start, "never started: its manager was gone", false).await;
        };
        self.attach(start, &record, settings).await
    }

    /// Attaches to a launch and follows it. One that cannot be looked at is tried again: nothing is concluded.
    async fn attach(
        &mut self,
        start: Start,
        record: &HandleRecord,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        let handle = match self.manager.launcher.attach(record).await {
            Ok(handle) => handle,
            Err(AttachError::Gone { .. }) => {
                return self.note_vanished(start, "lost: its launch directory is gone", true).await;
            }
            Err(error) => {
                let text = error_chain(&error).to_string();
                if let Some(child) = self.present(start) {
                    child.put_off_attach();
                }
                // It is tried again and again; said is what is new.
                if self
                    .present(start)
                    .is_some_and(|child| child.row.message.as_ref() == Some(&text))
                {
                    return Ok(());
                }
                tracing::error!(process = %start.name, error = text, "process not attached to");
                if let Some(child) = self.present(start) {
                    child.row.message = Some(text);
                    child.row.hint = hint(&error).map(ToOwned::to_owned);
                    child.row.record = serde_json::to_value(record).ok();
                    if child.row.state == ProcessState::Starting {
                        child.row.state = ProcessState::Running;
                    }
                }
                return self.save(start.name).await;
            }
        };
        let state = handle.state().borrow().clone();
        let pid = handle.stats().await.ok().and_then(|stats| stats.leader_pid);
        let Some(child) = self.present(start) else {
            return Ok(());
        };
        child.handle = Some(handle.clone());
        child.attach_again = None;
        child.row.record = serde_json::to_value(record).ok();
        child.row.pid = pid;
        let asked = child.row.state == ProcessState::Stopping && !child.row.draining;
        match state {
            // Nobody is there any more to assign it.
            LaunchState::Created => child.row.state = ProcessState::Stopping,
            LaunchState::Running { since } => {
                tracing::info!(process = %start.name, process.pid = pid, "process adopted");
                if child.row.state == ProcessState::Starting {
                    child.row.state = ProcessState::Running;
                }
                child.row.started_at = since.or(child.row.started_at);
                if child.row.state == ProcessState::Running {
                    (child.row.message, child.row.hint) = (None, None);
                }
            }
            LaunchState::Stopping { .. } | LaunchState::Ended(_) => {}
        }
        let is_waiting = matches!(state, LaunchState::Created);
        self.watch(start, handle);
        self.save(start.name).await?;
        if asked || is_waiting {
            self.ask_to_end(start.name, "it was asked to stop before", settings);
        }
        Ok(())
    }

    /// Tries again to attach to a launch that could not be looked at.
    pub(super) async fn attach_again(
        &mut self,
        name: ProcessName,
        settings: &Settings,
    ) -> Result<(), NotManager> {
        let child = self.children.get(&name).filter(|child| child.handle.is_none());
        let known = child.and_then(|child| Some((child.start(), record_of(&child.row)?)));
        match known {
            Some((start, record)) => self.attach(start, &record, settings).await,
            None => Ok(()),
        }
    }

    /// Nothing is left of a launch but its row. What was wanted follows with the next look.
    async fn note_vanished(
        &mut self,
        start: Start,
        outcome: &str,
        ran: bool,
    ) -> Result<(), NotManager> {
        let Some(child) = self.present(start) else {
            return Ok(());
        };
        tracing::warn!(process = %start.name, outcome, "process is gone");
        let unasked = child.row.state != ProcessState::Stopping;
        child.row.state = ProcessState::Stopped;
        child.row.draining = false;
        child.row.pid = None;
        if ran {
            let outcome = outcome.to_owned();
            child.row.last_exit =
                Some(LastExit { outcome, at: Timestamp::now(), unasked, lines: None });
        }
        self.save(start.name).await
    }
}

/// What to do about a launch that cannot be attached to; nothing where it may pass.
const fn hint(error: &AttachError) -> Option<&'static str> {
    match error {
        AttachError::Incompatible { .. } => Some(
            "another version of openTiger started it: end it with that version's `opentiger down`, or end its process",
        ),
        AttachError::Foreign { .. } => {
            Some("it is in another state directory; end it there, or use that directory")
        }
        AttachError::Gone { .. } | AttachError::Io { .. } => None,
    }
}

fn record_of(row: &ProcessRow) -> Option<HandleRecord> {
    row.record.clone().and_then(|record| serde_json::from_value(record).ok())
}
