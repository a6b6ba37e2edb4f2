//! Clearing away: launches that are no process's present one, and the directories of those that ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use core_types::process::ProcessName;
use launcher::{
    handle::{Destroy, LaunchState, StopRequest},
    launcher::{Discovered, Launcher},
};
use telemetry::chain::error_chain;

use super::{Done, Reign};
use crate::launches::Start;

/// How many ended launches of a name are kept for their output, the present one not counted.
const KEEP: usize = 3;

impl Reign {
    /// Ends launches that have no row: their manager was gone before it could note them.
    pub(super) fn end_orphans(&mut self, orphans: Vec<Discovered>, grace: Duration) {
        for orphan in orphans {
            let launcher = Arc::clone(&self.manager.launcher);
            self.work.spawn(async move {
                end(&*launcher, &orphan, grace).await;
                Done::Nothing
            });
        }
    }

    /// Looks through the launches beside the loop.
    pub(super) fn sweep(&mut self, grace: Duration) {
        let launcher = Arc::clone(&self.manager.launcher);
        let instance = self.instance.clone();
        // Only what is older than a generation that is known now: newer ones may be under way. One that is over by its
        // row never lives again, and nobody follows what lives of it all the same.
        let present = self
            .children
            .iter()
            .map(|(name, child)| (*name, (child.row.generation, child.row.state.is_live())));
        let present: BTreeMap<ProcessName, (u64, bool)> = present.collect();
        self.work.spawn(async move {
            match launcher.discover().await {
                Ok(found) => {
                    let ours = found.into_iter();
                    let ours =
                        ours.filter_map(|found| Some((Start::of(&found, &instance)?, found)));
                    let old = ours.filter(|(start, found)| {
                        let ended = matches!(found.state, LaunchState::Ended(_));
                        present.get(&start.name).is_some_and(|(now, is_live)| {
                            let is_over = !is_live && !ended && start.generation == *now;
                            start.generation < *now || is_over
                        })
                    });
                    clear(&*launcher, old.collect(), grace).await;
                }
                Err(error) => {
                    tracing::warn!(error = %error_chain(&error), "launches not listed");
                }
            }
            Done::Nothing
        });
    }
}

/// Ends what runs of old launches, and removes all but the last few that ended.
async fn clear(launcher: &dyn Launcher, mut old: Vec<(Start, Discovered)>, grace: Duration) {
    old.sort_by_key(|(start, _)| (start.name, std::cmp::Reverse(start.generation)));
    let mut kept: BTreeMap<ProcessName, usize> = BTreeMap::new();
    for (start, found) in old {
        if !matches!(found.state, LaunchState::Ended(_)) {
            end(launcher, &found, grace).await;
            continue;
        }
        let count = kept.entry(start.name).or_default();
        *count += 1;
        if *count <= KEEP {
            continue;
        }
        if let Ok(handle) = launcher.attach(&found.record).await
            && let Err(error) = handle.destroy(Destroy::Everything).await
        {
            tracing::warn!(launch.id = %found.id, error = %error_chain(&error), "launch not removed");
        }
    }
}

async fn end(launcher: &dyn Launcher, orphan: &Discovered, grace: Duration) {
    tracing::warn!(launch.id = %orphan.id, "ending a process that is nobody's");
    match launcher.attach(&orphan.record).await {
        Ok(handle) => {
            handle.stop(StopRequest::new("it is nobody's", grace)).await;
        }
        Err(error) => {
            tracing::warn!(launch.id = %orphan.id, error = %error_chain(&error), "launch not attached to");
        }
    }
}
