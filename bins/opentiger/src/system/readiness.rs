//! Whether the system is ready, and what is missing where it is not.

use client::{client::Client, error::ClientError};
use serde::Deserialize;
use serde_json::Value;

/// What the server says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    #[serde(default)]
    pub(crate) checks: Vec<Check>,
}

/// One thing that a working system needs.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) ok: bool,
    pub(crate) message: String,
}

impl Readiness {
    /// Asks the server; the answer as it came goes along.
    pub(crate) async fn of(client: &Client) -> Result<(Self, Value), ClientError> {
        let (_, body) = client.look("/health/ready").await?;
        let this = Self::deserialize(&body).map_err(|_| ClientError::Foreign {
            base: client.base().as_str().to_owned(),
            why: "it does not say whether it is ready".to_owned(),
        })?;
        Ok((this, body))
    }

    /// What is missing, in the order of the checks.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.ok)
    }
}
