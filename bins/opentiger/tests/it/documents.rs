//! The documents: every command in them is run, or says why not, and they name what there is.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use client::address::AddressFile;
use core_types::{auth::AuthReason, outcome::RunOutcome};
use testing::wait::wait_for;

use crate::world::{DEADLINE, World};

/// The address that documents write for the server.
const WRITTEN: &str = "http://127.0.0.1:4301";
/// The languages of blocks that a reader types in.
const TYPED: &[&str] = &["bash", "console", "sh", "shell", "shell-session"];

/// A block of commands.
#[derive(Debug)]
struct Block {
    /// The file, relative to the workspace, and the line.
    at: String,
    text: String,
    /// The comment above it.
    mark: String,
}

fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Every document of the workspace, relative to it, in order.
fn documents() -> Vec<PathBuf> {
    let mut found =
        vec!["README.md", "README.ja.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
            .into_iter()
            .map(PathBuf::from)
            .collect::<Vec<_>>();
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(workspace().join(&folder)).expect("documents can be listed") {
            let entry = entry.expect("documents can be listed");
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(workspace().join(path)).expect("the document is there")
}

fn blocks(path: &Path) -> Vec<Block> {
    let text = read(path);
    let mut blocks = Vec::new();
    let (mut above, mut open) = ("", None::<(bool, Block)>);
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                let at = format!("{}:{}", path.display(), number + 1);
                let block = Block { at, text: String::new(), mark: above.to_owned() };
                let typed = language.split_whitespace().next().unwrap_or_default();
                open = Some((TYPED.contains(&typed), block));
            }
            (Some(_), Some(_)) => {
                blocks.extend(open.take().filter(|(typed, _)| *typed).map(|(_, block)| block));
                above = "";
            }
            (Some((_, block)), None) => {
                block.text.push_str(line.trim_start());
                block.text.push('\n');
            }
            (None, None) if !line.trim().is_empty() => above = line.trim(),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block is not closed", path.display());
    blocks
}

impl Block {
    fn is_run(&self) -> bool {
        self.mark == "<!-- run -->"
    }

    fn says_why_not(&self) -> bool {
        let reason = self.mark.strip_prefix("<!-- not run: ");
        reason.and_then(|rest| rest.strip_suffix(" -->")).is_some_and(|reason| reason.len() > 3)
    }
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let all: Vec<Block> = documents().iter().flat_map(|path| blocks(path)).collect();
    assert!(all.len() >= 20, "{all:?}");
    let unmarked: Vec<&Block> =
        all.iter().filter(|block| !block.is_run() && !block.says_why_not()).collect();
    assert!(
        unmarked.is_empty(),
        "write `<!-- run -->` or `<!-- not run: why -->` above these blocks: {unmarked:#?}"
    );
}

#[tokio::test]
async fn the_commands_in_the_documents_work() {
    let mut world = World::new().await;
    // Whatever it is asked, it writes a file.
    let agent = world.state.path().join("agent");
    let fake = testing::programs::fake_agent_path();
    write_program(&agent, &format!("exec '{}' --fake-behaviour=ok", fake.display()));
    world.set("CLAUDE_CODE_COMMAND", &agent.to_string_lossy());
    // Verification in documents is `cargo test`; what it says is not what is tested here.
    let tools = world.state.path().join("tools");
    fs::create_dir(&tools).expect("the directory is ours");
    write_program(&tools.join("cargo"), "exit 0");
    let programs = Path::new(env!("CARGO_BIN_EXE_opentiger")).parent().expect("it lies somewhere");
    let path = [tools.to_string_lossy().into_owned(), programs.to_string_lossy().into_owned()];
    let path = format!("{}:{}", path.join(":"), testing::programs::search_path());
    world.set("PATH", &path);
    world.up().await;
    let file = AddressFile::read(&world.state_dir()).expect("it can be read");
    let address = file.expect("the server runs").address;
    let mut done = BTreeSet::new();
    for block in documents().iter().flat_map(|path| blocks(path)).filter(Block::is_run) {
        // A translation has the same commands.
        if !done.insert(block.text.clone()) {
            continue;
        }
        let text = block.text.replace(WRITTEN, &format!("http://{address}"));
        // Some commands make the system not ready for a moment.
        wait_for("the system to be ready", DEADLINE, async || {
            let said = world.call(&["status"]).await;
            if said.code == Some(0) { Ok(()) } else { Err(said.out) }
        })
        .await;
        let mut shell = world.command("sh", world.repository.path());
        shell.args(["-e", "-u", "-c", &text]);
        let ran = tokio::time::timeout(DEADLINE, shell.output()).await;
        let output = ran.expect("it ends in time").expect("there is a shell");
        assert!(
            output.status.success(),
            "{}: {}\n{text}\nout: {}\nerr: {}",
            block.at,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(done.len() >= 10, "{done:?}");
    world.call(&["down"]).await.done();
}

fn write_program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("the directory is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// Words of the code that a reader will meet and look up.
fn expect_words(path: &str, words: &[&str]) {
    let text = read(path);
    let missing: Vec<&&str> =
        words.iter().filter(|word| !text.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "{path} says nothing of {missing:?}");
}

#[test]
fn the_runbooks_know_every_outcome_and_every_reason() {
    let reasons = AuthReason::WORDS.iter().copied().filter(|word| *word != "ready");
    let reasons: Vec<&str> = reasons.collect();
    for path in ["docs/operations.md", "docs/ja/operations.md"] {
        expect_words(path, RunOutcome::WORDS);
        expect_words(path, &reasons);
    }
    for path in ["docs/execution-mode.md", "docs/ja/execution-mode.md"] {
        expect_words(path, &reasons);
    }
}

#[test]
fn the_runbooks_know_every_word_for_why_a_task_waits() {
    let api: serde_json::Value =
        serde_json::from_str(&read("docs/openapi.json")).expect("it is JSON");
    let kind = &api["components"]["schemas"]["WaitingView"]["properties"]["kind"];
    let said = kind["description"].as_str().expect("the words are described");
    let words: Vec<&str> = said.split('`').skip(1).step_by(2).collect();
    assert!(words.len() > 10, "{said}");
    for path in ["docs/operations.md", "docs/ja/operations.md"] {
        expect_words(path, &words);
    }
}

#[test]
fn settings_that_documents_name_are_there() {
    let known: BTreeSet<&str> = core_config::table::SETTINGS.iter().map(|one| one.key).collect();
    // Variables of the command line, and of tests.
    let others = ["OPENTIGER_API_KEY", "OPENTIGER_API_URL"];
    let is_other = |word: &str| others.contains(&word) || word.starts_with("OPENTIGER_TEST_");
    let beginnings: BTreeSet<&str> =
        known.iter().filter_map(|key| key.split_once('_').map(|(first, _)| first)).collect();
    for path in documents().iter().filter(|path| !path.starts_with("docs/decisions")) {
        let text = read(path);
        for word in text.split('`').skip(1).step_by(2) {
            let word = word.split('=').next().unwrap_or_default();
            let looks = word.contains('_')
                && !word.ends_with('_')
                && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
                && word.split('_').next().is_some_and(|first| beginnings.contains(first));
            assert!(
                !looks || known.contains(word) || is_other(word),
                "{}: there is no setting `{word}`",
                path.display()
            );
        }
    }
}

#[test]
fn the_code_for_other_tools_is_the_example_that_is_built() {
    let example = read("crates/launcher/examples/run_and_reattach.rs");
    let shown = read("docs/launcher.md");
    assert!(shown.contains(&format!("```rust\n{example}```")), "copy the example into the page");
}

/// Every document that there is in Japanese, with the one it was translated from.
fn translations() -> Vec<(PathBuf, PathBuf)> {
    let japanese = documents().into_iter().filter_map(|path| {
        let original = Path::new("docs").join(path.strip_prefix("docs/ja").ok()?);
        Some((original, path))
    });
    japanese.chain([("README.md".into(), "README.ja.md".into())]).collect()
}

#[test]
fn every_document_for_operators_is_there_in_japanese_with_the_same_commands() {
    let translations = translations();
    let translated: BTreeSet<&Path> =
        translations.iter().map(|(original, _)| original.as_path()).collect();
    let inside = |path: &&PathBuf, folder: &str| path.starts_with(folder);
    let documents = documents();
    let missing: Vec<&PathBuf> = documents
        .iter()
        .filter(|path| inside(path, "docs"))
        .filter(|path| !inside(path, "docs/ja") && !inside(path, "docs/decisions"))
        .filter(|path| !translated.contains(path.as_path()))
        .collect();
    assert!(missing.is_empty(), "write these in Japanese: {missing:?}");
    for (original, japanese) in &translations {
        let commands = |path: &Path| -> Vec<String> {
            let without_remark =
                |line: &str| line.split(" # ").next().map(|rest| rest.trim_end().to_owned());
            blocks(path)
                .iter()
                .flat_map(|block| block.text.lines().filter_map(without_remark).collect::<Vec<_>>())
                .collect()
        };
        assert_eq!(commands(japanese), commands(original), "{}", japanese.display());
    }
}

/// The beginnings of headings, such as `##`, in order.
fn outline(path: &Path) -> Vec<String> {
    let text = read(path);
    let outside_of_blocks: String = text.split("```").step_by(2).collect();
    let titles = outside_of_blocks.lines().filter(|line| line.starts_with('#'));
    titles.map(|line| line.chars().take_while(|one| *one == '#').collect()).collect()
}

#[test]
fn translations_have_the_same_headings() {
    for (original, japanese) in translations() {
        assert_eq!(outline(&japanese), outline(&original), "{}", japanese.display());
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in documents() {
        let text = read(&path);
        let folder = path.parent().unwrap_or(Path::new(""));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") || file.starts_with("mailto:") {
                continue;
            }
            let target = if file.is_empty() { path.clone() } else { folder.join(file) };
            let full = workspace().join(&target);
            let is_there = full.try_exists().unwrap_or(false);
            assert!(is_there, "{}: nothing is at `{link}`", path.display());
            if !anchor.is_empty() {
                let headings = anchors(&fs::read_to_string(full).expect("it is a document"));
                assert!(headings.contains(anchor), "{}: no heading for `{link}`", path.display());
            }
        }
    }
}

/// The anchors of a document's headings, as they are made from the text.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|one| one.is_alphanumeric() || " -_".contains(*one));
            kept.map(|one| if one == ' ' { '-' } else { one }).collect()
        })
        .collect()
}
