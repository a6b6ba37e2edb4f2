//! The body of `POST /tasks/{id}/retry`.

use serde::Deserialize;
use store::tasks::retry::Retry;
use utoipa::ToSchema;

use crate::{error::ApiError, fields::Faults};

const FEEDBACK_BYTES: usize = 16 * 1024;

/// How a task shall be done once more.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryRequest {
    /// What the agent shall do otherwise; where left out, it is told again what it was told before.
    #[schema(min_length = 1, max_length = 16384)]
    pub(crate) feedback: Option<String>,
    /// Whether the agent goes on with its last session, in a checkout of its last result where there is one. Where the
    /// session is not there any more, a new one begins.
    #[serde(default)]
    #[schema(required = false, default = false)]
    pub(crate) continue_session: bool,
}

impl RetryRequest {
    pub(crate) fn check(self) -> Result<Retry, ApiError> {
        let mut faults = Faults::default();
        if let Some(feedback) = &self.feedback {
            faults.prose("feedback", feedback, FEEDBACK_BYTES);
        }
        if faults.0.is_empty() {
            Ok(Retry { feedback: self.feedback, continue_session: self.continue_session })
        } else {
            Err(ApiError::fields(faults.0))
        }
    }
}
