//! What went wrong with a remote repository, read from git's own words.
//!
//! Git has one exit status for everything that can happen on a network, so its texts (in the `C` locale) are all there
//! is. What is recognised has a name that decides what follows; what is not is a plain failure that may be tried again.

use crate::error::Fault;

/// What went wrong with a remote repository, by what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// There is no such repository, or this login may not know of it.
    NotFound,
    /// The login of this host is missing, wrong, or not allowed to do that.
    Denied,
    /// The host's key or certificate is not one that this host trusts.
    NotTrusted,
    /// The host cannot be reached, or answers that it cannot serve now.
    Unreachable,
    /// It took too long.
    TimedOut,
    /// The connection broke.
    HungUp,
    /// The server names another address for the repository.
    Moved,
    /// The server took the commit and refused the branch: a rule, a hook, a permission.
    PushRefused,
    /// The repository holds objects that git refuses.
    Damaged,
    /// The repository, or what is pushed, is larger than allowed.
    TooLarge,
    /// No space is left on this host.
    DiskFull,
    /// Git failed for a reason that has no name here.
    Failed,
}

/// A remote repository could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} `{url}`: {detail}", self.trouble.phrase())]
pub struct RemoteError {
    /// The address, which holds no secret.
    pub url: String,
    /// What went wrong.
    pub trouble: Trouble,
    /// Git's or the server's own words, cut, without secrets.
    pub detail: String,
}

impl Trouble {
    /// Whether the same call may succeed a little later with nothing changed.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Unreachable | Self::TimedOut | Self::HungUp | Self::Failed => true,
            Self::NotFound
            | Self::Denied
            | Self::NotTrusted
            | Self::Moved
            | Self::PushRefused
            | Self::Damaged
            | Self::TooLarge
            | Self::DiskFull => false,
        }
    }

    /// Who has to change something.
    pub(crate) const fn fault(self) -> Fault {
        match self {
            Self::NotFound | Self::Moved | Self::Damaged | Self::TooLarge => Fault::Request,
            Self::Denied
            | Self::NotTrusted
            | Self::Unreachable
            | Self::TimedOut
            | Self::HungUp
            | Self::PushRefused
            | Self::DiskFull
            | Self::Failed => Fault::Host,
        }
    }

    const fn phrase(self) -> &'static str {
        match self {
            Self::NotFound => "there is no repository, or none that this host's login may see, at",
            Self::Denied => "this host's login is not accepted for",
            Self::NotTrusted => "this host does not trust the server of",
            Self::Unreachable => "cannot reach",
            Self::TimedOut => "no answer in time from",
            Self::HungUp => "the connection broke to",
            Self::Moved => "the repository has moved away from",
            Self::PushRefused => "the branch was refused by",
            Self::Damaged => "git refuses what it got from",
            Self::TooLarge => "too much data for",
            Self::DiskFull => "no space is left on this host for",
            Self::Failed => "git failed on",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::NotFound => "check the url, and that this host's git login may read it",
            Self::Denied => {
                "log this host in (`git ls-remote URL` must work without a question), or name a token in the setting GIT_TOKENS"
            }
            Self::NotTrusted => {
                "connect once by hand with ssh and check the key, or set GIT_SSH_UNKNOWN_HOSTS=accept; for https name the authority in GIT_CA_FILE"
            }
            Self::Unreachable | Self::HungUp => {
                "check the network, the proxy and the server; it is tried again"
            }
            Self::TimedOut => {
                "check the network and the server, or allow more time with GIT_TIMEOUT_S"
            }
            Self::Moved => "use the repository's new url; redirections are not followed",
            Self::PushRefused => {
                "let the server's rules and hooks accept branches below `opentiger/` from this login"
            }
            Self::Damaged => "run `git fsck` on the repository, and repair it at its server",
            Self::TooLarge => {
                "allow more with GIT_MAX_BYTES, or let the server take more; keep large files out of the repository"
            }
            Self::DiskFull => "free space on the disk of the state directory",
            Self::Failed => "try `git ls-remote URL` on this host",
        }
    }

    /// Finds the trouble in what git wrote to its standard error.
    pub(crate) fn of(stderr: &str) -> Self {
        let text = stderr.to_ascii_lowercase();
        let (remote, local): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.trim_start().starts_with("remote:"));
        let (remote, local) = (remote.join("\n"), local.join("\n"));
        let found = |list: &[(&[&str], Self)], text: &str| {
            let hit = |(words, _): &&(&[&str], Self)| words.iter().any(|word| text.contains(word));
            list.iter().find(hit).map(|(_, trouble)| *trouble)
        };
        found(LOCAL, &local)
            .or_else(|| found(REMOTE, &remote))
            .or_else(|| found(HTTP_STATUS, &local))
            .or_else(|| found(BROKEN, &local))
            .unwrap_or(Self::Failed)
    }
}

/// The first match counts, so what says more stands first.
const LOCAL: &[(&[&str], Trouble)] = &[
    (&["no space left on device", "disk quota exceeded"], Trouble::DiskFull),
    (
        &[
            "host key verification failed",
            "remote host identification has changed",
            "ssl certificate problem",
            "certificate verification failed",
            "server certificate",
            "no alternative certificate subject",
            "does not match target host name",
        ],
        Trouble::NotTrusted,
    ),
    (&["unable to update url base from redirection"], Trouble::Moved),
    (
        &[
            "fsck error",
            "bad object",
            "error in packed object",
            "invalid index-pack output",
            "pack is corrupted",
            "did not send all necessary objects",
            "serious inflate inconsistency",
            "pack signature mismatch",
        ],
        Trouble::Damaged,
    ),
    (
        &[
            "authentication failed for",
            "could not read username",
            "could not read password",
            "unable to get password from user",
            "permission denied (",
            "too many authentication failures",
            "error: permission to",
            "access denied",
            "deploy key",
            "no supported authentication methods",
        ],
        Trouble::Denied,
    ),
    (
        &[
            "' not found",
            "repository not found",
            "does not appear to be a git repository",
            "not a git repository",
            "is this a git repository?",
            "could not be found",
        ],
        Trouble::NotFound,
    ),
    (
        &[
            "operation too slow",
            "operation timed out",
            "connection timed out",
            "timeout, server",
            "connection timeout",
            "ssl connection timeout",
        ],
        Trouble::TimedOut,
    ),
    (
        &[
            "could not resolve host",
            "couldn't resolve host",
            "failed to connect to",
            "couldn't connect to server",
            "could not connect to server",
            "connection refused",
            "no route to host",
            "network is unreachable",
            "could not resolve proxy",
            "name or service not known",
        ],
        Trouble::Unreachable,
    ),
];

const REMOTE: &[(&[&str], Trouble)] = &[
    (&["repository not found", "could not be found"], Trouble::NotFound),
    (
        &["permission denied", "not allowed to push", "write access to repository not granted"],
        Trouble::Denied,
    ),
];

const HTTP_STATUS: &[(&[&str], Trouble)] = &[
    (&["returned error: 401", "returned error: 403"], Trouble::Denied),
    (&["returned error: 404", "returned error: 410"], Trouble::NotFound),
    (&["returned error: 413", "http 413"], Trouble::TooLarge),
    (&["returned error: 30"], Trouble::Moved),
    (&["returned error: 408"], Trouble::TimedOut),
    (&["returned error: 429", "returned error: 5", "http 429", "http 5"], Trouble::Unreachable),
];

const BROKEN: &[(&[&str], Trouble)] = &[(
    &[
        "hung up",
        "early eof",
        "unexpected disconnect",
        "empty reply from server",
        "connection reset",
        "connection closed",
        "recv failure",
        "send failure",
        "transfer closed",
        "broken pipe",
        "kex_exchange_identification",
        "rpc failed",
        "the remote end",
        "unexpected eof",
        "connection was aborted",
        "unclean",
        "not properly terminated",
    ],
    Trouble::HungUp,
)];

/// Most bytes of an error text that are kept.
const DETAIL_LIMIT: usize = 600;

/// Git's words on one line: without control characters, without the secrets, cut. What comes from a server is hostile.
pub(crate) fn detail(stderr: &str, secrets: &[&str]) -> String {
    let lines: Vec<&str> = stderr
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty() && !is_noise(line))
        .collect();
    let mut text: String = lines.join("; ").chars().filter(|c| !c.is_control()).collect();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "***");
    }
    let end = text.floor_char_boundary(DETAIL_LIMIT);
    text.truncate(end);
    if text.is_empty() { "git said nothing".to_owned() } else { text }
}

/// What git says whatever the trouble is.
fn is_noise(line: &str) -> bool {
    line == "Please make sure you have the correct access rights"
        || line == "and the repository exists."
        || line.starts_with("error: unable to read askpass response")
        || line.starts_with("warning: push negotiation failed")
        || line.starts_with("Warning: Permanently added")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &[(&str, Trouble)] = &[
        ("fatal: repository 'https://h/x/' not found", Trouble::NotFound),
        (
            "remote: Repository not found.\nfatal: repository 'https://h/x/' not found",
            Trouble::NotFound,
        ),
        (
            "ERROR: Repository not found.\nfatal: Could not read from remote repository.",
            Trouble::NotFound,
        ),
        (
            "fatal: '/x' does not appear to be a git repository\nfatal: Could not read",
            Trouble::NotFound,
        ),
        ("fatal: Authentication failed for 'https://h/x/'", Trouble::Denied),
        (
            "fatal: could not read Username for 'https://h': terminal prompts disabled",
            Trouble::Denied,
        ),
        ("fatal: unable to get password from user", Trouble::Denied),
        (
            "fatal: unable to access 'https://h/x/': The requested URL returned error: 403",
            Trouble::Denied,
        ),
        (
            "git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.",
            Trouble::Denied,
        ),
        (
            "No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.\nfatal: Could not read from remote repository.",
            Trouble::NotTrusted,
        ),
        (
            "fatal: unable to access 'https://h/x/': SSL certificate problem: self-signed certificate",
            Trouble::NotTrusted,
        ),
        (
            "fatal: unable to access 'https://h/x/': server certificate verification failed. CAfile: none CRLfile: none",
            Trouble::NotTrusted,
        ),
        ("fatal: unable to access 'https://h/x/': Could not resolve host: h", Trouble::Unreachable),
        (
            "fatal: unable to access 'https://h/x/': Failed to connect to h port 443 after 1 ms: Couldn't connect to server",
            Trouble::Unreachable,
        ),
        (
            "ssh: connect to host h port 22: Connection refused\nfatal: Could not read from remote repository.",
            Trouble::Unreachable,
        ),
        (
            "fatal: unable to access 'https://h/x/': The requested URL returned error: 503",
            Trouble::Unreachable,
        ),
        ("ssh: connect to host h port 22: Connection timed out", Trouble::TimedOut),
        (
            "error: RPC failed; curl 28 Operation too slow. Less than 1000 bytes/sec transferred",
            Trouble::TimedOut,
        ),
        (
            "error: RPC failed; curl 56 Recv failure: Connection reset by peer\nfatal: early EOF",
            Trouble::HungUp,
        ),
        ("fatal: the remote end hung up unexpectedly", Trouble::HungUp),
        (
            "Connection closed by 127.0.0.1 port 22\nfatal: Could not read from remote repository.",
            Trouble::HungUp,
        ),
        (
            "fatal: unable to access 'https://h/x/': The requested URL returned error: 301",
            Trouble::Moved,
        ),
        (
            "error: RPC failed; HTTP 413 curl 22 The requested URL returned error: 413",
            Trouble::TooLarge,
        ),
        (
            "fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output",
            Trouble::DiskFull,
        ),
        (
            "error: object 1234: hasDotgit: contains '.git'\nfatal: fsck error in packed object\nfatal: fetch-pack: invalid index-pack output",
            Trouble::Damaged,
        ),
        (
            "remote: No space left on device\nfatal: the remote end hung up unexpectedly",
            Trouble::HungUp,
        ),
        ("something else", Trouble::Failed),
    ];

    #[test]
    fn gits_words_have_their_trouble() {
        for (words, expected) in WORDS {
            assert_eq!(Trouble::of(words), *expected, "{words}");
        }
    }

    #[test]
    fn a_detail_is_one_line_without_secrets_and_escape_sequences() {
        let stderr = "remote: \u{1b}[31myour token is t0ken\r\nand the repository exists.\n";
        assert_eq!(detail(stderr, &["t0ken"]), "remote: [31myour token is ***");
        assert!(detail(&"x".repeat(10_000), &[]).len() <= DETAIL_LIMIT);
    }
}
