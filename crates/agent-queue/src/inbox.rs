//! An agent's inbox: says that there may be a run for it. What it says may be stale or doubled.

use std::time::Duration;

use core_types::ids::{LeaseNumber, RunKey};
use fred::{
    clients::Client,
    error::Error,
    interfaces::{ClientLike as _, ListInterface as _},
    types::config::Options,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{address::Address, link::Link};

/// How long the server holds a question back when there is nothing.
const BLOCK: Duration = Duration::from_secs(5);
/// When a question that the server should have answered is given up.
const GIVE_UP: Duration = Duration::from_secs(10);
/// The wait after a failure, so that a server that refuses at once is not asked at once again.
const PAUSE: Duration = Duration::from_millis(500);
/// Entries that may wait for their agent; it looks once for all of them.
const WAITING: usize = 16;

/// What comes into one agent's inbox.
#[derive(Debug)]
pub struct Inbox {
    entries: mpsc::Receiver<RunKey>,
    _pump: JoinSet<()>,
}

impl Inbox {
    pub(crate) fn open(address: &Address, list: String) -> Self {
        let (sender, entries) = mpsc::channel(WAITING);
        let link = Link::open(address, None);
        let mut pump = JoinSet::new();
        pump.spawn(take_all(link, list, sender));
        Self { entries, _pump: pump }
    }

    /// Waits for the next entry, for ever where Redis is away. It must be checked against the database.
    ///
    /// # Cancel safety
    /// Cancel safe: an entry stays until it is returned.
    pub async fn next(&mut self) -> RunKey {
        match self.entries.recv().await {
            Some(key) => key,
            // Its task ends with this value, or by a panic; without it nothing comes any more.
            None => std::future::pending().await,
        }
    }
}

async fn take_all(link: Link, list: String, entries: mpsc::Sender<RunKey>) {
    loop {
        match take(&link.client, &list).await {
            Ok(Some(key)) => {
                if entries.send(key).await.is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(kind = ?error.kind(), "inbox not read");
                if matches!(error.kind(), fred::error::ErrorKind::Timeout) {
                    // A connection that blocks is exempt from the client's own watch.
                    timeout(GIVE_UP, link.client.force_reconnection()).await.ok();
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// The next entry; none where nothing came in time, or what came is none of ours.
async fn take(client: &Client, list: &str) -> Result<Option<RunKey>, Error> {
    let options = Options { timeout: Some(GIVE_UP), ..Options::default() };
    let client = client.with_options(&options);
    let taken: Option<(String, String)> = client.blpop(list, BLOCK.as_secs_f64()).await?;
    Ok(taken.and_then(|(_, entry)| parse(&entry)))
}

/// The text of an entry.
pub(crate) fn entry(key: RunKey) -> String {
    format!("{} {}", key.run, key.lease)
}

fn parse(entry: &str) -> Option<RunKey> {
    let (run, lease) = entry.split_once(' ')?;
    Some(RunKey { run: run.parse().ok()?, lease: LeaseNumber(lease.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use core_types::ids::RunId;

    use super::*;

    #[test]
    fn an_entry_comes_back_from_its_text_and_nothing_else_does() {
        let key = RunKey { run: RunId::generate(), lease: LeaseNumber(7) };
        assert_eq!(parse(&entry(key)), Some(key));
        for text in ["", "x", "x 7", &format!("{} x", key.run)] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
