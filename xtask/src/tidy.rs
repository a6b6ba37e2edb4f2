//! House rules that no lint covers, checked over every file of the workspace.
//!
//! Also runs as a test of this package, so that a plain test run sees it. A rule says how to repair what it finds.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    console::{error_line, line},
    workspace,
};

mod layers;
mod manifests;
mod sources;

/// Names of what holds nothing of ours; `.git` is a file where the work tree is a linked one.
const SKIPPED: &[&str] = &[".git", ".opentiger", "node_modules", "target"];

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file, relative to the workspace.
    pub file: PathBuf,
    /// The line, counted from 1; 0 where the whole file is meant.
    pub line: usize,
    /// The rule's name.
    pub rule: &'static str,
    /// What is wrong and how to repair it.
    pub repair: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file.display(), self.line, self.rule, self.repair)
    }
}

/// A text file of the workspace.
#[derive(Debug)]
pub(crate) struct TextFile {
    /// Its path, relative to the workspace.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

impl TextFile {
    /// The path with `/` between its parts.
    #[must_use]
    pub(crate) fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// A finding about one of its lines.
    #[must_use]
    pub(crate) fn finding(
        &self,
        line: usize,
        rule: &'static str,
        repair: impl Into<String>,
    ) -> Finding {
        Finding { file: self.path.clone(), line, rule, repair: repair.into() }
    }
}

/// Checks the workspace and tells every finding.
pub(crate) fn run() -> Result<()> {
    let findings = check(workspace::root())?;
    for finding in &findings {
        error_line(finding.to_string());
    }
    if !findings.is_empty() {
        bail!("house rules: {} findings", findings.len());
    }
    line("tidy: no findings");
    Ok(())
}

/// Every finding in the workspace at `root`, in order of file and line.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let files = text_files(root)?;
    let mut findings = manifests::check(&files)?;
    findings.extend(files.iter().flat_map(sources::check));
    findings.sort_by(|a, b| (&a.file, a.line, a.rule).cmp(&(&b.file, b.line, b.rule)));
    Ok(findings)
}

fn text_files(root: &Path) -> Result<Vec<TextFile>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("read `{}`", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if SKIPPED.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                let path = entry.path().strip_prefix(root).context("name a file")?.to_owned();
                files.push(TextFile { path, text });
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_its_house_rules() {
        let findings = check(workspace::root()).unwrap();
        let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "\n{}", list.join("\n"));
    }
}
