//! The output of a launch as a live stream. How it lies on disk is the business of `log`.

use std::{collections::VecDeque, io, time::Duration};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::watch;

use super::{
    directory::Directory,
    log::{Look, Reader},
};
use crate::{
    error::LogError,
    handle::LaunchState,
    outcome::ExitReport,
    output::{LogChunk, LogCursor},
};

/// The longest wait between two looks at a quiet output.
const QUIET: Duration = Duration::from_millis(100);

/// The output of a launch as a stream. `keep` lives as long as the stream does.
pub(crate) fn follow<K: Send + 'static>(
    directory: Directory,
    from: LogCursor,
    state: watch::Receiver<LaunchState>,
    keep: K,
) -> BoxStream<'static, Result<LogChunk, LogError>> {
    let reader = Some(Reader::new(directory, from.0));
    let follower = Follower { reader, ready: VecDeque::new(), state, _keep: keep };
    stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(None) => None,
            Ok(Some(chunk)) => Some((Ok(chunk), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// A reader that waits for what is not there yet.
struct Follower<K> {
    /// Away while it looks at the disk.
    reader: Option<Reader>,
    /// Read and not handed out yet.
    ready: VecDeque<LogChunk>,
    state: watch::Receiver<LaunchState>,
    _keep: K,
}

impl<K> Follower<K> {
    async fn next(&mut self) -> Result<Option<LogChunk>, LogError> {
        let mut pause = Duration::from_millis(2);
        while self.ready.is_empty() {
            // Before the look: what was written before the end is then surely seen.
            let report = match &*self.state.borrow_and_update() {
                LaunchState::Ended(report) => Some(report.clone()),
                LaunchState::Created
                | LaunchState::Running { .. }
                | LaunchState::Stopping { .. } => None,
            };
            match self.look(report).await? {
                Look::Chunks(chunks) => self.ready = chunks.into(),
                Look::End => return Ok(None),
                Look::Quiet => {
                    // Both arms are cancel safe: nothing is lost with a timer or a `changed`.
                    tokio::select! {
                        changed = self.state.changed() => if changed.is_err() {
                            return Ok(None);
                        },
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(QUIET);
                }
            }
        }
        Ok(self.ready.pop_front())
    }

    /// Looks at the disk away from the caller's thread, which may be the only one.
    async fn look(&mut self, report: Option<ExitReport>) -> Result<Look, LogError> {
        let Some(mut reader) = self.reader.take() else {
            return Err(LogError::Gone);
        };
        let look = move || {
            let found = reader.look(report.as_ref());
            (reader, found)
        };
        let looked = tokio::task::spawn_blocking(look).await;
        let (reader, found) = looked.map_err(|error| LogError::Io(io::Error::other(error)))?;
        self.reader = Some(reader);
        found
    }
}
