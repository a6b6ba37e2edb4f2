//! Finding every launch of a store, and clearing away the old ones.

use std::{io, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::{
    Launch, aside, attach,
    records::timestamp,
    site::{self, Finding, Site},
    store::Store,
};
use crate::{
    error::LauncherError,
    handle::{Destroy, LaunchState},
    id::LaunchId,
    launcher::{Discovered, ReapPolicy, ReapReport},
};

/// Nobody takes longer to make or remove a launch directory.
const REMNANT_AGE: Duration = Duration::from_secs(60);

/// Lists every launch. What a dead shim has left of one is ended.
pub(crate) async fn list(site: &dyn Site) -> Result<Vec<Discovered>, LauncherError> {
    let mut found = Vec::new();
    for id in entries(site.store()).await?.iter().filter_map(|name| name.parse().ok()) {
        match known(site, &id).await {
            Ok(known) => {
                found.extend(known.map(|(launch, finding)| describe(site, &launch, &finding)));
            }
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(launch.id = %id, error, "launch directory is unreadable");
            }
        }
    }
    Ok(found)
}

/// Removes what is old enough.
pub(crate) async fn sweep(
    site: &Arc<dyn Site>,
    policy: &ReapPolicy,
    tasks: &TaskTracker,
) -> Result<ReapReport, LauncherError> {
    let store = site.store();
    let mut report = ReapReport::default();
    for name in entries(store).await? {
        let Ok(id) = name.parse::<LaunchId>() else {
            reap_rest(store, &name, policy, &mut report);
            continue;
        };
        match known(site.as_ref(), &id).await {
            Ok(None) if store.is_remnant(&name) => reap_remnant(store, &name, policy),
            // Gone meanwhile.
            Ok(None) if !store.path(&id).is_dir() => {}
            Ok(None) | Err(_) => report.foreign.push(store.path(&id)),
            Ok(Some((launch, finding)))
                if !is_due(&describe(site.as_ref(), &launch, &finding), policy) =>
            {
                report.kept.push(id);
            }
            Ok(Some(_)) if policy.dry_run => report.removed.push(id),
            Ok(Some((launch, finding))) => {
                let handle = attach::handle(site, launch, &finding, tasks);
                match handle.destroy(Destroy::Everything).await {
                    Ok(()) => report.removed.push(id),
                    Err(_) => report.failed.push(id),
                }
            }
        }
    }
    Ok(report)
}

async fn entries(store: &Arc<Store>) -> Result<Vec<String>, LauncherError> {
    let looked = Arc::clone(store);
    let fail = |error| LauncherError::Io {
        what: "look through",
        path: store.launches().to_owned(),
        source: io::Error::other(error),
    };
    tokio::task::spawn_blocking(move || looked.entries()).await.map_err(fail)?
}

/// A launch that is there, and what is known of it.
async fn known(site: &dyn Site, id: &LaunchId) -> io::Result<Option<(Launch, Finding)>> {
    let (store, wanted) = (Arc::clone(site.store()), id.clone());
    let Some(launch) = aside(move || store.find(&wanted)).await? else {
        return Ok(None);
    };
    let finding = site.look(&launch).await?;
    Ok(Some((launch, finding)))
}

fn describe(site: &dyn Site, launch: &Launch, finding: &Finding) -> Discovered {
    let intent = &launch.intent;
    Discovered {
        id: intent.id.clone(),
        labels: intent.spec.labels.clone(),
        state: finding.as_state(),
        created_at: timestamp(intent.created_us),
        record: site::record(site, launch),
    }
}

fn reap_rest(store: &Store, name: &str, policy: &ReapPolicy, report: &mut ReapReport) {
    if name.starts_with(".new-") || name.starts_with(".gone-") {
        reap_remnant(store, name, policy);
    } else if !name.starts_with('.') {
        report.foreign.push(store.launches().join(name));
    }
}

fn reap_remnant(store: &Store, name: &str, policy: &ReapPolicy) {
    if !policy.dry_run && store.sweep(name, policy.keep_unassigned.max(REMNANT_AGE)) {
        tracing::debug!(launch.entry = name, "removed the remnant of a launch");
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
