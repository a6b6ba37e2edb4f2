//! Finding every launch of a store, and clearing away the old ones.

use std::{io, time::Duration};

use jiff::Timestamp;

use super::{
    ProcessLauncher,
    directory::Directory,
    evidence::{self, Finding},
    records::{Intent, timestamp},
    view,
};
use crate::{
    error::LauncherError,
    handle::{Destroy, LaunchState},
    id::LaunchId,
    launcher::{Discovered, ReapPolicy, ReapReport},
};

/// Nobody takes longer to make or remove a launch directory.
const REMNANT_AGE: Duration = Duration::from_secs(60);

/// A launch that is there, and what it proves.
type Known = (Directory, Intent, Finding);

impl ProcessLauncher {
    /// Lists every launch. What a dead shim has left of one is ended.
    pub(super) fn list(&self) -> Result<Vec<Discovered>, LauncherError> {
        let ids = self.store.entries()?.into_iter().filter_map(|name| name.parse().ok());
        let mut found = Vec::new();
        for id in ids {
            match self.known(&id) {
                Ok(known) => found.extend(known.map(|known| self.describe(&known))),
                Err(error) => {
                    let error = &error as &(dyn std::error::Error + 'static);
                    tracing::warn!(launch.id = %id, error, "launch directory is unreadable");
                }
            }
        }
        Ok(found)
    }

    /// Removes what is old enough.
    pub(super) async fn sweep(&self, policy: &ReapPolicy) -> Result<ReapReport, LauncherError> {
        let mut report = ReapReport::default();
        for name in self.aside(|launcher| launcher.store.entries()).await? {
            let Ok(id) = name.parse::<LaunchId>() else {
                self.reap_rest(&name, policy, &mut report);
                continue;
            };
            let looked = id.clone();
            match self.aside(move |launcher| Ok(launcher.known(&looked))).await? {
                Ok(None) if self.store.is_remnant(&name) => self.reap_remnant(&name, policy),
                // Gone meanwhile.
                Ok(None) if !self.store.path(&id).is_dir() => {}
                Ok(None) => report.foreign.push(self.store.path(&id)),
                Err(_) => report.foreign.push(self.store.path(&id)),
                Ok(Some(known)) if !is_due(&self.describe(&known), policy) => report.kept.push(id),
                Ok(Some(_)) if policy.dry_run => report.removed.push(id),
                Ok(Some((directory, intent, finding))) => {
                    let handle = self.handle(directory, intent, &finding);
                    match handle.destroy(Destroy::Everything).await {
                        Ok(()) => report.removed.push(id),
                        Err(_) => report.failed.push(id),
                    }
                }
            }
        }
        Ok(report)
    }

    /// Looks at the disk away from the caller's thread, which may be the only one.
    pub(super) async fn aside<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Self) -> Result<T, LauncherError> + Send + 'static,
    ) -> Result<T, LauncherError> {
        let launcher = self.clone();
        let fail = |error| LauncherError::Io {
            what: "look through",
            path: self.store.launches().to_owned(),
            source: io::Error::other(error),
        };
        tokio::task::spawn_blocking(move || look(&launcher)).await.map_err(fail)?
    }

    fn known(&self, id: &LaunchId) -> io::Result<Option<Known>> {
        let Some((directory, intent)) = self.store.find(id)? else {
            return Ok(None);
        };
        let finding = evidence::look(&directory, &intent)?;
        Ok(Some((directory, intent, finding)))
    }

    fn describe(&self, (_, intent, finding): &Known) -> Discovered {
        Discovered {
            id: intent.id.clone(),
            labels: intent.spec.labels.clone(),
            state: view::as_state(finding),
            created_at: timestamp(intent.created_us),
            record: view::record(&self.store, intent),
        }
    }

    fn reap_rest(&self, name: &str, policy: &ReapPolicy, report: &mut ReapReport) {
        let is_remnant = name.starts_with(".new-") || name.starts_with(".gone-");
        if is_remnant {
            self.reap_remnant(name, policy);
        } else if !name.starts_with('.') {
            report.foreign.push(self.store.launches().join(name));
        }
    }

    fn reap_remnant(&self, name: &str, policy: &ReapPolicy) {
        if !policy.dry_run && self.store.sweep(name, policy.keep_unassigned.max(REMNANT_AGE)) {
            tracing::debug!(launch.entry = name, "removed the remnant of a launch");
        }
    }
}

fn is_due(discovered: &Discovered, policy: &ReapPolicy) -> bool {
    let (since, keep) = match &discovered.state {
        LaunchState::Ended(report) => (report.ended_at, policy.keep_ended),
        LaunchState::Created => (discovered.created_at, policy.keep_unassigned),
        LaunchState::Running { .. } | LaunchState::Stopping { .. } => return false,
    };
    let age = Timestamp::now().duration_since(since);
    Duration::try_from(age).is_ok_and(|age| age >= keep)
}
