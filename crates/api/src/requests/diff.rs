//! The query of `GET /tasks/{id}/diff` and `GET /runs/{id}/diff`.

use http::{HeaderMap, header};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::{ApiError, FieldFault};

/// The words of `format`.
pub(crate) const FORMATS: &[&str] = &["json", "patch"];
/// The most bytes of a patch inside of JSON.
pub(crate) const BYTES_MAX: u32 = 8 << 20;
/// The same where the query says nothing.
const BYTES_DEFAULT: u32 = 1 << 20;

/// The query of `GET /tasks/{id}/diff` and `GET /runs/{id}/diff`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffQuery {
    /// `json` for files and patch, `patch` for the patch alone; where left out, the header `Accept` decides.
    #[param(schema_with = crate::schema::diff_format)]
    format: Option<String>,
    /// After how many bytes the patch in the JSON is cut; 1048576 where left out.
    #[param(schema_with = crate::schema::diff_bytes)]
    max_bytes: Option<String>,
}

/// In which form a difference is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiffForm {
    /// Files with their lines, and the patch, cut.
    Json { max_bytes: usize },
    /// The patch alone, whole.
    Patch,
}

impl DiffQuery {
    pub(crate) fn form(&self, headers: &HeaderMap) -> Result<DiffForm, ApiError> {
        let mut faults = Vec::new();
        let max_bytes = bytes(self.max_bytes.as_deref(), &mut faults);
        let json = DiffForm::Json { max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX) };
        let form = match self.format.as_deref() {
            Some("json") => json,
            Some("patch") => DiffForm::Patch,
            None if wants_patch(headers) => DiffForm::Patch,
            None => json,
            Some(_) => {
                faults.push(FieldFault::new("format", "is not allowed", FORMATS.join(", ")));
                json
            }
        };
        if faults.is_empty() { Ok(form) } else { Err(ApiError::parameters(faults)) }
    }
}

fn bytes(text: Option<&str>, faults: &mut Vec<FieldFault>) -> u32 {
    let Some(text) = text else { return BYTES_DEFAULT };
    match text.parse() {
        Ok(bytes) if (1..=BYTES_MAX).contains(&bytes) => bytes,
        Ok(_) | Err(_) => {
            let allowed = format!("an integer from 1 to {BYTES_MAX}");
            faults.push(FieldFault::new("max_bytes", "is not allowed", allowed));
            BYTES_DEFAULT
        }
    }
}

/// Whether the first kind of content that the client names, and that there is, is a patch.
fn wants_patch(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let kinds = accepted
        .unwrap_or_default()
        .split(',')
        .map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let mut known = kinds.filter(|kind| {
        matches!(kind.as_str(), "text/x-diff" | "text/x-patch" | "application/json" | "*/*")
    });
    known.next().is_some_and(|kind| kind.starts_with("text/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_decides_where_the_query_does_not() {
        let patch = |accept: &str| {
            wants_patch(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]))
        };
        assert!(
            patch("text/x-diff")
                && patch("TEXT/X-DIFF;q=0.9, */*")
                && patch("text/html, text/x-patch")
        );
        assert!(!patch("*/*") && !patch("application/json, text/x-diff") && !patch("text/plain"));
        assert!(!wants_patch(&HeaderMap::new()));
    }
}
