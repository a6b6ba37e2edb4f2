//! Where each effective value comes from, with secrets masked: what `GET /config` shows.

use core_types::secret::Secret;
use figment::{Figment, value::Value};
use serde::Serialize;

use crate::{
    fault::Source,
    kind::Kind,
    table::{Layers, SETTINGS, Setting},
};

/// A value as it may be shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// The value itself.
    Plain(serde_json::Value),
    /// A secret, of which at most the end is shown.
    Secret {
        /// Whether there is one.
        set: bool,
        /// Its last four characters, where it is long enough.
        last_four: Option<String>,
    },
}

/// A value and the layer that gives it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layered {
    /// The value, masked where it is a secret.
    pub value: Shown,
    /// The layer.
    pub source: Source,
}

/// One key with its effective value.
#[derive(Debug, Clone, Serialize)]
pub struct Provenance {
    /// What the table declares.
    #[serde(skip)]
    pub setting: &'static Setting,
    /// The value in force and where it comes from.
    pub effective: Layered,
    /// What would be in force without the environment, where that wins over the database's layer.
    pub without_environment: Option<Layered>,
}

/// The effective value of every key, in the order of the table.
pub(crate) fn provenance(full: &Figment, without_environment: &Figment) -> Vec<Provenance> {
    let of = |setting: &'static Setting| {
        let effective = layered(full, setting)?;
        let shadowed = effective.source == Source::Environment
            && setting.layers == Layers::EnvironmentOrDatabase;
        let without_environment = shadowed.then(|| layered(without_environment, setting)).flatten();
        Some(Provenance { setting, effective, without_environment })
    };
    SETTINGS.iter().filter_map(of).collect()
}

fn layered(figment: &Figment, setting: &Setting) -> Option<Layered> {
    let value = figment.find_value(setting.key).ok()?;
    let source = figment.get_metadata(value.tag())?.name.parse().ok()?;
    Some(Layered { value: shown(setting.kind, &value), source })
}

fn shown(kind: Kind, value: &Value) -> Shown {
    let text = value.as_str().unwrap_or_default();
    match kind {
        Kind::Secret | Kind::AccessKey => {
            Shown::Secret { set: !text.is_empty(), last_four: Secret::new(text).last_four() }
        }
        Kind::AccessKeys => {
            let set = value.as_array().is_some_and(|keys| !keys.is_empty());
            Shown::Secret { set, last_four: None }
        }
        Kind::SecretUrl | Kind::RedisUrl | Kind::SecretHttpUrl | Kind::HostTokens => {
            Shown::Secret { set: !text.is_empty(), last_four: None }
        }
        Kind::Text
        | Kind::Path { .. }
        | Kind::Program
        | Kind::Model { .. }
        | Kind::Branch
        | Kind::HttpUrl
        | Kind::Address
        | Kind::Image
        | Kind::Network
        | Kind::Engine
        | Kind::Boolean
        | Kind::HostList
        | Kind::Usd
        | Kind::Integer { .. }
        | Kind::Choice(_)
        | Kind::Words(_)
        | Kind::List
        | Kind::PathList => Shown::Plain(serde_json::to_value(value).unwrap_or_default()),
    }
}
