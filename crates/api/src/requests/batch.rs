//! The body of `POST /tasks/batch`.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::requests::new_task::NewTaskRequest;

/// The most tasks of one request.
pub(crate) const TASKS: usize = 200;

/// Tasks that are made together or not at all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRequest {
    /// They may depend on each other, in any order, by ids of your own making.
    #[schema(min_items = 1, max_items = 200)]
    pub(crate) tasks: Vec<NewTaskRequest>,
}
