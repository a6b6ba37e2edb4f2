//! The query of `POST /system/self-test`.

use core_types::task::{ExecutionEnvironment, ExecutorKind};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::{ApiError, FieldFault};

/// What is tested.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SelfTestQuery {
    /// Where an agent would run. Only sandboxes are tested.
    #[param(schema_with = crate::schema::environment)]
    pub(crate) environment: Option<String>,
    /// The command line; the one of LLM_EXECUTOR where left out.
    #[param(schema_with = crate::schema::executor)]
    pub(crate) executor: Option<String>,
}

impl SelfTestQuery {
    /// Holds the words to what they may be.
    pub(crate) fn environment(&self) -> Result<ExecutionEnvironment, ApiError> {
        match self.environment.as_deref().map(str::parse) {
            None | Some(Ok(ExecutionEnvironment::Sandbox)) => Ok(ExecutionEnvironment::Sandbox),
            Some(Ok(ExecutionEnvironment::Host) | Err(_)) => Err(fault(
                "environment",
                "is not tested: on the host the check of the login starts the same program",
                ExecutionEnvironment::Sandbox.as_str().to_owned(),
            )),
        }
    }

    pub(crate) fn executor(&self, usual: ExecutorKind) -> Result<ExecutorKind, ApiError> {
        let Some(text) = &self.executor else { return Ok(usual) };
        let allowed = || ExecutorKind::WORDS.join(", ");
        text.parse().map_err(|_| fault("executor", "is no executor", allowed()))
    }
}

fn fault(field: &'static str, what: &'static str, allowed: String) -> ApiError {
    ApiError::parameters(vec![FieldFault::new(field, what, allowed)])
}
