//! Launches under fixed ids: found again, read, and cleared away once they have ended.

use futures_util::StreamExt as _;
use launcher::{
    error::AttachError,
    handle::{Destroy, Handle},
    id::LaunchId,
    launcher::Launcher as _,
    output::{LogContent, LogCursor},
    process::ProcessLauncher,
};

use crate::error::{EmbeddedError, launch_error};

/// Finds the launch of an id, whatever its state.
pub(crate) async fn find(
    launcher: &ProcessLauncher,
    id: &LaunchId,
) -> Result<Option<Handle>, EmbeddedError> {
    let launches = launcher.discover().await.map_err(launch_error("list the launches"))?;
    let Some(found) = launches.into_iter().find(|launch| launch.id == *id) else {
        return Ok(None);
    };
    match launcher.attach(&found.record).await {
        Ok(handle) => Ok(Some(handle)),
        // It had ended, and somebody swept it since.
        Err(AttachError::Gone { .. }) => Ok(None),
        Err(error) => Err(launch_error("attach to a launch")(error)),
    }
}

/// Removes what an ended launch left, so that its id is free again. One that runs is left alone: that is an error.
pub(crate) async fn forget(handle: &Handle) -> Result<(), EmbeddedError> {
    let destroyed = handle.destroy(Destroy::Everything).await;
    destroyed.map_err(launch_error("remove an ended launch"))
}

/// What an ended launch printed, as far as it is kept.
pub(crate) async fn words(handle: &Handle) -> String {
    let mut words = Vec::new();
    let mut chunks = handle.logs(LogCursor::START);
    while let Some(Ok(chunk)) = chunks.next().await {
        match chunk.content {
            LogContent::Output { data, .. } => words.extend(&data),
            LogContent::Gap { .. } => {}
        }
    }
    String::from_utf8_lossy(&words).into_owned()
}

/// The last lines of a text on one line, for an error.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tail = lines.iter().skip(lines.len().saturating_sub(5));
    let tail: Vec<&str> = tail.copied().collect();
    if tail.is_empty() { "it printed nothing".to_owned() } else { tail.join("; ") }
}
