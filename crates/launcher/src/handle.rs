//! A launch in hand: what it does, what it printed, and how to end it.
//!
//! A handle is a view. It owns nothing that the launch needs, and dropping it ends nothing.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};

use crate::{
    error::{HandleError, LogError},
    id::LaunchId,
    outcome::ExitReport,
    output::{LogChunk, LogContent, LogCursor},
};

/// How much of the output counts as last words, in bytes.
const LAST_WORDS: usize = 1000;
/// The longest wait for them; the output of a launch that goes on has no end.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(10);

/// One launch. Cheap to clone; dropping it never ends the launch.
#[derive(Clone)]
pub struct Handle {
    backend: Arc<dyn HandleBackend>,
}

/// What a launch does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchState {
    /// It waits for its input, or was left there by a crash. Nothing was started.
    Created,
    /// It runs.
    Running {
        /// Since when; `None` until the command is started.
        since: Option<Timestamp>,
    },
    /// It was asked to end through this handle.
    Stopping {
        /// Why.
        reason: String,
    },
    /// It has ended.
    Ended(ExitReport),
}

/// What a database keeps to find a launch again. Contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandleRecord {
    /// The format of this record, [`RECORD_VERSION`].
    pub version: u32,
    /// Which launcher made it, such as `process`.
    pub kind: String,
    /// The launch id.
    pub id: LaunchId,
    /// Which store it lies in: an id of the state directory, not its path.
    pub store: String,
    /// The hash of its spec.
    pub spec_hash: String,
    /// The boot of the host on which it was created.
    pub boot_id: String,
}

/// The format that this version writes and reads.
pub const RECORD_VERSION: u32 = 1;

/// How to end a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRequest {
    /// Why, for the report; cut at 1000 bytes.
    pub reason: String,
    /// The time between asking and killing.
    pub grace: Duration,
}

/// What to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destroy {
    /// Everything but the output, the intent and the exit record.
    KeepLogs,
    /// Everything.
    Everything,
}

/// What a running launch uses, its descendants included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchStats {
    /// The process id of the command itself, if it is still there.
    pub leader_pid: Option<i32>,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Processor time.
    pub cpu: Duration,
    /// Processes.
    pub processes: u32,
    /// Time since the start.
    pub uptime: Duration,
}

/// What a launcher implements for its handles.
#[async_trait]
pub trait HandleBackend: Send + Sync + fmt::Debug + 'static {
    /// See [`Handle::id`].
    fn id(&self) -> &LaunchId;
    /// See [`Handle::record`].
    fn record(&self) -> HandleRecord;
    /// See [`Handle::state`].
    fn state(&self) -> watch::Receiver<LaunchState>;
    /// See [`Handle::logs`].
    fn logs(&self, from: LogCursor) -> BoxStream<'static, Result<LogChunk, LogError>>;
    /// See [`Handle::renew`].
    async fn renew(&self) -> Result<(), HandleError>;
    /// See [`Handle::stop`].
    async fn stop(&self, request: StopRequest) -> ExitReport;
    /// See [`Handle::stats`].
    async fn stats(&self) -> Result<LaunchStats, HandleError>;
    /// See [`Handle::destroy`].
    async fn destroy(&self, what: Destroy) -> Result<(), HandleError>;
}

impl Handle {
    /// For launchers: a handle on their own view of a launch.
    pub fn new(backend: impl HandleBackend) -> Self {
        Self { backend: Arc::new(backend) }
    }

    /// The launch id.
    #[must_use]
    pub fn id(&self) -> &LaunchId {
        self.backend.id()
    }

    /// What to store so that another process can attach.
    #[must_use]
    pub fn record(&self) -> HandleRecord {
        self.backend.record()
    }

    /// The state now and every later one. A late subscriber sees the last.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LaunchState> {
        self.backend.state()
    }

    /// Waits until the launch has ended and everything of it is gone.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn exited(&self) -> ExitReport {
        let mut state = self.state();
        loop {
            if let LaunchState::Ended(report) = &*state.borrow_and_update() {
                return report.clone();
            }
            if state.changed().await.is_err() {
                // The backend keeps the sender for as long as it lives, and we hold the backend.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The output from a cursor on, live. The stream ends when the launch has ended and everything
    /// was read. It may be dropped at any time and opened again at the last chunk's `next`.
    pub fn logs(
        &self,
        from: LogCursor,
    ) -> impl Stream<Item = Result<LogChunk, LogError>> + Send + Unpin + 'static {
        self.backend.logs(from)
    }

    /// The end of what the command printed, on one line, without control characters. Empty where nothing could be read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn last_words(&self) -> String {
        let read = async {
            let mut tail: Vec<u8> = Vec::new();
            let mut chunks = self.logs(LogCursor::START);
            while let Some(Ok(chunk)) = chunks.next().await {
                if let LogContent::Output { data, .. } = chunk.content {
                    tail.extend_from_slice(&data);
                    tail.drain(..tail.len().saturating_sub(LAST_WORDS));
                }
            }
            tail
        };
        let tail = timeout(LAST_WORDS_WITHIN, read).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&tail);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<String> =
            lines.map(|line| line.chars().filter(|c| !c.is_control()).collect()).collect();
        lines.join(" | ")
    }

    /// Renews the lease for its whole length. Without a lease it does nothing.
    ///
    /// # Errors
    /// [`HandleError::Ended`] when there is nothing left to renew.
    pub async fn renew(&self) -> Result<(), HandleError> {
        self.backend.renew().await
    }

    /// Ends the launch and waits until nothing of it is left. Idempotent: the first reason stays,
    /// the shortest grace wins, and an ended launch answers with its report.
    ///
    /// # Cancel safety
    /// Cancel safe: once polled, the request stands and the launch ends without the caller.
    pub async fn stop(&self, request: StopRequest) -> ExitReport {
        self.backend.stop(request).await
    }

    /// What the launch uses now.
    ///
    /// # Errors
    /// [`HandleError::Ended`] when it uses nothing any more.
    pub async fn stats(&self) -> Result<LaunchStats, HandleError> {
        self.backend.stats().await
    }

    /// Removes what is left of an ended launch. Idempotent.
    ///
    /// # Errors
    /// [`HandleError::StillRunning`] while it runs.
    pub async fn destroy(&self, what: Destroy) -> Result<(), HandleError> {
        self.backend.destroy(what).await
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("id", self.id()).finish_non_exhaustive()
    }
}

impl StopRequest {
    /// A request with a reason and a grace.
    pub fn new(reason: impl Into<String>, grace: Duration) -> Self {
        Self { reason: reason.into(), grace }
    }
}
