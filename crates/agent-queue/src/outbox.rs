//! What waits to be sent: bounded, merged, and dropped where Redis does not take it soon.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use core_types::ids::{AgentId, RunId, RunKey};
use fred::{
    clients::Client,
    error::Error,
    interfaces::{KeysInterface as _, ListInterface as _, PubsubInterface as _},
    types::Value,
};
use tokio::{sync::Notify, time::Instant};

use crate::{inbox, keys::Keys, subscription::Topic};

/// The least time between two sendings; what comes in between is merged.
const SPACING: Duration = Duration::from_millis(5);
/// An assignment older than this is found by its agent's own look.
const STALE: Duration = Duration::from_secs(2);
/// Most runs whose news wait; further ones become a wake-up for all.
const MOST_RUNS: usize = 1024;
/// Most assignments that wait.
const MOST_ASSIGNMENTS: usize = 4096;
/// How many entries an inbox keeps: an agent has one run at a time, so all but the last few are stale.
const INBOX_LENGTH: i64 = 16;
/// How long an inbox outlives its last entry, in seconds; far longer than the dispatcher waits for an acceptance.
const INBOX_TTL_S: i64 = 60;

/// Takes messages from everybody, at no cost for them.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    topics: BTreeSet<Topic>,
    news: HashMap<RunId, i64>,
    assignments: Vec<(Instant, AgentId, RunKey)>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.news.is_empty() && self.assignments.is_empty()
    }
}

impl Outbox {
    pub(crate) fn wake(&self, topic: Topic) {
        self.add(|waiting| {
            waiting.topics.insert(topic);
        });
    }

    pub(crate) fn events(&self, run: RunId, seq: i64) {
        self.add(|waiting| {
            let full = waiting.news.len() >= MOST_RUNS;
            match waiting.news.get_mut(&run) {
                Some(known) => *known = seq.max(*known),
                None if full => {
                    waiting.topics.insert(Topic::Events);
                }
                None => {
                    waiting.news.insert(run, seq);
                }
            }
        });
    }

    pub(crate) fn assign(&self, agent: AgentId, key: RunKey) {
        self.add(|waiting| {
            if waiting.assignments.len() < MOST_ASSIGNMENTS {
                waiting.assignments.push((Instant::now(), agent, key));
            }
        });
    }

    fn add(&self, add: impl FnOnce(&mut Waiting)) {
        add(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    fn take(&self) -> Waiting {
        std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends what waits, again and again. `answers` says whether Redis does; while it does not, all is dropped.
    pub(crate) async fn send(&self, client: &Client, keys: &Keys, answers: impl Fn() -> bool) {
        loop {
            self.changed.notified().await;
            let mut waiting = self.take();
            waiting.assignments.retain(|(since, ..)| since.elapsed() < STALE);
            if waiting.is_empty() {
                continue;
            }
            if !answers() {
                tracing::trace!("redis does not answer, messages dropped");
            } else if let Err(error) = send_all(client, keys, waiting).await {
                tracing::debug!(kind = ?error.kind(), "messages to redis dropped");
            }
            tokio::time::sleep(SPACING).await;
        }
    }
}

async fn send_all(client: &Client, keys: &Keys, waiting: Waiting) -> Result<(), Error> {
    let Waiting { topics, news, assignments } = waiting;
    let batch = client.pipeline();
    // Assignments first: somebody waits for them.
    for (_, agent, key) in assignments {
        let inbox = keys.inbox(agent);
        let () = batch.rpush(&inbox, inbox::entry(key)).await?;
        let () = batch.ltrim(&inbox, -INBOX_LENGTH, -1).await?;
        let () = batch.expire(&inbox, INBOX_TTL_S, None).await?;
    }
    for topic in topics {
        let () = batch.publish(keys.wake(topic), "").await?;
    }
    for (run, seq) in news {
        let () = batch.publish(keys.events(), format!("{run} {seq}")).await?;
    }
    let answers: Vec<Result<Value, Error>> = batch.try_all().await;
    answers.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use core_types::ids::LeaseNumber;

    use super::*;

    #[test]
    fn what_waits_is_merged_and_bounded() {
        let outbox = Outbox::default();
        let run = RunId::generate();
        for seq in [3, 7, 5] {
            outbox.events(run, seq);
            outbox.wake(Topic::Tasks);
        }
        for _ in 0..2 * MOST_RUNS {
            outbox.events(RunId::generate(), 1);
        }
        let key = RunKey { run, lease: LeaseNumber(1) };
        for _ in 0..2 * MOST_ASSIGNMENTS {
            outbox.assign(AgentId::generate(), key);
        }
        let waiting = outbox.take();
        assert_eq!(waiting.news.get(&run), Some(&7));
        assert_eq!(waiting.news.len(), MOST_RUNS);
        assert_eq!(waiting.assignments.len(), MOST_ASSIGNMENTS);
        assert_eq!(waiting.topics, BTreeSet::from([Topic::Tasks, Topic::Events]));
        assert!(outbox.take().is_empty());
    }
}
