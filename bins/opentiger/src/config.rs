//! `config`: settings as the server has them in force.

use client::client::{Call, Client};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    cli::ConfigCommand,
    code::Code,
    console::Console,
    failure::Failure,
    shape::read,
    table::{Columns, Facts},
};

/// The longest value in a table.
const VALUE: usize = 60;

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    revision: Option<i64>,
    settings: Vec<Setting>,
    #[serde(default)]
    database_faults: Vec<Value>,
}

impl Config {
    /// What is wrong with the row of a key.
    fn fault_of(&self, key: &str) -> Option<&Value> {
        let is_its = |fault: &&Value| fault.get("key").and_then(Value::as_str) == Some(key);
        self.database_faults.iter().find(is_its)
    }
}

/// What a change came to.
#[derive(Debug, Deserialize)]
struct Changed {
    #[serde(default)]
    shadowed_by_environment: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Setting {
    key: String,
    value: Value,
    source: String,
    #[serde(default)]
    without_environment: Option<Layer>,
    #[serde(default)]
    allowed: String,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    takes_effect: String,
    #[serde(default)]
    layers: String,
}

#[derive(Debug, Deserialize)]
struct Layer {
    value: Value,
    source: String,
}

/// Does what the command line asks for.
pub(crate) async fn run(
    command: ConfigCommand,
    client: &Client,
    console: &Console,
) -> Result<Code, Failure> {
    match command {
        ConfigCommand::Get { key: None } => all(client, console).await,
        ConfigCommand::Get { key: Some(key) } => one(&key, client, console).await,
        ConfigCommand::Set { assignments, unset } => {
            set(&assignments, &unset, client, console).await
        }
    }
}

async fn all(client: &Client, console: &Console) -> Result<Code, Failure> {
    let answer = client.get("/config").await?;
    console.value(&answer)?;
    let config: Config = read("the settings", &answer)?;
    let mut table = Columns::new(console, &["KEY", "VALUE", "SOURCE"]);
    for setting in &config.settings {
        let value = client::telling::cut(&shown(&setting.value), VALUE);
        table.row([setting.key.clone(), value, setting.told_source()]);
    }
    table.print(console)?;
    console.line(format!("\nrevision {}", config.revision.unwrap_or_default()))?;
    for fault in &config.database_faults {
        console.remark(format!("not usable: {}", crate::failure::note(fault)));
    }
    Ok(Code::Done)
}

async fn one(key: &str, client: &Client, console: &Console) -> Result<Code, Failure> {
    let answer = client.get("/config").await?;
    let config: Config = read("the settings", &answer)?;
    let Some(setting) = config.settings.iter().find(|setting| setting.key == key) else {
        return Err(unknown(key, &config));
    };
    let raw = answer.get("settings").and_then(Value::as_array).into_iter().flatten();
    let raw = raw.into_iter().find(|raw| raw.get("key").and_then(Value::as_str) == Some(key));
    console.value(&raw)?;
    let mut facts = Facts::default();
    facts.add("value", shown(&setting.value));
    facts.add("source", setting.told_source());
    facts.add_some("not usable", config.fault_of(key).map(crate::failure::note));
    facts.add("meaning", &setting.description);
    facts.add("allowed", &setting.allowed);
    facts.add_some("unit", setting.unit.clone());
    facts.add("takes effect", &setting.takes_effect);
    facts.add("set by", &setting.layers);
    facts.print(console)?;
    Ok(Code::Done)
}

fn unknown(key: &str, config: &Config) -> Failure {
    let upper = key.to_ascii_uppercase();
    let near: Vec<&str> = config
        .settings
        .iter()
        .map(|setting| setting.key.as_str())
        .filter(|known| known.contains(&upper) || upper.contains(*known))
        .collect();
    let failure = Failure::new(Code::NotFound, format!("there is no setting `{key}`"));
    if near.is_empty() {
        return failure.with_hint("`opentiger config get` lists every setting");
    }
    failure.with_hint(format!("did you mean {}?", near.join(", ")))
}

async fn set(
    assignments: &[String],
    unset: &[String],
    client: &Client,
    console: &Console,
) -> Result<Code, Failure> {
    let mut updates = Map::new();
    for assignment in assignments {
        let (key, value) = assigned(assignment)?;
        let value = if value == "-" { secret()? } else { value.to_owned() };
        updates.insert(key.to_owned(), value.into());
    }
    for key in unset {
        updates.insert(key.clone(), Value::Null);
    }
    // Whoever changed a setting since it was looked at is noticed, and not overwritten.
    let before = client.call(Call::new(Method::GET, "/config")).await?;
    let config: Config = read("the settings", &before.body)?;
    let is_known = |key: &str| config.settings.iter().any(|setting| setting.key == key);
    // A row that nobody knows can be taken away, and nothing else.
    let mends = |key: &str, value: &Value| value.is_null() && config.fault_of(key).is_some();
    let strange = updates.iter().find(|(key, value)| !is_known(key) && !mends(key, value));
    if let Some((key, _)) = strange {
        return Err(unknown(key, &config));
    }
    let body = json!({ "updates": updates });
    let call = Call::new(Method::PATCH, "/config").body(&body).if_match(before.etag.as_deref());
    let answer = client.call(call).await?.body;
    console.value(&answer)?;
    let changed: Changed = read("what was changed", &answer)?;
    told(&updates, &changed, client, console).await?;
    Ok(Code::Done)
}

/// What is in force now, which an environment that wins may leave as it was.
async fn told(
    updates: &Map<String, Value>,
    changed: &Changed,
    client: &Client,
    console: &Console,
) -> Result<(), Failure> {
    if console.json {
        return Ok(());
    }
    let config: Config = read("the settings", &client.get("/config").await?)?;
    for setting in config.settings.iter().filter(|setting| updates.contains_key(&setting.key)) {
        let mut line = format!("{} = {}", setting.key, shown(&setting.value));
        let is_shadowed = changed.shadowed_by_environment.contains(&setting.key);
        if is_shadowed && setting.source != "environment" {
            line.push_str("  (the environment of another process wins over it there)");
        } else if setting.source == "environment" {
            line.push_str("  (the environment wins over what was set)");
        } else if !setting.takes_effect.is_empty() {
            line.extend(["  (takes effect: ", &setting.takes_effect, ")"]);
        }
        console.line(line)?;
    }
    let is_known = |key: &str| config.settings.iter().any(|setting| setting.key == key);
    for key in updates.keys().filter(|key| !is_known(key)) {
        console.line(format!("{key} is gone"))?;
    }
    Ok(())
}

fn assigned(assignment: &str) -> Result<(&str, &str), Failure> {
    let parts = assignment.split_once('=').filter(|(key, _)| !key.is_empty());
    parts.ok_or_else(|| {
        Failure::usage(format!("`{assignment}` is not of the form KEY=VALUE"))
            .with_hint("`--unset KEY` takes a value away")
    })
}

/// One line of standard input, or all of it without the line's end.
fn secret() -> Result<String, Failure> {
    let text = crate::task::standard_input()?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl Setting {
    fn told_source(&self) -> String {
        match &self.without_environment {
            Some(layer) if layer.source == "database" => {
                format!("{} (wins over the database's {})", self.source, shown(&layer.value))
            }
            Some(_) | None => self.source.clone(),
        }
    }
}

/// A value as people read it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        Value::Object(fields) if fields.contains_key("set") => {
            let tail = fields.get("last_four").and_then(Value::as_str);
            match (fields.get("set"), tail) {
                (Some(Value::Bool(true)), Some(tail)) => format!("set (…{tail})"),
                (Some(Value::Bool(true)), None) => "set".to_owned(),
                (Some(_) | None, _) => "not set".to_owned(),
            }
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_without_json_and_secrets_by_their_end() {
        assert_eq!(shown(&json!("a")), "a");
        assert_eq!(shown(&json!(["a", "b"])), "a,b");
        assert_eq!(shown(&json!({ "set": true, "last_four": "wxyz" })), "set (…wxyz)");
        assert_eq!(shown(&json!({ "set": false, "last_four": null })), "not set");
    }

    #[test]
    fn an_assignment_has_a_key_and_its_value_may_be_anything() {
        assert_eq!(assigned("A=b=c").unwrap(), ("A", "b=c"));
        assert_eq!(assigned("A=").unwrap(), ("A", ""));
        for text in ["A", "=b", ""] {
            assert_eq!(assigned(text).unwrap_err().code, Code::Usage, "{text}");
        }
    }
}
