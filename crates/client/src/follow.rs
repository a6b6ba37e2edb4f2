//! A run's events from any place on, each once and in order, across lost connections.

use std::time::{Duration, Instant};

use http::{HeaderName, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use crate::{client::Client, error::ClientError, frames::Frames};

/// How long a stream may be silent: three times the pause between two signs of life of the server.
const SILENCE: Duration = Duration::from_secs(45);
/// The pauses before a stream is opened again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a server may be away before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Follows one stream of events to its end.
///
/// The server numbers events from 1 and takes up a stream after any number. Therefore nothing is lost and nothing comes
/// twice, however often the connection breaks or the server is started again.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    path: String,
    after: i64,
    open: Option<(Incoming, Frames)>,
    /// Since when no stream could be opened.
    away: Option<(Instant, Duration)>,
    over: bool,
}

impl Follower {
    /// Follows the stream at `path`, from after the event with that number.
    #[must_use]
    pub fn new(client: Client, path: impl Into<String>, after: i64) -> Self {
        Self { client, path: path.into(), after, open: None, away: None, over: false }
    }

    /// The number of the last event that was handed out.
    #[must_use]
    pub const fn after(&self) -> i64 {
        self.after
    }

    /// The next event; none after the last one.
    ///
    /// # Errors
    /// [`ClientError`]: the server refuses, or is away for a minute. Asking again goes on at the same place.
    ///
    /// # Cancel safety
    /// Cancel safe: an event is taken out of what arrived in the moment it is handed out.
    pub async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            if self.over {
                return Ok(None);
            }
            if let Some(event) = self.arrived()? {
                return Ok(Some(event));
            }
            if let Err(error) = self.advance().await {
                self.open = None;
                self.bear(error).await?;
            }
        }
    }

    /// Takes an event that arrived whole. One that was handed out before, which a proxy may repeat, is skipped.
    fn arrived(&mut self) -> Result<Option<Value>, ClientError> {
        while let Some(frame) = self.open.as_mut().and_then(|(_, frames)| frames.take()) {
            let event: Value = serde_json::from_str(&frame.data)
                .map_err(|_| self.client.foreign("an event is no JSON"))?;
            let number = frame.id.and_then(|id| id.parse::<i64>().ok());
            let number = number.ok_or_else(|| self.client.foreign("an event has no number"))?;
            if number > self.after {
                self.after = number;
                self.over = event.pointer("/event/kind").and_then(Value::as_str) == Some("ended");
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Opens the stream, or reads on in it.
    async fn advance(&mut self) -> Result<(), ClientError> {
        let Some((body, frames)) = self.open.as_mut() else {
            return self.reopen().await;
        };
        let frame = tokio::time::timeout(SILENCE, body.frame()).await;
        let frame = frame.map_err(|_| self.client.timed_out(SILENCE))?;
        match frame {
            Some(Ok(frame)) => {
                self.away = None;
                if let Ok(data) = frame.into_data() {
                    frames.push(&data).map_err(|_| self.client.foreign("an event has no end"))?;
                }
            }
            Some(Err(error)) => return Err(self.client.lost(error)),
            // The server ends a stream when it stops, too; whether the run is over shows when it is opened again.
            None => return Err(self.client.lost("the server ended the stream")),
        }
        Ok(())
    }

    async fn reopen(&mut self) -> Result<(), ClientError> {
        let headers = [(LAST_EVENT_ID, self.after.to_string())];
        let response = self.client.open(&self.path, &headers).await?;
        if response.status() == StatusCode::NO_CONTENT {
            self.over = true;
        } else {
            self.open = Some((response.into_body(), Frames::default()));
        }
        Ok(())
    }

    /// Waits a while after a failure that may pass.
    async fn bear(&mut self, error: ClientError) -> Result<(), ClientError> {
        let (since, pause) = self.away.unwrap_or((Instant::now(), FIRST_PAUSE));
        if !error.is_transient() || since.elapsed() > PATIENCE {
            self.away = None;
            return Err(error);
        }
        self.away = Some((since, (pause * 2).min(LONGEST_PAUSE)));
        tokio::time::sleep(error.retry_after().unwrap_or(pause).min(PATIENCE)).await;
        Ok(())
    }
}
