//! `docs/config.md`, written from the table.

use crate::{
    kind::Kind,
    table::{Fallback, Layers, SETTINGS, Setting, TakesEffect},
};

const HEAD: &str = "\
<!-- Written from the table in crates/core-config/src/table.rs by `cargo xtask docs`; do not edit. -->

# Settings

Each setting has a default, may have a row in the table `system_config`, and may be set as an environment variable;
the environment wins over the database, the database over the default. `GET /config` shows every value with its source.

A bad value in the environment stops the start, with all faults in one report. A bad row in the database keeps every
task from being claimed, while the API goes on serving, so that the row can be mended. Neither silently becomes a default.

Values of environment variables are taken as they are: no quotes, no guessing. Variables whose names start with
`OPENTIGER_` and that are no setting stop the start as well.
";

/// The whole text of `docs/config.md`.
#[must_use]
pub fn render_markdown() -> String {
    let bootstrap = section(
        "From the environment only",
        "Who may enter and where the data lies. A change needs a restart.",
        Layers::Environment,
    );
    let others = section(
        "From the environment or the database",
        "A key marked † names something that openTiger starts or talks to on the host.",
        Layers::EnvironmentOrDatabase,
    );
    format!("{HEAD}{bootstrap}{others}")
}

fn section(title: &str, intro: &str, layers: Layers) -> String {
    let rows: String =
        SETTINGS.iter().filter(|setting| setting.layers == layers).map(row).collect();
    let head = "| key | default | allowed | a change is used | what it does |";
    format!("\n## {title}\n\n{intro}\n\n{head}\n|---|---|---|---|---|\n{rows}")
}

fn row(setting: &Setting) -> String {
    let mark = match setting.layers {
        Layers::EnvironmentOrDatabase if setting.reaches_host => " †",
        Layers::EnvironmentOrDatabase | Layers::Environment => "",
    };
    let cells = [
        format!("`{}`{mark}", setting.key),
        default(setting.default),
        allowed(setting),
        effect(setting.takes_effect).to_owned(),
        setting.doc.to_owned(),
    ];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

/// How many agents a machine bears, for people.
const CAPACITY: &str =
    "one for each processor core, and no more than one for each GiB of memory after the first";

fn default(fallback: Fallback) -> String {
    match fallback {
        Fallback::Empty => "empty".to_owned(),
        Fallback::Text(text) => format!("`{text}`"),
        Fallback::Integer(number) => format!("`{number}`"),
        Fallback::Capacity => CAPACITY.to_owned(),
        Fallback::CapacityUpTo(most) => format!("{CAPACITY}; at most {most}"),
        Fallback::StateDirectory => {
            "root: `/var/lib/opentiger`; else `opentiger` in `$XDG_DATA_HOME` or `~/.local/share`"
                .to_owned()
        }
    }
}

fn allowed(setting: &Setting) -> String {
    let allowed = match setting.kind {
        Kind::Choice(words) => {
            let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            quoted.join(", ")
        }
        Kind::Secret
        | Kind::SecretUrl
        | Kind::RedisUrl
        | Kind::SecretHttpUrl
        | Kind::AccessKey
        | Kind::AccessKeys
        | Kind::HostTokens => {
            format!("{}; secret, never shown", setting.kind.allowed())
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
        | Kind::Words(_)
        | Kind::List
        | Kind::PathList => setting.kind.allowed(),
    };
    setting.unit.map_or(allowed.clone(), |unit| format!("{allowed} ({unit})"))
}

const fn effect(moment: TakesEffect) -> &'static str {
    match moment {
        TakesEffect::Restart => "after a restart",
        TakesEffect::NextClaim => "with the next claim",
        TakesEffect::NextRequest => "with the next request",
        TakesEffect::AtOnce => "at once",
    }
}
