//! Checks on this host: the user's own home, and a directory for what the command line writes.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use core_types::{
    auth::{AuthReason, CheckedBy},
    task::ExecutorKind,
};
use executor::{invocation::Place, opencode};
use launcher::launcher::Launcher;

use crate::{
    credentials::{self, CLAUDE_SETTINGS, Found},
    finding::Finding,
    place::{Ask, Site, Spot},
    scratch::{Scratch, private},
};

/// This host.
#[derive(Debug)]
pub struct Host {
    launcher: Arc<dyn Launcher>,
    scratch: PathBuf,
    environment: BTreeMap<String, String>,
}

impl Host {
    /// Checks that start with this launcher, write below `scratch`, and see of `environment` what a run would.
    #[must_use]
    pub fn new(
        launcher: Arc<dyn Launcher>,
        scratch: PathBuf,
        environment: BTreeMap<String, String>,
    ) -> Self {
        Self { launcher, scratch, environment }
    }

    fn place(&self, ask: &Ask, scratch: &Scratch) -> Result<Place, Finding> {
        let made = |name: &str| scratch.directory(name).map_err(|error| no_place(&error));
        let (work, tmp) = (made("work")?, made("tmp")?);
        let as_root = rustix::process::geteuid().is_root();
        let place = Place::on_host(&self.environment, ask.home.clone(), work, tmp, as_root);
        place.map_err(|error| unknown(error.to_string()))
    }

    fn prepare(&self, ask: &Ask) -> Result<Spot, Finding> {
        let scratch = Scratch::make(&self.scratch).map_err(|error| no_place(&error))?;
        let place = self.place(ask, &scratch)?;
        let path = place.parent_env.get("PATH").map(String::as_str).unwrap_or_default();
        credentials::program(command(ask), path)?;
        let found = match ask.executor {
            ExecutorKind::ClaudeCode => credentials::claude(&ask.settings, &place.home),
            ExecutorKind::Opencode => credentials::opencode(&ask.settings.opencode, &place.home),
        }?;
        let config = scratch.directory("config").map_err(|error| no_place(&error))?;
        let Found { login, copy, secrets } = found;
        let filled = match ask.executor {
            ExecutorKind::ClaudeCode => fill_claude(&config, &place, copy.as_deref()),
            ExecutorKind::Opencode => {
                fill_opencode(&config, &place.home.join(opencode::LOGIN_IN_HOME))
            }
        };
        filled.map_err(|error| no_place(&error))?;
        Ok(Spot {
            place: Place { config_dir: Some(config), ..place },
            login,
            launcher: Arc::clone(&self.launcher),
            dress: Box::new(|spec| spec),
            secrets,
            secret_env: BTreeMap::new(),
            keep: Box::new(scratch),
        })
    }
}

#[async_trait]
impl Site for Host {
    async fn open(&self, ask: &Ask) -> Result<Spot, Finding> {
        self.prepare(ask)
    }
}

/// The program of an executor.
fn command(ask: &Ask) -> &str {
    match ask.executor {
        ExecutorKind::ClaudeCode => &ask.settings.claude_code.command,
        ExecutorKind::Opencode => &ask.settings.opencode.command,
    }
}

/// The CLI's own directory, with the user's settings and a login that it cannot renew: on a refused token it would send
/// the user's refresh token, and on a refused renewal it would blank the user's login.
fn fill_claude(config: &Path, place: &Place, login: Option<&[u8]>) -> io::Result<()> {
    if let Some(login) = login {
        let path = config.join(".credentials.json");
        fs::write(&path, login)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    match fs::copy(place.home.join(CLAUDE_SETTINGS), config.join("settings.json")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// As for a run: opencode's own directories, with the way to a login. One that it renews is renewed for the user too.
pub(crate) fn fill_opencode(config: &Path, login: &Path) -> io::Result<()> {
    let place = config.join(opencode::LOGIN_IN_STATE);
    private(place.parent().unwrap_or(config))?;
    private(&config.join("state"))?;
    symlink(login, place)
}

fn no_place(error: &io::Error) -> Finding {
    unknown(format!("no place for a check can be made: {error}"))
}

fn unknown(detail: String) -> Finding {
    Finding::new(AuthReason::Unknown, CheckedBy::Credentials).with_detail(detail)
}
