//! The length of a page, and queries of events.

use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::{ApiError, FieldFault};

/// The longest page.
pub(crate) const PAGE_MAX: u32 = 200;
/// The length of a page where the query names none.
pub(crate) const PAGE_DEFAULT: u32 = 50;
/// The most events of one page.
pub(crate) const EVENTS_MAX: u32 = 1000;
/// The length of a page of events where the query names none.
const EVENTS_DEFAULT: u32 = 200;

/// The query of `GET /runs/{id}/events`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Only events with a greater number; 0 where left out.
    #[param(schema_with = crate::schema::event_number)]
    after: Option<String>,
    /// The length of the page, 1 to 1000; 200 where left out.
    #[param(schema_with = crate::schema::events_limit)]
    limit: Option<String>,
}

/// The query of `GET /runs/{id}/events/stream`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// Only events with a greater number; 0 where left out. The header `Last-Event-ID` wins over it.
    #[param(schema_with = crate::schema::event_number)]
    after: Option<String>,
}

impl EventsQuery {
    /// The place after which the page begins, and its length.
    pub(crate) fn page(&self) -> Result<(i64, u32), ApiError> {
        let mut faults = Vec::new();
        let after = event_number(self.after.as_deref(), &mut faults);
        let limit = limit(self.limit.as_deref(), EVENTS_DEFAULT, EVENTS_MAX, &mut faults);
        if faults.is_empty() { Ok((after, limit)) } else { Err(ApiError::parameters(faults)) }
    }
}

impl StreamQuery {
    /// The place after which the stream begins.
    pub(crate) fn after(&self) -> Result<i64, ApiError> {
        let mut faults = Vec::new();
        let after = event_number(self.after.as_deref(), &mut faults);
        if faults.is_empty() { Ok(after) } else { Err(ApiError::parameters(faults)) }
    }
}

pub(crate) fn limit(
    text: Option<&str>,
    default: u32,
    max: u32,
    faults: &mut Vec<FieldFault>,
) -> u32 {
    let Some(text) = text else { return default };
    match text.parse() {
        Ok(limit) if (1..=max).contains(&limit) => limit,
        Ok(_) | Err(_) => {
            let allowed = format!("an integer from 1 to {max}");
            faults.push(FieldFault::new("limit", "is not allowed", allowed));
            default
        }
    }
}

pub(crate) fn event_number(text: Option<&str>, faults: &mut Vec<FieldFault>) -> i64 {
    let Some(text) = text else { return 0 };
    match text.parse() {
        Ok(number) if number >= 0 => number,
        Ok(_) | Err(_) => {
            faults.push(FieldFault::new("after", "is not allowed", "the number of an event, or 0"));
            0
        }
    }
}
