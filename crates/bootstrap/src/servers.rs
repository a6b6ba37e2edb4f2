//! The private servers of a machine that has none configured.

use std::{path::PathBuf, time::Duration};

use core_config::settings::{DownloadPolicy, EmbeddedServers, Settings};
use core_types::secret::Secret;
use embedded::{
    download::Downloads,
    options::EmbeddedOptions,
    postgres::{EmbeddedPostgres, ensure_postgres},
    redis::{EmbeddedRedis, ensure_redis},
};
use launcher::process::ProcessLauncher;
use telemetry::chain::error_chain;
use tokio::time::timeout;

use crate::{environment::environment, error::StartError};

/// How long the start of a server waits for the private Redis, with its download; it is worth some milliseconds for each
/// task.
const REDIS_WITH_DOWNLOAD: Duration = Duration::from_secs(30);
/// How long other programs wait for it: they download none.
const REDIS_WITHIN: Duration = Duration::from_secs(10);

/// The options of private servers under these settings.
fn options(settings: &Settings, launcher: &ProcessLauncher) -> EmbeddedOptions {
    let environment = environment();
    let search_path = environment.get("PATH").cloned().unwrap_or_default();
    let downloads = match settings.downloads {
        DownloadPolicy::Never => Downloads::Never,
        DownloadPolicy::Allow => {
            let root = rustix::process::geteuid().is_root();
            let home = |name: &str| environment.get(name).map(PathBuf::from);
            let user = home("XDG_CACHE_HOME")
                .filter(|path| path.is_absolute())
                .or_else(|| home("HOME").map(|home| home.join(".cache")));
            let cache_dir = match user {
                // The servers run as another user, who cannot enter root's home.
                Some(cache) if !root => cache.join("opentiger"),
                Some(_) | None => settings.state_dir.join("cache"),
            };
            Downloads::Into { cache_dir, environment }
        }
    };
    EmbeddedOptions {
        bin_dir: settings.postgres_bin_dir.clone(),
        redis_bin: settings.redis_bin.clone(),
        downloads,
        ..EmbeddedOptions::new(settings.state_dir.clone(), search_path, launcher.clone())
    }
}

/// The configured database, else the private one.
pub(crate) async fn database(
    settings: &Settings,
    launcher: &ProcessLauncher,
) -> Result<(Secret, Option<EmbeddedPostgres>), StartError> {
    if let Some(url) = &settings.database_url {
        return Ok((url.clone(), None));
    }
    match settings.embedded {
        EmbeddedServers::Never => return Err(StartError::NoDatabase),
        EmbeddedServers::Auto => {}
    }
    let postgres =
        ensure_postgres(options(settings, launcher)).await.map_err(StartError::Embedded)?;
    tracing::info!(postgres.port = postgres.port, postgres.data = %postgres.data_dir.display(), "no database is configured, using the private one");
    Ok((postgres.url.clone(), Some(postgres)))
}

/// The private Redis, where none is configured and one may be started. Without it everything works, only slower: so where
/// no network answers, one program tries to download it, and not each of them at each start.
pub(crate) async fn private_redis(
    settings: &Settings,
    launcher: &ProcessLauncher,
    may_download: bool,
) -> Option<EmbeddedRedis> {
    match (settings.embedded, &settings.redis_url) {
        (EmbeddedServers::Never, _) | (EmbeddedServers::Auto, Some(_)) => return None,
        (EmbeddedServers::Auto, None) => {}
    }
    let mut options = options(settings, launcher);
    let within = if may_download {
        REDIS_WITH_DOWNLOAD
    } else {
        options.downloads = Downloads::Never;
        REDIS_WITHIN
    };
    match timeout(within, ensure_redis(options)).await {
        Ok(Ok(redis)) => {
            tracing::info!(
                redis.port = redis.port,
                "no redis is configured, using the private one"
            );
            Some(redis)
        }
        Ok(Err(error)) => {
            let hint = error.hint();
            tracing::warn!(error = %error_chain(&error), hint, "no private redis, going on without one");
            None
        }
        Err(_) => {
            tracing::warn!("the private redis takes too long, going on without one");
            None
        }
    }
}
