//! The loop that delivers: claims what is due, tries it, writes down what came of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use core_config::{load::Loaded, settings::Settings};
use core_types::{notice::NoticeEvent, secret::Secret};
use futures_util::future::join_all;
use launcher::launcher::Launcher;
use store::{
    error::StoreError,
    notices::{Notice, NoticeNext, Settled},
    pool::Store,
    wake::Channel,
};
use telemetry::chain::error_chain;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    command::{self, hand_over},
    message::Message,
    webhook::{self, Webhook, WebhookError},
};

/// How often it looks even if nobody wakes it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most notices that are tried at once.
const BATCH: u32 = 8;
/// How long a notice is held while it is tried; longer than webhook and command take together.
pub const LEASE: Duration = Duration::from_secs(90);
/// The wait after the first failed attempt; it doubles with each further one.
const WAIT_MIN: Duration = Duration::from_secs(5);
/// The longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(60 * 60);
/// The settings that say where notices go.
const SETTINGS: [&str; 4] =
    ["NOTIFY_WEBHOOK_URL", "NOTIFY_WEBHOOK_SECRET", "NOTIFY_COMMAND", "NOTIFY_ON"];
/// After so many attempts, some five hours, a notice is given up.
const ATTEMPTS: u32 = 15;

/// Delivers notices.
#[derive(Debug, Clone)]
pub struct Deliverer {
    /// The database.
    pub store: Store,
    /// Starts the command.
    pub launcher: Arc<dyn Launcher>,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Loaded>>,
    /// The whole environment of the command.
    pub env: BTreeMap<String, String>,
    /// How long a notice is held while it is tried, see [`LEASE`].
    pub lease: Duration,
    /// How long each way of a notice may take.
    pub patience: Patience,
}

/// How long each way of a notice may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until the webhook answers.
    pub webhook: Duration,
    /// Until the command has ended.
    pub command: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { webhook: webhook::TIME, command: command::TIME }
    }
}

impl Deliverer {
    /// Delivers until it is told to stop. What is under way then is given up, and tried again by the next.
    pub async fn run(self, stop: CancellationToken) {
        let webhook = Webhook::new().map(|webhook| webhook.with_limit(self.patience.webhook));
        if let Err(error) = &webhook {
            tracing::warn!(error = %error_chain(error), "no notice can go to a webhook");
        }
        let mut wakes = self.store.wakes(&[Channel::Tasks]);
        let mut failing = false;
        while !stop.is_cancelled() {
            let round = stop.run_until_cancelled(self.round(&webhook)).await;
            match round {
                None => break,
                Some(Ok(tried)) if tried >= BATCH as usize => continue,
                Some(Ok(_)) => failing = false,
                Some(Err(error)) if !failing => {
                    failing = true;
                    tracing::warn!(error = %error_chain(&error), "notices not delivered for now");
                }
                Some(Err(_)) => {}
            }
            // Every arm is cancel-safe: each only says that it is time to look.
            tokio::select! {
                () = stop.cancelled() => break,
                _ = wakes.next() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Tries what is due; tells how many those were. While it is not known where notices shall go they wait, but for a test,
    /// which tells of that.
    async fn round(&self, webhook: &Result<Webhook, WebhookError>) -> Result<usize, StoreError> {
        let loaded = Arc::clone(&self.settings.borrow());
        let fault = loaded.known(&SETTINGS).err();
        let due = self.store.claim_notices(BATCH, self.lease, fault.is_some()).await?;
        let tried = due.iter().map(async |notice| {
            let settled = match fault {
                None => self.attempt(webhook, notice, &loaded.settings).await,
                Some(fault) => Settled {
                    error: Some(fault.to_string()),
                    next: NoticeNext::GiveUp,
                    ..begun(notice)
                },
            };
            if let Some(error) = &settled.error {
                tracing::warn!(
                    notice.id = %notice.id,
                    notice.attempt = notice.attempts,
                    error = error.as_str(),
                    "notice not delivered"
                );
            }
            self.store.settle_notice(notice, &settled).await
        });
        for settled in join_all(tried).await {
            settled?;
        }
        Ok(due.len())
    }

    /// One attempt at a notice, in each way that is still open.
    async fn attempt(
        &self,
        webhook: &Result<Webhook, WebhookError>,
        notice: &Notice,
        settings: &Settings,
    ) -> Settled {
        let is_test = notice.event == NoticeEvent::Test;
        let mut settled = begun(notice);
        let url = settings.notify_webhook_url.as_ref().map(Secret::expose);
        if url.is_none() && settings.notify_command.is_empty() {
            if is_test {
                settled.next = NoticeNext::GiveUp;
                let text = "neither `NOTIFY_WEBHOOK_URL` nor `NOTIFY_COMMAND` is set";
                settled.error = Some(text.to_owned());
            }
            return settled;
        }
        if !is_test && !settings.notify_on.contains(&notice.event) {
            return settled;
        }
        let secret = settings.notify_webhook_secret.as_ref();
        let post = async {
            match (url, webhook) {
                (Some(url), Ok(webhook)) if !settled.webhook => {
                    let posted = webhook.post(url, secret, &Message::new(notice)).await;
                    Some(posted.map_err(|error| error.line()))
                }
                (Some(_), Err(error)) if !settled.webhook => Some(Err(error.line())),
                _ => None,
            }
        };
        let hand = async {
            if settled.command || settings.notify_command.is_empty() {
                return None;
            }
            let command = &settings.notify_command;
            let within = self.patience.command;
            Some(hand_over(self.launcher.as_ref(), command, &self.env, notice, within).await)
        };
        let (posted, handed) = tokio::join!(post, hand);
        settled.webhook |= matches!(posted, Some(Ok(())));
        settled.command |= matches!(handed, Some(Ok(())));
        let errors: Vec<String> =
            [posted, handed].into_iter().flatten().filter_map(Result::err).collect();
        settled.next = match errors.as_slice() {
            [] => NoticeNext::Sent,
            _ if is_test => NoticeNext::GiveUp,
            _ => after(notice.attempts),
        };
        settled.error = (!errors.is_empty()).then(|| errors.join("; "));
        settled
    }
}

/// Where a notice stands before an attempt.
const fn begun(notice: &Notice) -> Settled {
    Settled {
        webhook: notice.webhook_sent_at.is_some(),
        command: notice.command_sent_at.is_some(),
        next: NoticeNext::Unwanted,
        error: None,
    }
}

/// What follows the failure of an attempt.
fn after(attempts: u32) -> NoticeNext {
    if attempts >= ATTEMPTS {
        return NoticeNext::GiveUp;
    }
    let doublings = attempts.saturating_sub(1).min(16);
    NoticeNext::Again(WAIT_MIN.saturating_mul(1 << doublings).min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_end() {
        assert_eq!(after(1), NoticeNext::Again(Duration::from_secs(5)));
        assert_eq!(after(2), NoticeNext::Again(Duration::from_secs(10)));
        assert_eq!(after(14), NoticeNext::Again(WAIT_MAX));
        assert_eq!(after(15), NoticeNext::GiveUp);
    }
}
