//! The trait that every launcher implements, and the words it speaks.

use std::{any::Any, collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    error::{AttachError, LaunchError, LauncherError, ProbeError},
    handle::{Handle, HandleRecord, LaunchState},
    id::LaunchId,
    spec::{Input, LaunchSpec},
};

/// Starts commands, finds them again, and clears away what is left of them.
///
/// # Contract
/// - All verbs may be called at any time from any number of tasks and processes on one store.
/// - A launch goes on when its caller, its handle or this launcher is gone. Only `stop`, its wall
///   time, its lease, or its own end ends it.
/// - `create` and `launch` take identity first: whatever they leave behind at a crash, `discover`
///   shows it.
/// - A launch id is used once. Starting it again gives the first launch, or its typed failure.
/// - What a launcher cannot do is an error or a missing capability, never silence.
#[async_trait]
pub trait Launcher: Send + Sync + fmt::Debug + 'static {
    /// Looks at what this launcher can do on this machine, now.
    ///
    /// # Errors
    /// When nothing could be launched at all.
    async fn probe(&self) -> Result<Capabilities, ProbeError>;

    /// Makes everything but the command: directory, intent, cgroup, and a shim that waits for its
    /// input. Dropping the result unassigned ends it as never started.
    ///
    /// # Errors
    /// See [`LaunchError`]; nothing was started.
    async fn create(&self, id: &LaunchId, spec: &LaunchSpec) -> Result<Created, LaunchError>;

    /// Hands over the input and waits until the command runs.
    ///
    /// # Errors
    /// See [`LaunchError`]; nothing was started, and the id is used up.
    async fn assign(&self, created: Created, input: Input) -> Result<Launched, LaunchError>;

    /// Creates and assigns in one go. Idempotent by id.
    ///
    /// # Errors
    /// See [`LaunchError`]; nothing was started by this call.
    async fn launch(
        &self,
        id: &LaunchId,
        spec: &LaunchSpec,
        input: Input,
    ) -> Result<Launched, LaunchError> {
        let created = self.create(id, spec).await?;
        self.assign(created, input).await
    }

    /// Finds the launch of a stored record, running or ended.
    ///
    /// # Errors
    /// When there is none, or it is not this launcher's.
    async fn attach(&self, record: &HandleRecord) -> Result<Handle, AttachError>;

    /// Lists every launch of this store. What runs is not touched; what a launch that died without
    /// a record has left is ended.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn discover(&self) -> Result<Vec<Discovered>, LauncherError>;

    /// Removes launches that ended or were never started long enough ago. Running ones and what is
    /// not this launcher's stay.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn reap(&self, policy: &ReapPolicy) -> Result<ReapReport, LauncherError>;
}

/// What a launcher can do on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// What limits are honoured with.
    pub cgroup: CgroupSupport,
    /// Whether a limit of memory is honoured.
    pub limit_memory: bool,
    /// Whether a limit of processor time is honoured.
    pub limit_cpu: bool,
    /// Whether a limit of processes is honoured.
    pub limit_processes: bool,
    /// Whether commands can run as another user.
    pub other_users: bool,
    /// Whether launch directories lie on this machine's disk.
    pub shared_directory: bool,
}

/// The kind of cgroup hierarchy that a launcher may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupSupport {
    /// The unified hierarchy.
    V2,
    /// One hierarchy per controller, perhaps beside a unified one without controllers.
    V1,
    /// None: descendants are found by their parents, limits other than wall time are refused.
    None,
}

/// A launch that waits for its input; only its launcher can go on with it.
pub struct Created {
    id: LaunchId,
    parts: Box<dyn Any + Send>,
}

/// What became of a call to start.
#[derive(Debug, Clone)]
pub enum Launched {
    /// This call started it.
    Started(Handle),
    /// It was running already.
    AlreadyRunning(Handle),
    /// It has run already.
    AlreadyExited(Handle),
}

/// A launch as `discover` finds it.
#[derive(Debug, Clone)]
pub struct Discovered {
    /// Its id.
    pub id: LaunchId,
    /// The labels of its spec.
    pub labels: BTreeMap<String, String>,
    /// What it does now.
    pub state: LaunchState,
    /// When its intent was written.
    pub created_at: Timestamp,
    /// What to attach with.
    pub record: HandleRecord,
}

/// Which launches `reap` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReapPolicy {
    /// Ended launches are kept for this long after their end.
    pub keep_ended: Duration,
    /// Launches without a shim that nobody assigned are kept for this long after their creation.
    pub keep_unassigned: Duration,
    /// Only tells what it would remove.
    pub dry_run: bool,
}

/// What `reap` did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReapReport {
    /// Removed, or to be removed.
    pub removed: Vec<LaunchId>,
    /// Running, or not old enough.
    pub kept: Vec<LaunchId>,
    /// Entries of the store that are no launches of this format; left alone.
    pub foreign: Vec<PathBuf>,
    /// Launches that could not be removed; tried again the next time.
    pub failed: Vec<LaunchId>,
}

impl Capabilities {
    /// Whether the descendants of a launch can be named by the kernel, shim or not.
    #[must_use]
    pub fn kills_without_shim(&self) -> bool {
        self.cgroup != CgroupSupport::None
    }
}

impl Created {
    /// For launchers: wraps what `assign` needs.
    pub fn new(id: LaunchId, parts: impl Any + Send) -> Self {
        Self { id, parts: Box::new(parts) }
    }

    /// The launch id.
    #[must_use]
    pub fn id(&self) -> &LaunchId {
        &self.id
    }

    /// For launchers: what was wrapped, or `None` if another launcher made it.
    #[must_use]
    pub fn into_parts<T: Any + Send>(self) -> Option<T> {
        self.parts.downcast().ok().map(|parts| *parts)
    }
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Launched {
    /// The handle, whoever started it.
    #[must_use]
    pub fn into_handle(self) -> Handle {
        match self {
            Self::Started(handle) | Self::AlreadyRunning(handle) | Self::AlreadyExited(handle) => {
                handle
            }
        }
    }
}
