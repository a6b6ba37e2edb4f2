//! Finding a launch that is there: by a stored record, or because another caller starts it.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::task::TaskTracker;

use super::{
    Launch, aside,
    format::VERSION,
    site::{Finding, Site},
    view::View,
};
use crate::{
    error::{AttachError, LaunchError},
    handle::{Handle, HandleRecord, RECORD_VERSION},
    launcher::Launched,
    outcome::Outcome,
};

/// How long a caller waits for another one to assign the launch that both want.
const ASSIGNMENT_PATIENCE: Duration = Duration::from_secs(30);

/// A handle whose first finding is known.
pub(crate) fn handle(
    site: &Arc<dyn Site>,
    launch: Launch,
    finding: &Finding,
    tasks: &TaskTracker,
) -> Handle {
    Handle::new(View::new(Arc::clone(site), launch, finding, tasks))
}

/// Finds the launch of a stored record.
pub(crate) async fn attach(
    site: &Arc<dyn Site>,
    record: &HandleRecord,
    tasks: &TaskTracker,
) -> Result<Handle, AttachError> {
    let HandleRecord { version, kind, id, store, spec_hash, boot_id: _ } = record;
    let id = id.clone();
    if *version != RECORD_VERSION {
        return Err(AttachError::Incompatible { id, found: *version, known: RECORD_VERSION });
    }
    if kind != site.kind() || *store != site.store().id {
        return Err(AttachError::Foreign { id, owner: format!("{kind}:{store}") });
    }
    let path = site.store().path(&id);
    let fail = |source| AttachError::Io { path: path.clone(), source };
    let (store, wanted) = (Arc::clone(site.store()), id.clone());
    let found = aside(move || store.find(&wanted)).await.map_err(fail)?;
    let Some(launch) = found else {
        return Err(AttachError::Gone { id });
    };
    if launch.intent.version != VERSION {
        let found = launch.intent.version;
        return Err(AttachError::Incompatible { id, found, known: VERSION });
    }
    if launch.intent.spec_hash != *spec_hash {
        // The one that was meant is gone; another has its id now.
        return Err(AttachError::Gone { id });
    }
    let found = site.look(&launch).await.map_err(fail)?;
    Ok(handle(site, launch, &found, tasks))
}

/// Waits for what another caller makes of a launch. `None`: nobody has it any more.
pub(crate) async fn join(
    site: &Arc<dyn Site>,
    launch: &Launch,
    tasks: &TaskTracker,
) -> Result<Option<Launched>, LaunchError> {
    let deadline = Instant::now() + ASSIGNMENT_PATIENCE;
    let mut pause = Duration::from_millis(2);
    loop {
        let found = site.look(launch).await;
        let found = found.map_err(|source| io_error(site.as_ref(), launch, "look at", source))?;
        match &found {
            // Accepted, but it may still turn out that the program cannot be executed.
            Finding::Running { since: None, .. } | Finding::Created { shim: Some(_) } => {}
            Finding::Running { .. } => {
                let handle = handle(site, launch.clone(), &found, tasks);
                return Ok(Some(Launched::AlreadyRunning(handle)));
            }
            Finding::Ended(report) => {
                if let Outcome::NeverStarted(failure) = &report.outcome {
                    return Err(failure.clone().into());
                }
                let handle = handle(site, launch.clone(), &found, tasks);
                return Ok(Some(Launched::AlreadyExited(handle)));
            }
            Finding::Created { shim: None } => return Ok(None),
        }
        if Instant::now() > deadline {
            return Err(LaunchError::AwaitsAssignment { id: launch.id().clone() });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The directory of a launch could not be read or written.
pub(crate) fn io_error(
    site: &dyn Site,
    launch: &Launch,
    what: &'static str,
    source: io::Error,
) -> LaunchError {
    LaunchError::Io { what, path: site.store().path(launch.id()), source }
}
