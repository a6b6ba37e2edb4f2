//! The settings: all of them by group, and one with what it does, its history, and a form.

use std::collections::BTreeMap;

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use core_config::{fault::Source, groups::Group, kind::Kind, table::setting};
use core_types::auth::Language;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use telemetry::chain::error_chain;

use crate::{
    access::caller::Caller,
    agreement::Agreement,
    error::{ApiError, FieldFault},
    pages::{
        form::PageForm,
        frame::{Frame, Html},
        shown::{Markup, ago},
        texts::system::SystemTexts,
    },
    requests::config::{Condition, Updates},
    routes::changing::{Changed, change_rows},
    state::ApiState,
    views::config::{ConfigView, HistoryView, SettingView},
};

/// How many changes of a setting are shown.
const CHANGES: u32 = 10;

/// The settings of one group.
#[derive(Debug)]
struct GroupOfSettings {
    name: &'static str,
    rows: Vec<Row>,
}

/// One setting in the list.
#[derive(Debug)]
struct Row {
    setting: SettingView,
    words: Words,
    value: String,
}

/// What the table says of a setting, in the reader's language.
#[derive(Debug)]
struct Words {
    description: &'static str,
    allowed: String,
    unit: Option<&'static str>,
    takes_effect: &'static str,
    source: &'static str,
}

impl Words {
    fn of(view: &SettingView, language: Language) -> Option<Self> {
        let declared = setting(view.key)?;
        let source: Source = view.source.parse().ok()?;
        Some(Self {
            description: declared.doc_in(language),
            allowed: declared.kind.allowed_in(language),
            unit: declared.unit.map(|unit| unit.told(language)),
            takes_effect: declared.takes_effect.told(language),
            source: source.told(language),
        })
    }
}

/// Every setting.
#[derive(Debug, Template)]
#[template(path = "settings.html")]
struct List {
    frame: Frame,
    t: &'static SystemTexts,
    groups: Vec<GroupOfSettings>,
    faults: Vec<BadRow>,
    may_change: bool,
    revision: i64,
}

/// A row that cannot be used.
#[derive(Debug)]
struct BadRow {
    key: String,
    what: String,
    /// Whether there is a page where it can be mended.
    has_page: bool,
}

/// Shows every setting by group.
pub(crate) async fn list(
    State(state): State<ApiState>,
    frame: Frame,
) -> Result<Response, ApiError> {
    let t = SystemTexts::of(frame.language);
    let config = look(&state).await;
    let language = frame.language;
    let mut groups: Vec<(Group, GroupOfSettings)> = Group::ALL
        .iter()
        .map(|group| (*group, GroupOfSettings { name: group.told(language), rows: Vec::new() }))
        .collect();
    for setting in config.settings {
        let Some(words) = Words::of(&setting, language) else { continue };
        let value = told(&setting.value, t);
        let group = groups.iter_mut().find(|(group, _)| group.as_str() == setting.group);
        if let Some((_, group)) = group {
            group.rows.push(Row { setting, words, value });
        }
    }
    let groups = groups.into_iter().map(|(_, group)| group).filter(|group| !group.rows.is_empty());
    let groups = groups.collect();
    let faults = config.database_faults.into_iter().map(|fault| BadRow {
        has_page: setting(&fault.key).is_some(),
        key: fault.key,
        what: fault.what,
    });
    let faults = faults.collect();
    let (may_change, revision) = (frame.may_control(), config.revision.unwrap_or_default());
    Ok(Html(List { frame, t, groups, faults, may_change, revision }).into_response())
}

async fn look(state: &ApiState) -> ConfigView {
    let loaded = state.settings();
    let agreement = Agreement::look(&state.store, &loaded).await.inspect_err(|error| {
        tracing::warn!(error = %error_chain(error), "settings of other processes not known");
    });
    ConfigView::new(&loaded, agreement.as_ref().ok())
}

/// A value as people read it; of a secret whether there is one, and its end.
fn told(value: &Value, t: &'static SystemTexts) -> String {
    match value {
        Value::Null => t.empty.to_owned(),
        Value::String(text) if text.is_empty() => t.empty.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => t.empty.to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(secret) => match secret.get("last_four").and_then(Value::as_str) {
            Some(end) => format!("{} (…{end})", t.secret_set),
            None if secret.get("set") == Some(&Value::Bool(true)) => t.secret_set.to_owned(),
            None => t.secret_unset.to_owned(),
        },
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// One change.
#[derive(Debug)]
struct Past {
    at: Markup,
    who: String,
    old: String,
    new: String,
}

/// One setting.
#[derive(Debug, Template)]
#[template(path = "setting.html")]
struct One {
    frame: Frame,
    t: &'static SystemTexts,
    setting: SettingView,
    words: Words,
    value: String,
    below: Option<String>,
    /// What the form begins with.
    entered: String,
    options: Vec<&'static str>,
    number: bool,
    of_database: bool,
    may_change: bool,
    revision: i64,
    history: Vec<Past>,
    fault: Option<String>,
}

/// Shows one setting.
pub(crate) async fn show(
    State(state): State<ApiState>,
    frame: Frame,
    Path(key): Path<String>,
) -> Result<Response, ApiError> {
    Ok(Html(One::new(&state, frame, &key, None).await?).into_response())
}

impl One {
    async fn new(
        state: &ApiState,
        frame: Frame,
        key: &str,
        refused: Option<(&ApiError, &str)>,
    ) -> Result<Self, ApiError> {
        let t = SystemTexts::of(frame.language);
        let config = look(state).await;
        let view = config.settings.into_iter().find(|setting| setting.key == key);
        let known = view.zip(setting(key)).and_then(|(view, declared)| {
            let words = Words::of(&view, frame.language)?;
            Some((view, declared, words))
        });
        let (view, declared, words) = known.ok_or_else(|| ApiError::not_found("setting"))?;
        let (options, number): (Vec<&'static str>, bool) = match declared.kind {
            Kind::Choice(words) => (words.to_vec(), false),
            Kind::Boolean => (vec!["true", "false"], false),
            Kind::Integer { .. } => (Vec::new(), true),
            _ => (Vec::new(), false),
        };
        let history = state.store.config_history(Some(key), None, CHANGES).await?;
        let now = Timestamp::now();
        let past = history.items.into_iter().map(HistoryView::from).map(|change| Past {
            at: ago(change.at, now, frame.language),
            who: change.who,
            old: told(&change.old_value.unwrap_or_default(), t),
            new: told(&change.new_value.unwrap_or_default(), t),
        });
        let present = match &view.value {
            _ if view.secret => String::new(),
            Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
            Value::Null => String::new(),
            value => plain(value),
        };
        Ok(Self {
            t,
            words,
            value: told(&view.value, t),
            below: view.without_environment.as_ref().map(|layer| told(&layer.value, t)),
            entered: refused.map_or(present, |(_, entered)| entered.to_owned()),
            options,
            number,
            of_database: view.layers != "environment",
            may_change: frame.may_control() && (!view.reaches_host || frame.is_signed_in()),
            revision: state.store.config_rows().await?.revision,
            history: past.collect(),
            fault: refused.map(|(error, _)| in_words(error)),
            setting: view,
            frame,
        })
    }
}

fn in_words(error: &ApiError) -> String {
    let fault = |fault: &FieldFault| format!("{} ({})", fault.what, fault.allowed);
    let faults: Vec<String> = error.faults().iter().map(fault).collect();
    if faults.is_empty() { error.text().to_owned() } else { faults.join("; ") }
}

/// Changes one setting, or takes its row away.
pub(crate) async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    frame: Frame,
    Path(key): Path<String>,
    PageForm(form): PageForm,
) -> Result<Response, ApiError> {
    let secret = setting(&key).is_some_and(|setting| setting.kind.is_secret());
    let entered = form.text("value").trim();
    let value = (form.text("wish") != "reset").then(|| Value::from(entered));
    let seen = form.text("revision").parse().into_iter().collect();
    let updates = Updates(BTreeMap::from([(key.clone(), value)]));
    let changing = change_rows(state.clone(), caller, Condition::OneOf(seen), updates);
    let error = match state.to_the_end(changing).await {
        Ok(Changed::Made { .. }) => {
            let place = if setting(&key).is_some() { format!("/{key}") } else { String::new() };
            let next = format!("/ui/system/settings{place}?said=saved");
            return Ok(Redirect::to(&next).into_response());
        }
        Ok(Changed::Stale { .. }) => {
            let text = SystemTexts::of(frame.language).switch_stale;
            ApiError::new(StatusCode::CONFLICT, "revision_changed", text)
        }
        Err(error) if error.status().is_client_error() => error,
        Err(error) => return Err(error),
    };
    // A secret is not sent back, not even one that was refused.
    let shown = if secret { "" } else { entered };
    let page = One::new(&state, frame, &key, Some((&error, shown))).await?;
    Ok((error.status(), Html(page)).into_response())
}
