//! Settings as clients see them: value, source, and what the table says of each. Secrets are masked before they get here.

use core_config::{
    fault::Fault,
    load::Loaded,
    provenance::{Layered, Provenance, Shown},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// All settings of this process.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfigView {
    /// The revision of the database's rows.
    revision: Option<i64>,
    settings: Vec<SettingView>,
    /// Rows of the database that cannot be used; while there are any, no task is claimed.
    database_faults: Vec<FaultView>,
}

/// One setting.
#[derive(Debug, Serialize, ToSchema)]
struct SettingView {
    key: &'static str,
    /// `text`, `secret`, `path`, `program`, `branch`, `url`, `address`, `integer`, `choice`, `list`, `list of paths`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The value in force; of a secret only `{set, last_four}`.
    #[schema(value_type = Value)]
    value: Value,
    /// Where the value comes from: `default`, `database`, `environment`.
    source: &'static str,
    /// What would be in force without the environment, where that wins.
    without_environment: Option<LayerView>,
    secret: bool,
    allowed: String,
    unit: Option<&'static str>,
    description: &'static str,
    takes_effect: &'static str,
    /// Who may set it: `environment`, or `environment or database`.
    layers: &'static str,
    reaches_host: bool,
}

/// A value and where it comes from.
#[derive(Debug, Serialize, ToSchema)]
struct LayerView {
    #[schema(value_type = Value)]
    value: Value,
    source: &'static str,
}

/// A row that cannot be used.
#[derive(Debug, Serialize, ToSchema)]
struct FaultView {
    key: String,
    what: String,
    allowed: String,
    hint: String,
}

impl From<&Loaded> for ConfigView {
    fn from(loaded: &Loaded) -> Self {
        Self {
            revision: loaded.revision,
            settings: loaded.provenance.iter().map(SettingView::from).collect(),
            database_faults: loaded.database_faults.iter().flatten().map(FaultView::from).collect(),
        }
    }
}

impl From<&Provenance> for SettingView {
    fn from(Provenance { setting, effective, without_environment }: &Provenance) -> Self {
        let LayerView { value, source } = effective.into();
        Self {
            key: setting.key,
            kind: setting.kind.word(),
            value,
            source,
            without_environment: without_environment.as_ref().map(LayerView::from),
            secret: setting.kind.is_secret(),
            allowed: setting.kind.allowed(),
            unit: setting.unit,
            description: setting.doc,
            takes_effect: setting.takes_effect.as_str(),
            layers: setting.layers.as_str(),
            reaches_host: setting.reaches_host,
        }
    }
}

impl From<&Layered> for LayerView {
    fn from(layered: &Layered) -> Self {
        let value = match &layered.value {
            Shown::Plain(value) => value.clone(),
            Shown::Secret { set, last_four } => json!({ "set": set, "last_four": last_four }),
        };
        Self { value, source: layered.source.as_str() }
    }
}

impl From<&Fault> for FaultView {
    fn from(Fault { key, source: _, what, allowed, hint }: &Fault) -> Self {
        Self { key: key.clone(), what: what.clone(), allowed: allowed.clone(), hint: hint.clone() }
    }
}
