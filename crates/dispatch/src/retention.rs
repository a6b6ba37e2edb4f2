//! Removing what is over and older than the settings keep it.

use std::{sync::Arc, time::Duration};

use core_config::load::Loaded;
use store::{cleanup::CleanupScope, error::StoreError, pool::Store};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::complaints::Complaints;

/// How often it is looked for.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// How soon it goes on where one stretch of work was not enough.
const GO_ON: Duration = Duration::from_secs(10);
/// For how long it works at a stretch.
const STRETCH: Duration = Duration::from_secs(5);
/// Everything that a cleanup may remove.
const SCOPE: CleanupScope =
    CleanupScope { tasks: true, events: false, agents: true, notices: true };

/// Removes what is too old, each hour and whenever a setting was changed, until it is told to stop.
pub async fn keep_small(
    store: Store,
    mut settings: watch::Receiver<Arc<Loaded>>,
    stop: CancellationToken,
) {
    let mut complaints = Complaints::default();
    while !stop.is_cancelled() {
        let days = kept_days(&settings.borrow_and_update());
        let finished = complaints.note("old rows", remove(&store, days).await).unwrap_or(true);
        // Every arm is cancel-safe: each only says that it is time to look.
        tokio::select! {
            () = stop.cancelled() => break,
            Ok(()) = settings.changed() => {}
            () = sleep(if finished { EVERY } else { GO_ON }) => {}
        }
    }
}

/// For how many days things are kept; none is for ever, and so is a setting that cannot be read.
fn kept_days(loaded: &Loaded) -> Option<u32> {
    let faulty = loaded.database_faults.is_some();
    loaded.settings.task_retention_days.filter(|_| !faulty)
}

/// Removes what is older; tells whether nothing is left of it.
///
/// # Errors
/// [`StoreError`] where the database does not answer.
pub async fn remove(store: &Store, days: Option<u32>) -> Result<bool, StoreError> {
    let Some(days) = days else {
        return Ok(true);
    };
    let before = store.days_ago(days).await?;
    let cleaned = store.clean_up(SCOPE, before, STRETCH).await?;
    if cleaned.counts != Default::default() {
        tracing::info!(
            tasks = cleaned.counts.tasks,
            runs = cleaned.counts.runs,
            events = cleaned.counts.events,
            agents = cleaned.counts.agents,
            notices = cleaned.counts.notices,
            "old rows removed"
        );
    }
    Ok(cleaned.finished)
}
