//! The query of `GET /system/claude/auth`, `GET /system/opencode/auth` and `GET /system/readiness`.

use core_types::{auth::Language, task::ExecutionEnvironment};
use http::{HeaderMap, header};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::{ApiError, FieldFault};

/// The words of `refresh`.
pub(crate) const SWITCH: &[&str] = &["true", "false"];

/// The query of `GET /system/claude/auth` and `GET /system/opencode/auth`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuthQuery {
    /// Where an agent would run; the environment in force where left out.
    #[param(schema_with = crate::schema::environment)]
    environment: Option<String>,
    /// Whether an answer from before is not good enough.
    #[param(schema_with = crate::schema::switch)]
    refresh: Option<String>,
}

/// The query of `GET /system/readiness`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadinessQuery {
    /// Whether answers from before about logins are not good enough.
    #[param(schema_with = crate::schema::switch)]
    refresh: Option<String>,
}

impl AuthQuery {
    pub(crate) fn environment(
        &self,
        in_force: ExecutionEnvironment,
    ) -> Result<ExecutionEnvironment, ApiError> {
        let Some(text) = &self.environment else { return Ok(in_force) };
        text.parse().map_err(|_| not_allowed("environment", ExecutionEnvironment::WORDS))
    }

    pub(crate) fn refresh(&self) -> Result<bool, ApiError> {
        switch(self.refresh.as_deref())
    }
}

impl ReadinessQuery {
    pub(crate) fn refresh(&self) -> Result<bool, ApiError> {
        switch(self.refresh.as_deref())
    }
}

fn switch(text: Option<&str>) -> Result<bool, ApiError> {
    match text {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(not_allowed("refresh", SWITCH)),
    }
}

fn not_allowed(field: &str, words: &[&str]) -> ApiError {
    ApiError::parameters(vec![FieldFault::new(field, "is not allowed", words.join(", "))])
}

/// The first language that the client names and that there is.
pub(crate) fn accepted_language(headers: &HeaderMap) -> Language {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let mut tags = accepted.unwrap_or_default().split(',').map(str::trim);
    let japanese = tags.find_map(|tag| match tag.get(..2)?.to_ascii_lowercase().as_str() {
        "ja" => Some(true),
        "en" => Some(false),
        _ => None,
    });
    if japanese == Some(true) { Language::Japanese } else { Language::English }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_first_one_that_there_is() {
        let of = |accept: &str| {
            accepted_language(&HeaderMap::from_iter([(
                header::ACCEPT_LANGUAGE,
                accept.parse().unwrap(),
            )]))
        };
        assert_eq!(of("ja-JP,en;q=0.5"), Language::Japanese);
        assert_eq!(of("de, ja"), Language::Japanese);
        assert_eq!(of("en-GB,ja"), Language::English);
        assert_eq!(of("*"), Language::English);
        assert_eq!(accepted_language(&HeaderMap::new()), Language::English);
    }
}
