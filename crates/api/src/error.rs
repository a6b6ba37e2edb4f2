//! The one shape of every error: `{error, code, details?}`.
//!
//! Owns status codes and machine-readable codes. What a driver or the system said goes to the log, never to a client.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use checkout::error::CheckoutError;
use http::StatusCode;
use serde::Serialize;
use store::error::StoreError;
use telemetry::chain::error_chain;
use utoipa::ToSchema;

/// The most faults of one answer.
const FAULTS: usize = 50;

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

/// The body of every answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What went wrong, for people.
    error: String,
    /// What went wrong, for programs.
    #[schema(examples("invalid_fields"))]
    code: &'static str,
    /// The fields that are at fault; where there are more than 50, the first 50, and `error` says how many there are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    details: Vec<FieldFault>,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldFault {
    /// The path of the field.
    #[schema(examples("tasks[1].dependencies[0]"))]
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) what: String,
    /// What is allowed.
    pub(crate) allowed: String,
}

impl FieldFault {
    pub(crate) fn new(
        field: impl Into<String>,
        what: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self { field: field.into(), what: what.into(), allowed: allowed.into() }
    }

    /// The same fault, seen from the object that holds the field's object.
    pub(crate) fn within(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, error: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { error: error.into(), code, details: Vec::new() } }
    }

    /// Fields whose content is not allowed.
    pub(crate) fn fields(details: Vec<FieldFault>) -> Self {
        Self::with_fields(StatusCode::UNPROCESSABLE_ENTITY, "invalid_fields", details)
    }

    /// A query or a path that is not allowed.
    pub(crate) fn parameters(details: Vec<FieldFault>) -> Self {
        Self::with_fields(StatusCode::BAD_REQUEST, "invalid_parameters", details)
    }

    /// Fields at fault, where the first fault gives the sentence.
    pub(crate) fn with_fields(
        status: StatusCode,
        code: &'static str,
        mut details: Vec<FieldFault>,
    ) -> Self {
        let mut error = details.first().map_or_else(
            || "the request is not valid".to_owned(),
            |first| format!("`{}` {}", first.field, first.what),
        );
        if details.len() > FAULTS {
            error =
                format!("{error} (only the first {FAULTS} of {} faults are listed)", details.len());
            details.truncate(FAULTS);
        }
        Self { status, body: ErrorBody { error, code, details } }
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("{what} not found"))
    }

    /// A fault of ours; what it was is in the log under the request's id.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "internal error; the server's log has more under this request's id",
        )
    }

    pub(crate) fn unavailable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error)
    }

    /// A database that failed while it made a task: a connection that is lost in the last moment leaves it open whether
    /// the task is there.
    pub(crate) fn maybe_made(error: StoreError) -> Self {
        if !matches!(error, StoreError::Unavailable { .. }) {
            return error.into();
        }
        tracing::warn!(error = %error_chain(&error), "database not available, tasks may have been made");
        Self::unavailable(
            "the database is not available; what the request asked for may still have been made: \
             send it again in a moment, with an `id` of your own it is made once",
        )
    }

    /// What went wrong, for people.
    pub(crate) fn text(&self) -> &str {
        &self.body.error
    }

    /// What went wrong, for programs.
    pub(crate) const fn code(&self) -> &'static str {
        self.body.code
    }

    /// The fields that are at fault.
    pub(crate) fn faults(&self) -> &[FieldFault] {
        &self.body.details
    }

    /// The status the answer has.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            tracing::warn!(error = %error_chain(&error), "database not available");
            Self::unavailable("the database is not available; try again in a moment")
        } else {
            tracing::error!(error = %error_chain(&error), "database refused");
            Self::internal()
        }
    }
}

/// What a repository that cannot be used means for the field that names it.
pub(crate) fn repository_error(error: &CheckoutError, field: String, allowed: &str) -> ApiError {
    match error.fault() {
        checkout::error::Fault::Request => {
            let hint = error.hint().unwrap_or(allowed);
            let what = format!("cannot be used: {error}");
            ApiError::fields(vec![FieldFault::new(field, what, hint)])
        }
        checkout::error::Fault::Result | checkout::error::Fault::Host => {
            tracing::error!(error = %error_chain(error), "repository not inspected");
            ApiError::unavailable("git cannot be run to look at the repository")
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&self.body)).into_response();
        // For whoever shows it to people in another form.
        response.extensions_mut().insert(self);
        response
    }
}
