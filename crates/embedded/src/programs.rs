//! Looks for a server's programs: place after place, until one holds what runs here.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use launcher::tool::Tool;

use crate::account::Account;

/// How long a program may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// Where distributions put programs: a directory, the prefix of the version in it, and the rest of the path.
pub(crate) type Pattern = (&'static str, &'static str, &'static str);

/// The places of one search, and what is wrong at each one that was tried.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<String>);

impl Tried {
    pub(crate) fn note(&mut self, place: &Path, why: &str) {
        self.0.push(format!("`{}`: {why}", place.display()));
    }

    /// All of it on one line; `nowhere` says where nothing was found at all.
    pub(crate) fn text(&self, nowhere: &str) -> String {
        if self.0.is_empty() { format!("{nowhere}: nothing there") } else { self.0.join("; ") }
    }
}

/// The directories of a search path, in its order. Relative ones mean something else in each process.
pub(crate) fn on_path(search_path: &str) -> impl Iterator<Item = &Path> {
    search_path.split(':').filter(|directory| directory.starts_with('/')).map(Path::new)
}

/// The directories of a pattern that hold `program`, the highest version first.
pub(crate) fn newest((parent, prefix, rest): Pattern, program: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.split('.').next()?.parse().ok()?;
            Some((version, entry.path().join(rest)))
        })
        .filter(|(_, directory)| directory.join(program).is_file())
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, directory)| directory).collect()
}

/// The same paths in the same order, each once.
pub(crate) fn unique(paths: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut unique = Vec::new();
    for path in paths {
        if !unique.contains(&path) {
            unique.push(path);
        }
    }
    unique
}

/// What a program prints for `--version`, run as the user that it will run as.
pub(crate) async fn version_text(program: &Path, account: &Account) -> Result<String, String> {
    let name = program.file_name().unwrap_or_default().display().to_string();
    let mut tool = Tool::new(program, "/");
    tool.args = vec!["--version".to_owned()];
    tool.timeout = VERSION_TIMEOUT;
    tool.user = account.user;
    let output = tool.run().await.map_err(|error| format!("`{name} --version`: {error}"))?;
    if output.status != Some(0) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{name} --version` failed: {}", stderr.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
