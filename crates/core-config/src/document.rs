//! `docs/config.md` and `docs/ja/config.md`, written from the table.

use core_types::auth::Language;

use crate::{
    kind::Kind,
    table::{Fallback, Layers, SETTINGS, Setting},
};

/// What the page says around the table.
#[derive(Debug)]
struct Page {
    language: Language,
    head: &'static str,
    /// Title and first words of a section, by who may set what is in it.
    of_environment: [&'static str; 2],
    of_database: [&'static str; 2],
    columns: &'static str,
    empty: &'static str,
    /// How many agents a machine bears.
    capacity: &'static str,
    at_most: &'static str,
    state_directory: &'static str,
    never_shown: &'static str,
}

const ENGLISH: Page = Page {
    language: Language::English,
    head: "\
<!-- Written from the table in crates/core-config/src/table.rs by `cargo xtask docs`; do not edit. -->

# Settings

Each setting has a default, may have a row in the table `system_config`, and may be set as an environment variable;
the environment wins over the database, the database over the default. `GET /config` shows every value with its source.

A bad value in the environment stops the start, with all faults in one report. A bad row in the database keeps every
task from being claimed, while the API goes on serving, so that the row can be mended. Neither silently becomes a default.

Values of environment variables are taken as they are: no quotes, no guessing. Variables whose names start with
`OPENTIGER_` and that are no setting stop the start as well.
",
    of_environment: [
        "From the environment only",
        "Who may enter and where the data lies. A change needs a restart.",
    ],
    of_database: [
        "From the environment or the database",
        "A key marked † names something that openTiger starts or talks to on the host.",
    ],
    columns: "| key | default | allowed | a change is used | what it does |",
    empty: "empty",
    capacity: "one for each processor core, and no more than one for each GiB of memory after the first",
    at_most: "at most",
    state_directory: "root: `/var/lib/opentiger`; else `opentiger` in `$XDG_DATA_HOME` or `~/.local/share`",
    never_shown: "; secret, never shown",
};

const JAPANESE: Page = Page {
    language: Language::Japanese,
    head: "\
<!-- Written from the table in crates/core-config/src/table.rs by `cargo xtask docs`; do not edit. -->

# 設定

それぞれの設定には既定値があり、`system_config` テーブルの行、または環境変数で変更できます。
環境変数はデータベースに、データベースは既定値に優先します。`GET /config` はすべての値とその由来を示します。

環境変数の値に誤りがあると、すべての誤りを一度に報告して起動を止めます。
データベースの行に誤りがある間は task を claim しませんが、直せるように API は動き続けます。
どちらの場合も、誤った値が黙って既定値に置き換えられることはありません。

環境変数の値はそのまま使います。引用符を外したり、値を推測したりはしません。
名前が `OPENTIGER_` で始まり、設定にない環境変数がある場合も、起動を止めます。
",
    of_environment: [
        "環境変数だけで設定するもの",
        "誰が操作できるか、データをどこに置くかを決めます。変更には再起動が必要です。",
    ],
    of_database: [
        "環境変数またはデータベースで設定するもの",
        "† の付いた設定は、openTiger が host で起動するもの、または接続するものを指定します。",
    ],
    columns: "| key | 既定値 | 許可される値 | 変更の反映 | 内容 |",
    empty: "空",
    capacity: "CPU のコアごとに1つ。ただし、最初の1 GiB を除いたメモリ1 GiB につき1つまで",
    at_most: "最大で",
    state_directory: "root は `/var/lib/opentiger`。それ以外は `$XDG_DATA_HOME` か `~/.local/share` の `opentiger`",
    never_shown: "。秘密であり、表示されません",
};

/// The whole text of the page in a language.
#[must_use]
pub fn render_markdown(language: Language) -> String {
    let page = match language {
        Language::English => &ENGLISH,
        Language::Japanese => &JAPANESE,
    };
    let bootstrap = page.section(page.of_environment, Layers::Environment);
    let others = page.section(page.of_database, Layers::EnvironmentOrDatabase);
    format!("{}{bootstrap}{others}", page.head)
}

impl Page {
    fn section(&self, [title, intro]: [&str; 2], layers: Layers) -> String {
        let of_layers = SETTINGS.iter().filter(|setting| setting.layers == layers);
        let rows: String = of_layers.map(|setting| self.row(setting)).collect();
        let columns = self.columns;
        format!("\n## {title}\n\n{intro}\n\n{columns}\n|---|---|---|---|---|\n{rows}")
    }

    fn row(&self, setting: &Setting) -> String {
        let mark = match setting.layers {
            Layers::EnvironmentOrDatabase if setting.reaches_host => " †",
            Layers::EnvironmentOrDatabase | Layers::Environment => "",
        };
        let cells = [
            format!("`{}`{mark}", setting.key),
            self.default(setting.default),
            self.allowed(setting),
            setting.takes_effect.told(self.language).to_owned(),
            setting.doc_in(self.language).to_owned(),
        ];
        format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
    }

    fn default(&self, fallback: Fallback) -> String {
        match fallback {
            Fallback::Empty => self.empty.to_owned(),
            Fallback::Text(text) => format!("`{text}`"),
            Fallback::Integer(number) => format!("`{number}`"),
            Fallback::Capacity => self.capacity.to_owned(),
            Fallback::CapacityUpTo(most) => format!("{}; {} {most}", self.capacity, self.at_most),
            Fallback::StateDirectory => self.state_directory.to_owned(),
        }
    }

    fn allowed(&self, setting: &Setting) -> String {
        let told = setting.kind.allowed_in(self.language);
        let told = match setting.kind {
            Kind::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                quoted.join(", ")
            }
            kind if kind.is_secret() => format!("{told}{}", self.never_shown),
            _ => told,
        };
        match setting.unit {
            Some(unit) => format!("{told} ({})", unit.told(self.language)),
            None => told,
        }
    }
}
