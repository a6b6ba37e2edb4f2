//! The query of `GET /system/processes/{name}/log`.

use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::{ApiError, FieldFault};

/// The most lines of one answer.
pub(crate) const LINES_MAX: u32 = 2000;
/// The lines of an answer where the query does not say.
const LINES_DEFAULT: usize = 200;

/// The query of `GET /system/processes/{name}/log`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LinesQuery {
    /// How many lines at most, 1 to 2000; 200 where left out.
    #[param(schema_with = crate::schema::process_lines)]
    lines: Option<String>,
}

impl LinesQuery {
    pub(crate) fn count(&self) -> Result<usize, ApiError> {
        let Some(text) = self.lines.as_deref() else {
            return Ok(LINES_DEFAULT);
        };
        let count = text.parse().ok().filter(|count| (1..=LINES_MAX).contains(count));
        count.and_then(|count| usize::try_from(count).ok()).ok_or_else(|| {
            let allowed = format!("an integer from 1 to {LINES_MAX}");
            ApiError::parameters(vec![FieldFault::new("lines", "is not allowed", allowed)])
        })
    }
}
