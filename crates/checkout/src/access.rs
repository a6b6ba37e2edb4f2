//! How remote repositories are reached from this host: its logins, its limits, and the environment git gets for it.
//!
//! What of the host's environment git needs (an agent socket, a proxy, a home with logins) goes over the launch's input
//! frame: it is in no file and no argument. No agent and no verification command ever gets any of it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use core_types::credential::HostToken;
use launcher::tool::Tool;

use crate::{
    error::CheckoutError,
    git::{GitCommand, guard_variables, path_text},
    url::{RepositoryUrl, Scheme, UrlRules},
};

/// What the host's own logins may need to be found.
const HOST_VARIABLES: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "GNUPGHOME",
    "PASSWORD_STORE_DIR",
    "GH_CONFIG_DIR",
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "GITLAB_TOKEN",
];
/// What any connection may need.
const NETWORK_VARIABLES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// Without these, a connection on which next to nothing comes would be held open until the deadline.
const LOW_SPEED_BYTES: u32 = 500;
const LOW_SPEED_TIME: Duration = Duration::from_secs(60);

/// How remote repositories are reached from this host.
#[derive(Clone)]
pub struct RemoteAccess {
    /// Which addresses are allowed.
    pub rules: UrlRules,
    /// Logins for https, before those that the user's own git knows.
    pub tokens: Vec<HostToken>,
    /// Whether the key of a host that ssh does not know yet is accepted and remembered.
    pub accept_unknown_ssh_hosts: bool,
    /// A configuration file for ssh in place of the user's.
    pub ssh_config: Option<PathBuf>,
    /// Certificate authorities for https in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long one call may take.
    pub timeout: Duration,
    /// How many bytes a repository may have.
    pub max_bytes: Option<u64>,
    /// The environment of this process, of which git gets what its logins need.
    pub environment: BTreeMap<String, String>,
}

/// The environment of one call on a remote.
#[derive(Debug, Default)]
pub(crate) struct NetworkEnvironment {
    /// Holds no secret.
    pub(crate) plain: BTreeMap<String, String>,
    /// Of the host, or of its user's configuration: may hold anything.
    pub(crate) private: BTreeMap<String, String>,
}

impl fmt::Debug for RemoteAccess {
    /// Without the environment, which may hold anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens: Vec<&str> = self.tokens.iter().map(|token| token.host.as_str()).collect();
        f.debug_struct("RemoteAccess").field("tokens", &tokens).finish_non_exhaustive()
    }
}

impl RemoteAccess {
    /// The token for an address, if the settings name one.
    pub(crate) fn token(&self, url: &RepositoryUrl) -> Option<&HostToken> {
        match url.scheme {
            Scheme::Ssh => None,
            Scheme::Https | Scheme::HttpLoopback => {
                self.tokens.iter().find(|token| token.host == url.authority)
            }
        }
    }

    /// What git gets for one call: with `helper` that credential helper alone, else the user's own logins.
    pub(crate) async fn environment(
        &self,
        git: &GitCommand,
        url: &RepositoryUrl,
        helper: Option<String>,
    ) -> Result<NetworkEnvironment, CheckoutError> {
        let guards = guard_variables().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut plain: BTreeMap<String, String> = guards.into();
        plain.insert("PATH".to_owned(), git.search_path().to_owned());
        plain.insert("HOME".to_owned(), "/nonexistent".to_owned());
        let fixed = [
            ("GIT_ALLOW_PROTOCOL", url.scheme.protocol()),
            ("GIT_SSH_VARIANT", "ssh"),
            ("SSH_ASKPASS_REQUIRE", "never"),
            ("GCM_INTERACTIVE", "never"),
        ];
        plain.extend(fixed.map(|(key, value)| (key.to_owned(), value.to_owned())));
        plain.insert("GIT_SSH_COMMAND".to_owned(), self.ssh_command()?);
        if let Some(file) = &self.ca_file {
            plain.insert("GIT_SSL_CAINFO".to_owned(), path_text(file)?);
        }
        let mut private = self.passed_on(NETWORK_VARIABLES);
        // The first entry drops whatever helper was named before it.
        let mut entries = vec![("credential.helper".to_owned(), String::new())];
        match (url.scheme, helper) {
            (Scheme::Ssh, _) => {
                private.extend(self.passed_on(&["HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK"]))
            }
            (Scheme::Https | Scheme::HttpLoopback, Some(helper)) => {
                entries.push(("credential.helper".to_owned(), helper));
            }
            (Scheme::Https | Scheme::HttpLoopback, None) => {
                private.extend(self.passed_on(HOST_VARIABLES));
                entries.extend(self.users_credential_settings(git).await?);
            }
        }
        entries.push(("credential.interactive".to_owned(), "false".to_owned()));
        private.insert("GIT_CONFIG_COUNT".to_owned(), entries.len().to_string());
        for (number, (key, value)) in entries.into_iter().enumerate() {
            private.insert(format!("GIT_CONFIG_KEY_{number}"), key);
            private.insert(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        Ok(NetworkEnvironment { plain, private })
    }

    fn passed_on(&self, names: &[&str]) -> BTreeMap<String, String> {
        let of_host =
            |name: &&str| Some(((*name).to_owned(), self.environment.get(*name)?.clone()));
        names.iter().filter_map(of_host).collect()
    }

    /// The ssh that git starts: it asks nobody, trusts no unknown key unless told, and lends nothing to the server.
    fn ssh_command(&self) -> Result<String, CheckoutError> {
        let checking = if self.accept_unknown_ssh_hosts { "accept-new" } else { "yes" };
        let mut command = format!(
            "ssh -o BatchMode=yes -o StrictHostKeyChecking={checking} -o ForwardAgent=no \
             -o ForwardX11=no -o PermitLocalCommand=no -o ConnectTimeout=30 \
             -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
        );
        if let Some(file) = &self.ssh_config {
            command.push_str(" -F ");
            command.push_str(&shell_word(file)?);
        }
        Ok(command)
    }

    /// What the user's own configuration says about credentials, and nothing else of it.
    async fn users_credential_settings(
        &self,
        git: &GitCommand,
    ) -> Result<Vec<(String, String)>, CheckoutError> {
        let mut tool = Tool::new(git.program(), "/");
        let list = ["config", "--global", "--includes", "-z", "--get-regexp", r"^credential\."];
        tool.args = list.map(str::to_owned).into();
        tool.env = self.passed_on(&["HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"]);
        tool.env.insert("PATH".to_owned(), git.search_path().to_owned());
        tool.env.insert("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned());
        tool.env.insert("LC_ALL".to_owned(), "C".to_owned());
        tool.timeout = Duration::from_secs(20);
        let output = tool.run().await.map_err(|error| CheckoutError::GitNotStarted {
            doing: "read the user's credential helpers",
            source: Box::new(error),
        })?;
        // 1: nothing matches. Anything else: no usable configuration, so no helper of the user's.
        let text = if output.status == Some(0) { output.stdout } else { Vec::new() };
        let text = String::from_utf8_lossy(&text).into_owned();
        // A key without `=` is printed without a line end; it means `true`.
        let entry = |entry: &str| match entry.split_once('\n') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (entry.to_owned(), "true".to_owned()),
        };
        Ok(text.split('\0').filter(|entry| !entry.is_empty()).map(entry).collect())
    }
}

/// The settings of every call on a remote, as arguments; they hold no secret.
pub(crate) fn network_settings() -> Vec<String> {
    let low_speed = [
        format!("http.lowSpeedLimit={LOW_SPEED_BYTES}"),
        format!("http.lowSpeedTime={}", LOW_SPEED_TIME.as_secs()),
    ];
    let settings = NETWORK_SETTINGS.iter().map(|setting| (*setting).to_owned());
    settings.chain(low_speed).flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

const NETWORK_SETTINGS: &[&str] = &[
    // A redirection could lead to a host inside of the user's network, and take the login along.
    "http.followRedirects=false",
    "transfer.bundleURI=false",
    "fetch.uriProtocols=",
    "fetch.unpackLimit=1",
    "fetch.recurseSubmodules=false",
    "fetch.showForcedUpdates=false",
    "transfer.fsckObjects=true",
    "fetch.fsckObjects=true",
    // What can only be meant ill.
    "fetch.fsck.hasDot=error",
    "fetch.fsck.hasDotdot=error",
    "fetch.fsck.hasDotgit=error",
    "fetch.fsck.fullPathname=error",
    // What old tools wrote into histories that are in use everywhere.
    "fetch.fsck.badTimezone=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    "fetch.fsck.missingEmail=ignore",
    "fetch.fsck.badEmail=ignore",
    "fetch.fsck.missingNameBeforeEmail=ignore",
    "fetch.fsck.zeroPaddedFilemode=ignore",
    "fetch.fsck.zeroPaddedDate=ignore",
    "fetch.fsck.badDateOverflow=ignore",
    "push.negotiate=true",
    "push.followTags=false",
    "push.gpgSign=false",
    "push.recurseSubmodules=no",
];

/// A path as one word for the shell that git starts ssh with.
fn shell_word(path: &Path) -> Result<String, CheckoutError> {
    Ok(format!("'{}'", path_text(path)?.replace('\'', r"'\''")))
}
