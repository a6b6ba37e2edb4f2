//! Finds PostgreSQL's binaries on this machine. Nothing is downloaded.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use launcher::tool::Tool;

use crate::account::Account;

/// The oldest major version whose SQL the project writes.
const OLDEST: u32 = 15;

/// Where distributions put a version's binaries: a directory, the prefix of names in it, and the rest of the path.
const PLACES: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];

/// A set of binaries that runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binaries {
    pub(crate) postgres: PathBuf,
    pub(crate) initdb: PathBuf,
    /// As the server says it, such as `15.18`.
    pub(crate) version: String,
    pub(crate) major: u32,
}

/// Looks for binaries: in the configured directory alone if there is one, else wherever they may be.
///
/// With `wanted`, only that major version will do. The error lists every place with what is wrong there.
pub(crate) async fn find(
    bin_dir: Option<&Path>,
    search_path: &str,
    account: &Account,
    wanted: Option<u32>,
) -> Result<Binaries, String> {
    let candidates = match bin_dir {
        Some(directory) => vec![directory.to_owned()],
        None => candidates(search_path),
    };
    let mut tried = Vec::new();
    for directory in candidates {
        match check(&directory, account, wanted).await {
            Ok(binaries) => return Ok(binaries),
            Err(why) => tried.push(format!("`{}`: {why}", directory.display())),
        }
    }
    if tried.is_empty() {
        tried.push("PATH, /usr/lib/postgresql, /usr/pgsql-*, Homebrew: nothing there".to_owned());
    }
    Err(tried.join("; "))
}

/// Directories that hold a `postgres`, in the order they are tried, each once.
fn candidates(search_path: &str) -> Vec<PathBuf> {
    let on_path = search_path
        .split(':')
        .filter(|directory| directory.starts_with('/'))
        .filter_map(|directory| Path::new(directory).join("postgres").canonicalize().ok())
        .filter_map(|program| program.parent().map(Path::to_owned));
    let installed = PLACES.iter().flat_map(|(parent, prefix, rest)| newest(parent, prefix, rest));
    let mut unique = Vec::new();
    for directory in on_path.chain(installed) {
        if !unique.contains(&directory) {
            unique.push(directory);
        }
    }
    unique
}

/// The directories of one place, the highest version first.
fn newest(parent: &str, prefix: &str, rest: &str) -> Vec<PathBuf> {
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
        .filter(|(_, directory)| directory.join("postgres").is_file())
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, directory)| directory).collect()
}

/// Both programs must be there, and the server must run as the user that it will run as.
async fn check(
    directory: &Path,
    account: &Account,
    wanted: Option<u32>,
) -> Result<Binaries, String> {
    let (postgres, initdb) = (directory.join("postgres"), directory.join("initdb"));
    for program in [&postgres, &initdb] {
        if !program.is_file() {
            return Err(format!(
                "no `{}` there",
                program.file_name().unwrap_or_default().display()
            ));
        }
    }
    let mut tool = Tool::new(&postgres, "/");
    tool.args = vec!["--version".to_owned()];
    tool.timeout = Duration::from_secs(20);
    tool.user = account.user;
    let output = tool.run().await.map_err(|error| format!("`postgres --version`: {error}"))?;
    if output.status != Some(0) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`postgres --version` failed: {}", stderr.trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let (version, major) = parse_version(&text)
        .ok_or_else(|| format!("`postgres --version` printed `{}`", text.trim()))?;
    match wanted {
        Some(wanted) if wanted != major => Err(format!("is version {version}")),
        None if major < OLDEST => Err(format!("is version {version}, too old")),
        Some(_) | None => Ok(Binaries { postgres, initdb, version, major }),
    }
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, also `17beta1` and `18devel`.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let (_, rest) = text.split_once("(PostgreSQL) ")?;
    let version = rest.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((version.to_owned(), digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_shapes_are_read() {
        let of = |text| parse_version(text).map(|(_, major)| major);
        assert_eq!(of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(of("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(of("mysqld 8\n"), None);
    }
}
