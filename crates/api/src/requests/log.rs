//! The query of `GET /runs/{id}/log`.

use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    error::{ApiError, FieldFault},
    requests::paging::event_number,
};

/// The most lines that `tail` asks for.
pub(crate) const TAIL_MAX: u32 = 10_000;

/// The query of `GET /runs/{id}/log`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// Only events with a greater number; 0 where left out. The header `X-Next-After` of an answer is its next value.
    #[param(schema_with = crate::schema::event_number)]
    after: Option<String>,
    /// Only the last lines, 1 to 10000; from the beginning where left out.
    #[param(schema_with = crate::schema::log_tail)]
    tail: Option<String>,
    /// Whether the answer goes on while the run lives; `false` where left out.
    #[param(schema_with = crate::schema::boolean)]
    follow: Option<String>,
}

/// What of a log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogPart {
    pub(crate) after: i64,
    /// How many lines from the end; all where none.
    pub(crate) tail: Option<usize>,
    pub(crate) follow: bool,
}

impl LogQuery {
    pub(crate) fn part(&self) -> Result<LogPart, ApiError> {
        let mut faults = Vec::new();
        let after = event_number(self.after.as_deref(), &mut faults);
        let tail = self.tail.as_deref().and_then(|text| tail(text, &mut faults));
        let follow = match self.follow.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                faults.push(FieldFault::new("follow", "is not allowed", "true, false"));
                false
            }
        };
        let part = LogPart { after, tail, follow };
        if faults.is_empty() { Ok(part) } else { Err(ApiError::parameters(faults)) }
    }
}

fn tail(text: &str, faults: &mut Vec<FieldFault>) -> Option<usize> {
    let lines = text.parse().ok().filter(|lines| (1..=TAIL_MAX).contains(lines));
    if lines.is_none() {
        let allowed = format!("an integer from 1 to {TAIL_MAX}");
        faults.push(FieldFault::new("tail", "is not allowed", allowed));
    }
    lines.and_then(|lines| usize::try_from(lines).ok())
}
