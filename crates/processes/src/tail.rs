//! The last lines that a launch wrote.

use std::{collections::VecDeque, time::Duration};

use futures_util::StreamExt as _;
use launcher::{
    handle::Handle,
    output::{LogContent, LogCursor},
};
use tokio::time::{Instant, timeout, timeout_at};

/// How much is kept in memory.
const KEEP_BYTES: usize = 1 << 20;
/// After so much quiet, all that is there was read.
const QUIET: Duration = Duration::from_millis(150);
/// How long reading may take in all.
const LIMIT: Duration = Duration::from_secs(5);

/// The last lines, the oldest first. What is not kept of the output is a line that says so.
pub(crate) async fn last_lines(handle: &Handle, count: usize) -> Vec<String> {
    let text = last_bytes(handle).await;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(count);
    lines.into_iter().skip(skipped).map(ToOwned::to_owned).collect()
}

async fn last_bytes(handle: &Handle) -> Vec<u8> {
    let deadline = Instant::now() + LIMIT;
    let mut chunks = handle.logs(LogCursor::START);
    let mut kept: VecDeque<u8> = VecDeque::new();
    // What cannot be read ends the text, as its end does.
    while let Ok(Ok(Some(Ok(chunk)))) = timeout_at(deadline, timeout(QUIET, chunks.next())).await {
        match chunk.content {
            LogContent::Output { stream: _, data } => kept.extend(data.iter()),
            LogContent::Gap { dropped_bytes } => {
                kept.extend(format!("\n[{dropped_bytes} bytes are not kept]\n").bytes());
            }
        }
        let excess = kept.len().saturating_sub(KEEP_BYTES);
        kept.drain(..excess);
    }
    kept.into()
}
