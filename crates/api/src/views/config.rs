//! Settings as clients see them: value, source, and what the table says of each. Secrets are masked before they get here.

use core_config::{
    fault::Fault,
    groups::{Group, group},
    load::Loaded,
    provenance::{Layered, Provenance, Shown},
    table::Unit,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use store::{
    config_rows::ConfigChange,
    process_settings::{LiveSettings, ProcessSettings},
};
use utoipa::ToSchema;

use crate::agreement::{Agreement, decides};

/// All settings of this process.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfigView {
    /// The revision of the database's rows.
    pub(crate) revision: Option<i64>,
    pub(crate) settings: Vec<SettingView>,
    /// The groups of settings, in the order in which they are best shown.
    pub(crate) groups: &'static [&'static str],
    /// Rows of the database that cannot be used; while there are any, no task is claimed.
    pub(crate) database_faults: Vec<FaultView>,
    /// The living processes and what they have in force; `null` while the database does not say.
    pub(crate) processes: Option<Vec<SettingsOfProcess>>,
}

/// The settings after a change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfigChanged {
    #[serde(flatten)]
    pub(crate) config: ConfigView,
    /// The keys whose rows are others now; those of the request that held the same already are not among them.
    pub(crate) changed: Vec<String>,
    /// The keys of these that a living process' environment wins over: there the change has no effect.
    pub(crate) shadowed_by_environment: Vec<String>,
}

/// One setting.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingView {
    pub(crate) key: &'static str,
    pub(crate) group: &'static str,
    /// `text`, `secret`, `path`, `program`, `branch`, `url`, `address`, `integer`, `boolean`, `choice`, `list`, `list of paths`, `list of host names`, `list of secrets`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The value in force; of a secret only `{set, last_four}`.
    #[schema(value_type = Value)]
    pub(crate) value: Value,
    /// Where the value comes from: `default`, `database`, `environment`.
    pub(crate) source: &'static str,
    /// What would be in force without the environment, where that wins.
    pub(crate) without_environment: Option<LayerView>,
    /// What is wrong with the key's row in the database.
    pub(crate) fault: Option<FaultView>,
    /// Whether the environment of a living dispatcher sets the key, so that changing its row changes nothing.
    pub(crate) locked: bool,
    /// The living processes whose environment sets the key, each as program, process number and host.
    pub(crate) set_by_environment_of: Vec<String>,
    pub(crate) secret: bool,
    pub(crate) allowed: String,
    pub(crate) unit: Option<&'static str>,
    pub(crate) description: &'static str,
    pub(crate) takes_effect: &'static str,
    /// Who may set it: `environment`, or `environment or database`.
    pub(crate) layers: &'static str,
    pub(crate) reaches_host: bool,
}

/// A value and where it comes from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LayerView {
    #[schema(value_type = Value)]
    pub(crate) value: Value,
    pub(crate) source: &'static str,
}

/// A row that cannot be used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FaultView {
    pub(crate) key: String,
    pub(crate) what: String,
    pub(crate) allowed: String,
    pub(crate) hint: String,
}

/// What a living process has in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingsOfProcess {
    /// `api-server`, `dispatcher`, `worker`.
    pub(crate) program: String,
    pub(crate) host: String,
    pub(crate) pid: i32,
    pub(crate) version: String,
    /// The revision of the rows it has in force.
    pub(crate) revision: Option<i64>,
    /// The keys its environment sets.
    pub(crate) set_by_environment: Vec<String>,
    /// The keys whose value is another than in the process that answers. Values are compared by short sums of them.
    pub(crate) differs: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) started_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) last_beat: Timestamp,
}

/// A page of changes, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryPage {
    pub(crate) items: Vec<HistoryView>,
    /// Where the next page begins; absent on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// One change of one key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryView {
    /// The revision it made.
    pub(crate) revision: i64,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// `local`, `bearer`, or `api-key:` and the last four characters of the key.
    pub(crate) who: String,
    pub(crate) key: String,
    /// The value before; `null` where there was no row, `***` where it is a secret.
    #[schema(value_type = Value)]
    pub(crate) old_value: Option<Value>,
    /// The value after; `null` where the row was removed, `***` where it is a secret.
    #[schema(value_type = Value)]
    pub(crate) new_value: Option<Value>,
}

impl ConfigView {
    pub(crate) fn new(loaded: &Loaded, agreement: Option<&Agreement>) -> Self {
        let faults = || loaded.database_faults.iter().flatten();
        let setting = |entry| SettingView::new(entry, faults(), agreement);
        Self {
            revision: loaded.revision,
            settings: loaded.provenance.iter().map(setting).collect(),
            groups: Group::WORDS,
            database_faults: faults().map(FaultView::from).collect(),
            processes: agreement
                .map(|agreement| agreement.processes.iter().map(SettingsOfProcess::from).collect()),
        }
    }
}

impl ConfigChanged {
    pub(crate) fn new(
        loaded: &Loaded,
        agreement: Option<&Agreement>,
        changed: Vec<String>,
    ) -> Self {
        let here = |key: &str| loaded.set_by_environment().any(|set| set == key);
        let anywhere =
            |key: &str| agreement.is_some_and(|agreement| !agreement.setters(key).is_empty());
        let shadowed = changed.iter().filter(|key| here(key) || anywhere(key)).cloned().collect();
        Self {
            config: ConfigView::new(loaded, agreement),
            changed,
            shadowed_by_environment: shadowed,
        }
    }
}

impl SettingView {
    fn new<'a>(
        Provenance { setting, effective, without_environment }: &Provenance,
        mut faults: impl Iterator<Item = &'a Fault>,
        agreement: Option<&Agreement>,
    ) -> Self {
        let LayerView { value, source } = effective.into();
        let setters = agreement.map(|agreement| agreement.setters(setting.key)).unwrap_or_default();
        Self {
            key: setting.key,
            group: group(setting.key).as_str(),
            kind: setting.kind.word(),
            value,
            source,
            without_environment: without_environment.as_ref().map(LayerView::from),
            fault: faults.find(|fault| fault.key == setting.key).map(FaultView::from),
            locked: setters.iter().any(|said| decides(said)),
            set_by_environment_of: setters.into_iter().map(name).collect(),
            secret: setting.kind.is_secret(),
            allowed: setting.kind.allowed(),
            unit: setting.unit.map(Unit::as_str),
            description: setting.doc,
            takes_effect: setting.takes_effect.as_str(),
            layers: setting.layers.as_str(),
            reaches_host: setting.reaches_host,
        }
    }
}

fn name(said: &ProcessSettings) -> String {
    format!("{} {} on {}", said.program, said.process.pid, said.host)
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

impl From<&(LiveSettings, Vec<String>)> for SettingsOfProcess {
    fn from((live, differs): &(LiveSettings, Vec<String>)) -> Self {
        let said = &live.said;
        Self {
            program: said.program.clone(),
            host: said.host.as_str().to_owned(),
            pid: said.process.pid,
            version: said.version.clone(),
            revision: said.revision,
            set_by_environment: said.environment.clone(),
            differs: differs.clone(),
            started_at: live.started_at,
            last_beat: live.last_beat,
        }
    }
}

impl From<ConfigChange> for HistoryView {
    fn from(change: ConfigChange) -> Self {
        let ConfigChange { revision, at, who, key, old_value, new_value } = change;
        Self { revision, at, who, key, old_value, new_value }
    }
}
