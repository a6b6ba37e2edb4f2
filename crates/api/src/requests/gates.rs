//! The query of `POST /system/gates/{executor}/open`.

use serde::Deserialize;
use utoipa::IntoParams;

/// The query of `POST /system/gates/{executor}/open`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProviderQuery {
    /// The provider whose gate is meant; where left out, all of the executor's.
    pub(crate) provider: Option<String>,
}
