//! The launches of this host, as recovery sees them: which belong to a run, and how they are ended for sure.
//!
//! A launch counts as ended only by its exit report. What cannot be listed, attached to or ended is an error, for a
//! run must not be queued again while something of it may be alive.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use core_types::{ids::RunId, label};
use launcher::{
    error::{AttachError, LauncherError},
    handle::{Destroy, StopRequest},
    id::LaunchId,
    identity::ProcessIdentity,
    launcher::{Discovered, Launcher, ReapPolicy},
    outcome::ExitReport,
};
use telemetry::chain::error_chain;
use tokio::{
    runtime,
    sync::Mutex,
    task::spawn_blocking,
    time::{Instant, timeout},
};

/// Time between asking leftovers to end and killing them. Their run is to be queued again 2 s after the death of its
/// worker (D5), and what they do is not wanted any more.
const GRACE: Duration = Duration::from_millis(500);
/// Longest wait for an end: the launcher kills a shim that does not answer after 35 s.
const END_WITHIN: Duration = Duration::from_secs(45);
/// Removes nothing.
pub(crate) const NOTHING: ReapPolicy =
    ReapPolicy { keep_ended: Duration::MAX, keep_unassigned: Duration::MAX, dry_run: true };

/// Finds and ends launches of this host.
#[derive(Debug)]
pub struct Launches {
    launcher: Arc<dyn Launcher>,
    /// The last list.
    last: Mutex<Option<Arc<Listing>>>,
}

/// The launches of this host at some time.
#[derive(Debug)]
struct Listing {
    begun: Instant,
    launches: Vec<Discovered>,
    /// Entries that are there and no launches, as far as anybody can read.
    unreadable: Vec<String>,
}

/// Why something of a run may still be alive.
#[derive(Debug, thiserror::Error)]
pub enum MayLive {
    /// It is not known which launches there are.
    #[error("launches not listed")]
    NotListed(#[source] LauncherError),
    /// There is a launch that nobody can read.
    #[error("launch `{name}` is not readable; mend or remove its directory")]
    NotReadable {
        /// The name of its directory.
        name: String,
    },
    /// It is not known how a launch is.
    #[error("launch `{id}` not attached")]
    NotAttached {
        /// The launch.
        id: LaunchId,
        #[source]
        source: AttachError,
    },
    /// It was asked to end, and killed, and is still there.
    #[error("launch `{id}` did not end within {} s", END_WITHIN.as_secs())]
    NotEnded {
        /// The launch.
        id: LaunchId,
    },
    /// Some of its processes could not be killed.
    #[error(
        "{survivors} processes of launch `{id}` could not be killed; end them, or restart the machine, and remove the \
         launch directory"
    )]
    Survivors {
        /// The launch.
        id: LaunchId,
        /// How many.
        survivors: u32,
    },
}

impl Launches {
    /// The launches of this launcher.
    #[must_use]
    pub fn new(launcher: Arc<dyn Launcher>) -> Self {
        Self { launcher, last: Mutex::new(None) }
    }

    /// Ends every launch of a run, and tells how the youngest ended, if there is one.
    ///
    /// # Errors
    /// [`MayLive`] where something of the run may still be alive.
    pub async fn end_all_of(&self, run: RunId) -> Result<Option<ExitReport>, MayLive> {
        let listing = self.listed_since(Instant::now()).await.map_err(MayLive::NotListed)?;
        // The id of each launch of a run begins with the run's id.
        let unreadable = listing.unreadable.iter().find(|name| name.starts_with(&run.to_string()));
        if let Some(name) = unreadable {
            return Err(MayLive::NotReadable { name: name.clone() });
        }
        let mut of_run: Vec<&Discovered> =
            listing.launches.iter().filter(|found| belongs_to(found, run)).collect();
        of_run.sort_by_key(|found| found.created_at);
        let mut youngest = None;
        for found in of_run {
            youngest = self.end(found).await?.or(youngest);
        }
        Ok(youngest)
    }

    /// A list that was begun after `moment`. Who asks at the same time shares one.
    async fn listed_since(&self, moment: Instant) -> Result<Arc<Listing>, LauncherError> {
        let mut last = self.last.lock().await;
        if let Some(listing) = last.as_ref().filter(|listing| listing.begun > moment) {
            return Ok(Arc::clone(listing));
        }
        let listing = Arc::new(aside(list(Arc::clone(&self.launcher))).await?);
        *last = Some(Arc::clone(&listing));
        Ok(listing)
    }

    /// Ends a launch and removes it; `None` where it was removed meanwhile, hence had ended.
    async fn end(&self, found: &Discovered) -> Result<Option<ExitReport>, MayLive> {
        let id = found.id.clone();
        let handle = match self.launcher.attach(&found.record).await {
            Ok(handle) => handle,
            Err(AttachError::Gone { .. }) => return Ok(None),
            Err(source) => return Err(MayLive::NotAttached { id, source }),
        };
        let stop = handle.stop(StopRequest::new("its run is taken back", GRACE));
        let Ok(report) = timeout(END_WITHIN, stop).await else {
            return Err(MayLive::NotEnded { id });
        };
        if report.survivors > 0 && !is_of_another_boot(found) {
            return Err(MayLive::Survivors { id, survivors: report.survivors });
        }
        if let Err(error) = handle.destroy(Destroy::Everything).await {
            tracing::warn!(launch.id = %id, error = %error_chain(&error), "launch not removed");
        }
        Ok(Some(report))
    }
}

async fn list(launcher: Arc<dyn Launcher>) -> Result<Listing, LauncherError> {
    let begun = Instant::now();
    // `discover` passes over what it cannot read; this names all there is.
    let entries = launcher.reap(&NOTHING).await?;
    let launches = launcher.discover().await?;
    let names = [&entries.kept, &entries.removed, &entries.failed].into_iter().flatten();
    let names = names.map(ToString::to_string);
    let foreign = entries.foreign.iter().filter_map(|path| path.file_name());
    let names = names.chain(foreign.map(|name| name.to_string_lossy().into_owned()));
    let read: BTreeSet<String> = launches.iter().map(|found| found.id.to_string()).collect();
    let unreadable = names.filter(|name| !read.contains(name)).collect();
    Ok(Listing { begun, launches, unreadable })
}

/// Does on another thread what may keep one busy: a list reads every launch directory, and ends what a dead shim left.
pub(crate) async fn aside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let here = runtime::Handle::current();
    match spawn_blocking(move || here.block_on(work)).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime shuts down, and this task with it.
        Err(_) => std::future::pending().await,
    }
}

fn belongs_to(found: &Discovered, run: RunId) -> bool {
    found.labels.get(label::RUN).is_some_and(|label| *label == run.to_string())
}

/// Nothing outlives its boot.
fn is_of_another_boot(found: &Discovered) -> bool {
    ProcessIdentity::own().is_ok_and(|own| own.boot_id != found.record.boot_id)
}
