//! `docs/cli.md` shows the help of every command as the program says it, and `docs/ja/cli.md` knows the same words.
//!
//! To write the first anew: `OPENTIGER_TEST_WRITE_PAGE=1 cargo nextest run -p opentiger page`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::world::World;

const BEGIN: &str = "<!-- help -->\n";
/// What every command takes; the Japanese page says it once.
const EVERYWHERE: &[&str] = &["--api <URL>", "--json", "-h, --help"];

async fn help(world: &World, command: &str) -> String {
    let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
    let help = world.call(&args).await.done().out;
    assert!(!help.contains('\x1b'), "{help}");
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

/// The lines of a part of a help, such as `Options:`.
fn part<'a>(help: &'a str, title: &'a str) -> impl Iterator<Item = &'a str> {
    help.lines().skip_while(move |line| *line != title).skip(1).take_while(|line| !line.is_empty())
}

/// Every command with its help, in the order in which the program names them. One that only has others is left out.
async fn helps(world: &World) -> Vec<(String, String)> {
    let root = help(world, "").await;
    let mut helps = vec![("opentiger".to_owned(), root.clone())];
    for name in names(&root) {
        let own = help(world, &name).await;
        let below = names(&own);
        for inner in &below {
            let command = format!("{name} {inner}");
            let text = help(world, &command).await;
            helps.push((format!("opentiger {command}"), text));
        }
        if below.is_empty() {
            helps.push((format!("opentiger {name}"), own));
        }
    }
    helps
}

fn names(help: &str) -> Vec<String> {
    let words = part(help, "Commands:").filter_map(|line| line.split_whitespace().next());
    words.filter(|word| *word != "help").map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn the_page_shows_the_help_of_every_command() {
    let world = World::without_database();
    let helps = helps(&world).await;
    assert!(helps.len() > 15, "{helps:?}");
    let shown = helps.iter().map(|(name, help)| format!("\n### {name}\n\n```text\n{help}\n```\n"));
    let expected: String = [BEGIN.to_owned()].into_iter().chain(shown).collect();
    let path = page("cli.md");
    let text = std::fs::read_to_string(&path).expect("the page is there");
    let (head, shown) = text.split_once(BEGIN).expect("the page has a place for it");
    if std::env::var_os("OPENTIGER_TEST_WRITE_PAGE").is_some() {
        std::fs::write(&path, format!("{head}{expected}")).expect("the page can be written");
        return;
    }
    let shown = format!("{BEGIN}{shown}");
    assert!(shown == expected, "docs/cli.md is not what --help says; see the head of this file");
    let japanese = std::fs::read_to_string(page("ja/cli.md")).expect("the page is there");
    for (name, help) in &helps {
        knows(&japanese, name, help);
    }
}

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

/// That a page has a table of exactly the arguments and options of a command, with the values that each may have.
fn knows(page: &str, name: &str, help: &str) {
    let section = page.split_once(&format!("\n### {name}\n")).map(|(_, rest)| rest);
    let section = section.and_then(|rest| rest.split("\n### ").next()).unwrap_or_default();
    assert!(!section.is_empty(), "docs/ja/cli.md has nothing of `{name}`");
    let rows = section.lines().map(|line| line.replace("\\|", "|"));
    let told: BTreeMap<String, String> = rows
        .filter_map(|row| {
            let (word, rest) = row.strip_prefix("| `")?.split_once('`')?;
            Some((word.to_owned(), rest.to_owned()))
        })
        .collect();
    let there: BTreeMap<&str, &str> = part(help, "Arguments:")
        .chain(part(help, "Options:"))
        .map(|line| line.trim_start().split_once("  ").unwrap_or((line.trim(), "")))
        .filter(|(word, _)| !EVERYWHERE.contains(word))
        .collect();
    let told_words: Vec<&str> = told.keys().map(String::as_str).collect();
    let words: Vec<&str> = there.keys().copied().collect();
    assert_eq!(told_words, words, "docs/ja/cli.md, `{name}`");
    for ((word, row), about) in told.iter().zip(there.values()) {
        for begin in ["[default: ", "[possible values: "] {
            let values = about.split_once(begin).and_then(|(_, rest)| rest.split(']').next());
            for value in values.into_iter().flat_map(|values| values.split(", ")) {
                assert!(row.contains(&format!("`{value}`")), "{name}, {word}: not `{value}`");
            }
        }
    }
}
