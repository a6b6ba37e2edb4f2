//! Rules about the text of files: heads, lengths, names, words, and what must not be published.

use super::{Finding, TextFile, layers::PARTS_OF_PROGRAMS};

/// The longest source file.
const FILE_LINES: usize = 450;
/// The longest file of tests: a list of cases reads well at any length, up to a point.
const TEST_FILE_LINES: usize = 700;
/// The longest `main.rs` of a program.
const MAIN_LINES: usize = 40;
/// Source files that may be longer, each with its reason.
const LONGER: &[(&str, usize, &str)] = &[];

/// Variants of errors that say nothing.
const CATCH_ALLS: &[&str] = &[
    concat!("Oth", "er(String"),
    concat!("Oth", "er(Box<"),
    concat!("Oth", "er(#[from]"),
    concat!("Oth", "er(any", "how"),
];
/// Markers of work left undone. Written in parts, so that this file does not find itself.
const UNDONE: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];
/// Places that exist on one machine only.
const PRIVATE_PLACES: &[&str] =
    &[concat!("/wor", "k/main"), concat!("/wor", "k/shared"), concat!("/wor", "k/scratch")];
/// Hosts of package registries; a lock file with a host in it works on one network only.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("registry.", "npmjs.org"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
];

/// Every finding in one file.
pub(crate) fn check(file: &TextFile) -> Vec<Finding> {
    let mut findings = check_text(file);
    if file.path.extension().is_some_and(|extension| extension == "rs") {
        findings.extend(check_shape(file));
        findings.extend(check_words(file));
    }
    findings
}

/// Rules for every file.
fn check_text(file: &TextFile) -> Vec<Finding> {
    let name = file.name();
    let foreign = name == "LICENSE" || name == "Cargo.lock";
    let mut findings = Vec::new();
    for (line, text) in lines(file) {
        if !foreign && text.ends_with([' ', '\t', '\r']) {
            findings.push(file.finding(line, "trailing-space", "cut it"));
        }
        if let Some(place) = find(text, PRIVATE_PLACES) {
            let repair = format!("`{place}` exists on one machine only; say it in general");
            findings.push(file.finding(line, "machine-path", repair));
        }
        if let Some(host) = find(text, REGISTRY_HOSTS) {
            let repair = format!(
                "cut `{host}`; for npm: `npm install --package-lock-only --omit-lockfile-registry-resolved`"
            );
            findings.push(file.finding(line, "registry-host", repair));
        }
        if let Some(marker) = find(text, UNDONE) {
            let repair = format!("do it or open an issue; no `{marker}` stays in the tree");
            findings.push(file.finding(line, "undone", repair));
        }
    }
    findings
}

/// Rules for the file as a whole.
fn check_shape(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = file.name();
    if is_source(&name) && !file.text.starts_with("//! ") {
        let repair = "begin with a `//!` head: what the file owns, what it does not";
        findings.push(file.finding(1, "file-head", repair));
    }
    if name.ends_with("/mod.rs") {
        let repair = "move it beside its folder: `a/mod.rs` is `a.rs`";
        findings.push(file.finding(0, "mod-file", repair));
    }
    let count = file.text.lines().count();
    let longer = LONGER.iter().find(|(path, _, _)| *path == name).map(|(_, limit, _)| *limit);
    let usual = if is_source(&name) { FILE_LINES } else { TEST_FILE_LINES };
    let limit = longer.unwrap_or(usual);
    if count > limit {
        let repair =
            format!("{count} lines, at most {limit}; split it by noun, or list it with a reason");
        findings.push(file.finding(0, "file-length", repair));
    }
    let is_main = name.starts_with("bins/") && name.ends_with("/src/main.rs");
    if is_main && count > MAIN_LINES {
        let repair =
            format!("{count} lines, at most {MAIN_LINES}; a program only puts crates together");
        findings.push(file.finding(0, "thin-program", repair));
    }
    findings
}

/// Rules for lines of code.
fn check_words(file: &TextFile) -> Vec<Finding> {
    let name = file.name();
    let is_library = is_library(&name);
    let mut findings = Vec::new();
    for (line, text) in lines(file) {
        let code = text.trim_start();
        if CATCH_ALLS.iter().any(|catch_all| code.starts_with(catch_all)) {
            let repair = "name what can go wrong; a catch-all variant tells nobody what to do";
            findings.push(file.finding(line, "no-catch-all", repair));
        }
        if is_library && code.contains(concat!("any", "how::")) {
            let repair = "a library's errors are enums made with `thiserror`";
            findings.push(file.finding(line, "typed-errors", repair));
        }
        if is_id_alias(code) {
            findings.push(file.finding(
                line,
                "no-alias",
                "make it a newtype, so that mixing two fails",
            ));
        }
        if let Some(repair) = error_text_fault(code) {
            findings.push(file.finding(line, "error-text", repair));
        }
    }
    findings
}

fn is_source(name: &str) -> bool {
    (name.contains("/src/") || name.ends_with("/build.rs") || name.contains("/examples/"))
        && !name.ends_with("/tests.rs")
}

/// Whether a file is part of a library and of no program.
fn is_library(name: &str) -> bool {
    let package = name.strip_prefix("crates/").and_then(|rest| rest.split_once("/src/"));
    package.is_some_and(|(package, file)| {
        file != "main.rs" && !file.starts_with("bin/") && !PARTS_OF_PROGRAMS.contains(&package)
    })
}

fn is_id_alias(code: &str) -> bool {
    let aliased = code.strip_prefix("pub type ").and_then(|rest| rest.split_once(" = "));
    aliased.is_some_and(|(_, target)| ["String;", "Uuid;", "u64;", "i64;"].contains(&target))
}

/// What is wrong with the text in an `error(…)` attribute, if anything.
fn error_text_fault(code: &str) -> Option<&'static str> {
    let text = code.strip_prefix("#[error(\"")?;
    let first_word = text.split(' ').next().unwrap_or_default();
    let capitals = first_word.chars().filter(char::is_ascii_uppercase).count();
    // More than one capital is a name or an abbreviation, such as PostgreSQL or HTTP.
    if text.starts_with(|first: char| first.is_ascii_uppercase()) && capitals == 1 {
        return Some("begin in lower case; errors are read as parts of a chain");
    }
    let ends = text.split_once("\")]").or_else(|| text.split_once("\","));
    ends.filter(|(text, _)| text.ends_with('.')).map(|_| "no period at the end")
}

fn lines(file: &TextFile) -> impl Iterator<Item = (usize, &str)> {
    file.text.split('\n').enumerate().map(|(index, text)| (index + 1, text))
}

fn find(text: &str, words: &[&'static str]) -> Option<&'static str> {
    words.iter().copied().find(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        let file = TextFile { path: path.into(), text: text.to_owned() };
        check(&file).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_clean_file_has_no_findings() {
        assert_eq!(rules("crates/a/src/b.rs", "//! Owns b.\n\npub struct B;\n"), [""; 0]);
    }

    #[test]
    fn a_missing_head_is_found_but_not_in_tests() {
        assert_eq!(rules("crates/a/src/b.rs", "pub struct B;\n"), ["file-head"]);
        assert_eq!(rules("crates/a/tests/it/main.rs", "mod b;\n"), [""; 0]);
    }

    #[test]
    fn long_files_and_thick_programs_are_found() {
        let text = format!("//! Long.\n{}", "fn f() {}\n".repeat(FILE_LINES));
        assert_eq!(rules("crates/a/src/b.rs", &text), ["file-length"]);
        let text = format!("//! Thick.\n{}", "fn f() {}\n".repeat(MAIN_LINES));
        assert_eq!(rules("bins/a/src/main.rs", &text), ["thin-program"]);
    }

    #[test]
    fn what_is_left_undone_is_found() {
        let text = format!("//! X.\n// {} later\n", concat!("TO", "DO"));
        assert_eq!(rules("crates/a/src/b.rs", &text), ["undone"]);
    }

    #[test]
    fn places_and_hosts_of_one_machine_are_found_in_every_file() {
        assert_eq!(
            rules("README.md", &format!("see {}/x\n", concat!("/wor", "k/main"))),
            ["machine-path"]
        );
        let lock = format!("\"https://{}/x\"\n", concat!("registry.", "npmjs.org"));
        assert_eq!(rules("ops/agents/package-lock.json", &lock), ["registry-host"]);
        assert_eq!(rules("README.md", "a \n"), ["trailing-space"]);
    }

    #[test]
    fn untyped_errors_and_loud_error_texts_are_found() {
        let catch_all = format!("//! X.\n    {}String),\n", concat!("Oth", "er("));
        assert_eq!(rules("crates/a/src/b.rs", &catch_all), ["no-catch-all"]);
        let untyped = format!("//! X.\nuse {}Result;\n", concat!("any", "how::"));
        assert_eq!(rules("crates/a/src/b.rs", &untyped), ["typed-errors"]);
        assert_eq!(rules("bins/a/src/b.rs", &untyped), [""; 0]);
        let loud = |text: &str| format!("//! X.\n#[error(\"{text}\")]\n");
        assert_eq!(rules("crates/a/src/b.rs", &loud("Cannot do it")), ["error-text"]);
        assert_eq!(rules("crates/a/src/b.rs", &loud("cannot do it.")), ["error-text"]);
        for name in ["HTTP is down", "PostgreSQL is down"] {
            assert_eq!(rules("crates/a/src/b.rs", &loud(name)), [""; 0]);
        }
    }

    #[test]
    fn an_alias_for_an_id_is_found() {
        let text = format!("//! X.\n{}Name = String;\n", "pub type ");
        assert_eq!(rules("crates/a/src/b.rs", &text), ["no-alias"]);
    }
}
