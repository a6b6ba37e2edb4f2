//! The view of the host's logins that sandboxes get: directories of openTiger's own, in which a copy without what renews a
//! login is kept up to date.
//!
//! Never the user's own directory: that holds every transcript, and the token with which a container could take the login
//! away. Never a single file: a mount of one goes on showing the old file when the host replaces it. What a copy holds is a
//! list of fields, so that a field of a later version stays at home. It renews no login and asks no provider.

mod copies;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use core_config::settings::Settings;
use core_types::task::ExecutorKind;
use launcher::spec::UserId;
use telemetry::chain::error_chain;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use self::copies::{Copied, claude_code, opencode};

/// How often the host's logins are looked at: a change is in the view well within two seconds.
const LOOKS: Duration = Duration::from_millis(500);
/// The largest file of a login that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// The file of Claude Code's login.
pub const CLAUDE_FILE: &str = ".credentials.json";
/// The file of opencode's logins.
pub const OPENCODE_FILE: &str = "auth.json";

/// Where the host's logins are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The directory with Claude Code's login.
    pub claude: PathBuf,
    /// opencode's file of logins.
    pub opencode: PathBuf,
}

/// The directories of the view, below the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    directory: PathBuf,
    owner: UserId,
}

/// What of the host's logins sandboxes have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logins {
    /// Claude Code's.
    pub claude: LoginState,
    /// opencode's.
    pub opencode: LoginState,
}

/// One login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginState {
    /// The view has it.
    Present {
        /// Until when the token in it is good, in milliseconds since 1970, where it says so.
        expires_at_ms: Option<u64>,
    },
    /// The host is not logged in, and the view has nothing.
    LoggedOut,
    /// The host's file is being written, or damaged; the view still has what was there before.
    HalfWritten,
    /// The host's file cannot be read; the view still has what was there before.
    Unreadable {
        /// The system's word for it.
        why: String,
    },
}

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// A directory that a setting names is not there. There is no falling back to the usual one.
    #[error("`{}`, which `{key}` names, is no directory that can be read", path.display())]
    OverrideMissing {
        /// The setting.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// It is not known where the user's home is.
    #[error("there is no home directory with a login: `HOME` is not set")]
    NoHome,
    /// The view cannot be written.
    #[error("{what} `{}`", path.display())]
    Io {
        /// What was tried, as a verb phrase.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// Why an agent in a sandbox will find no login (S6). To be told once for each cause.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LoginWarning {
    /// Claude Code has neither a key nor a login.
    ClaudeCode {
        /// Where a login was looked for.
        directory: PathBuf,
        /// What is wrong with the one that is there.
        fault: Option<LoginFault>,
    },
    /// opencode has neither a key nor a login.
    Opencode {
        /// Where a login was looked for.
        file: PathBuf,
        /// What is wrong with the one that is there.
        fault: Option<LoginFault>,
    },
}

/// What is wrong with a login that is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LoginFault {
    /// This user may not read it, or cannot.
    #[error("cannot be read: {why}")]
    Unreadable {
        /// The system's word for it.
        why: String,
    },
    /// It is no login.
    #[error("is damaged, or just being written")]
    Damaged,
}

/// Who a sandbox runs as, and whose view, checkout and state are: the dispatcher's user, or the image's where that is root.
#[must_use]
pub const fn user(dispatcher: UserId) -> UserId {
    if dispatcher.uid == 0 { UserId { uid: 1001, gid: 1001 } } else { dispatcher }
}

impl Sources {
    /// Those of the settings; `home` is the dispatcher's. What a setting names has to be there.
    ///
    /// # Errors
    /// [`ViewError::OverrideMissing`] and [`ViewError::NoHome`].
    pub fn of(settings: &Settings, home: Option<&Path>) -> Result<Self, ViewError> {
        let check = |key: &'static str, path: &Path| {
            let there = fs::read_dir(path).map(drop);
            there.map_err(|source| ViewError::OverrideMissing {
                key,
                path: path.to_owned(),
                source,
            })
        };
        if let Some(directory) = &settings.claude_config_dir {
            check("CLAUDE_CONFIG_DIR", directory)?;
        }
        let own = settings.opentiger_claude_home.as_deref().or(home);
        let claude = match &settings.claude_auth_dir {
            Some(directory) => check("CLAUDE_AUTH_DIR", directory).map(|()| directory.clone())?,
            None => own.ok_or(ViewError::NoHome)?.join(".claude"),
        };
        let home = home.or(own).ok_or(ViewError::NoHome)?;
        Ok(Self { claude, opencode: home.join(executor::opencode::LOGIN_IN_HOME) })
    }
}

impl View {
    /// Makes the directories of the view, for a sandbox's user alone.
    ///
    /// # Errors
    /// [`ViewError::Io`].
    pub fn open(state_dir: &Path, owner: UserId) -> Result<Self, ViewError> {
        let view = Self { directory: state_dir.join("sandbox/login"), owner };
        make_private(&view.directory)?;
        for directory in [view.claude(), view.config(), view.opencode()] {
            make_private(&directory)?;
            give(&directory, owner)?;
        }
        Ok(view)
    }

    /// What a sandbox sees as `~/.claude`: the login's file and nothing else.
    #[must_use]
    pub fn claude(&self) -> PathBuf {
        self.directory.join("claude")
    }

    /// What a sandbox sees as `~/.config/claude`. It is empty: no version of the command line that was tried opens it.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.join("config")
    }

    /// What a sandbox sees as opencode's directory of data: the file of its logins and nothing else.
    #[must_use]
    pub fn opencode(&self) -> PathBuf {
        self.directory.join("opencode")
    }

    /// Brings the view up to date, once.
    ///
    /// # Errors
    /// [`ViewError::Io`], where the view cannot be written.
    pub fn refresh(&self, sources: &Sources) -> Result<Logins, ViewError> {
        let claude = sources.claude.join(CLAUDE_FILE);
        Ok(Logins {
            claude: self.renew(&claude, &self.claude().join(CLAUDE_FILE), claude_code)?,
            opencode: self.renew(
                &sources.opencode,
                &self.opencode().join(OPENCODE_FILE),
                opencode,
            )?,
        })
    }

    /// Keeps the view up to date until it is stopped, and tells what is in it. `sources` is asked each time, for settings
    /// change; where it has no answer the view stays as it is.
    pub async fn keep(
        self,
        sources: impl Fn() -> Option<Sources>,
        told: watch::Sender<Option<Logins>>,
        stop: CancellationToken,
    ) {
        let work = async {
            loop {
                if let Some(sources) = sources() {
                    match self.refresh(&sources) {
                        Ok(logins) => drop(told.send_if_modified(|now| changed(now, logins))),
                        Err(error) => {
                            tracing::error!(error = %error_chain(&error), "view of the logins not renewed");
                        }
                    }
                }
                sleep(LOOKS).await;
            }
        };
        // Nothing in the work is waited for but the next look, so that it is never broken off in the middle.
        stop.run_until_cancelled(work).await;
    }

    fn renew(
        &self,
        from: &Path,
        to: &Path,
        copy: fn(&[u8]) -> Copied,
    ) -> Result<LoginState, ViewError> {
        let content = match read(from) {
            Ok(content) => content,
            Err(error) if is_absent(&error) => return remove(to).map(|()| LoginState::LoggedOut),
            Err(error) => return Ok(LoginState::Unreadable { why: error.to_string() }),
        };
        match copy(&content) {
            Copied::Login { content, expires_at_ms } => {
                if fs::read(to).ok().as_deref() != Some(content.as_slice()) {
                    self.put(&content, to)?;
                }
                Ok(LoginState::Present { expires_at_ms })
            }
            Copied::LoggedOut => remove(to).map(|()| LoginState::LoggedOut),
            Copied::HalfWritten => Ok(LoginState::HalfWritten),
        }
    }

    /// By renaming, so that no reader sees half of it. The new file is complete in mode and owner before.
    fn put(&self, content: &[u8], to: &Path) -> Result<(), ViewError> {
        use std::io::Write as _;
        let failed = |source| ViewError::Io { what: "write", path: to.to_owned(), source };
        let mut file = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed)?;
        file.write_all(content).map_err(failed)?;
        give(file.path(), self.owner)?;
        file.persist(to).map(drop).map_err(|error| failed(error.error))
    }
}

/// What an agent of this kind will miss, if anything.
#[must_use]
pub fn warning(
    kind: ExecutorKind,
    settings: &Settings,
    sources: &Sources,
    logins: &Logins,
) -> Option<LoginWarning> {
    match kind {
        ExecutorKind::ClaudeCode => {
            let fault = logins.claude.fault()?;
            let directory = sources.claude.clone();
            let missing = settings.anthropic_api_key.is_none();
            missing.then_some(LoginWarning::ClaudeCode { directory, fault })
        }
        ExecutorKind::Opencode => {
            let keys =
                [&settings.anthropic_api_key, &settings.openai_api_key, &settings.gemini_api_key];
            let fault = logins.opencode.fault()?;
            let file = sources.opencode.clone();
            let missing = keys.iter().all(|key| key.is_none());
            missing.then_some(LoginWarning::Opencode { file, fault })
        }
    }
}

impl LoginState {
    /// Why there is no login, and what is wrong with it where that is so; nothing where there is one.
    #[expect(clippy::option_option, reason = "a login, none, and one that is at fault")]
    fn fault(&self) -> Option<Option<LoginFault>> {
        match self {
            Self::Present { .. } => None,
            Self::LoggedOut => Some(None),
            Self::HalfWritten => Some(Some(LoginFault::Damaged)),
            Self::Unreadable { why } => Some(Some(LoginFault::Unreadable { why: why.clone() })),
        }
    }
}

impl std::fmt::Display for LoginWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ClaudeCode { directory, fault: Some(fault) } => write!(
                f,
                "agents of claude_code in sandboxes get no new login: that in `{}` {fault}, and ANTHROPIC_API_KEY is not set",
                directory.display()
            ),
            Self::Opencode { file, fault: Some(fault) } => write!(
                f,
                "agents of opencode in sandboxes get no new login: `{}` {fault}, and no provider's key is set",
                file.display()
            ),
            Self::ClaudeCode { directory, fault: None } => write!(
                f,
                "agents of claude_code in sandboxes have no login: `{}` has none, and ANTHROPIC_API_KEY is not set",
                directory.display()
            ),
            Self::Opencode { file, fault: None } => write!(
                f,
                "agents of opencode in sandboxes have no login: `{}` is not there, and no provider's key is set",
                file.display()
            ),
        }
    }
}

impl LoginWarning {
    /// What a person can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::ClaudeCode { fault: Some(LoginFault::Unreadable { .. }), .. }
            | Self::Opencode { fault: Some(LoginFault::Unreadable { .. }), .. } => {
                "let the user that runs openTiger own and read it, or set a provider's key"
            }
            Self::ClaudeCode { .. } => "run `claude /login` on the host, or set ANTHROPIC_API_KEY",
            Self::Opencode { .. } => {
                "run `opencode auth login` on the host, or set a provider's key"
            }
        }
    }
}

impl ViewError {
    /// What a person can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::OverrideMissing { .. } => "create the directory, or clear the setting",
            Self::NoHome => "set HOME, or CLAUDE_AUTH_DIR to a directory with a login",
            Self::Io { .. } => "check that the state directory is there, writable and not full",
        }
    }
}

fn changed(now: &mut Option<Logins>, logins: Logins) -> bool {
    let changed = now.as_ref() != Some(&logins);
    *now = Some(logins);
    changed
}

/// A directory that is not there means the same as a missing file: nobody is logged in.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let file = fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut content = Vec::new();
    file.take(LARGEST).read_to_end(&mut content)?;
    Ok(content)
}

fn remove(path: &Path) -> Result<(), ViewError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ViewError::Io { what: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn make_private(path: &Path) -> Result<(), ViewError> {
    let failed = |source| ViewError::Io { what: "make", path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)
}

fn give(path: &Path, owner: UserId) -> Result<(), ViewError> {
    let failed =
        |source| ViewError::Io { what: "change the owner of", path: path.to_owned(), source };
    let now = fs::symlink_metadata(path).map_err(failed)?;
    if (now.uid(), now.gid()) == (owner.uid, owner.gid) {
        return Ok(());
    }
    chown(path, Some(owner.uid), Some(owner.gid)).map_err(failed)
}
