//! Repositories of this host and of others, and the mirrors of those.

use super::{DAY_S, Fallback, Setting, TakesEffect, integer};
use crate::kind::Kind;

/// The settings of this group, in the order in which documents and the API show them.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::database(
        "LOCAL_REPO_ROOTS",
        Kind::PathList,
        Fallback::Empty,
        "The directories under which a task's local repository must lie; when empty, it may lie anywhere; while its row in the database is faulty, it may lie nowhere.",
    )
    .reaching_host()
    .effective(TakesEffect::NextRequest),
    Setting::environment(
        "GIT_ALLOW_HTTP_LOOPBACK",
        Kind::Boolean,
        Fallback::Text("false"),
        "Whether the repository of a task may be behind unencrypted `http` where its host is this machine.",
    ),
    Setting::database(
        "GIT_TOKENS",
        Kind::HostTokens,
        Fallback::Empty,
        "Logins for repositories behind `https`, for each host one; for other hosts the credential helpers of the worker's user are asked.",
    ),
    Setting::database(
        "GIT_SSH_UNKNOWN_HOSTS",
        Kind::Choice(crate::settings::UnknownSshHosts::WORDS),
        Fallback::Text("refuse"),
        "What becomes of a repository behind `ssh` whose host's key is not known yet; `accept` remembers the key, and a key that changed is refused in any case.",
    )
    .reaching_host(),
    Setting::database(
        "GIT_SSH_CONFIG",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The configuration file that `ssh` reads for repositories; when empty, that of the worker's user.",
    )
    .reaching_host(),
    Setting::database(
        "GIT_CA_FILE",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The file of certificate authorities that are trusted for repositories behind `https`; when empty, the system's.",
    )
    .reaching_host(),
    Setting::database(
        "GIT_TIMEOUT_S",
        integer(1, DAY_S),
        Fallback::Integer(1800),
        "How long one call on the repository of another host, such as a fetch or a push, may take.",
    )
    .unit("seconds"),
    Setting::database(
        "GIT_MAX_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(10 << 30),
        "How much disk the mirror of one repository of another host may use; 0 is unlimited.",
    )
    .unit("bytes"),
    Setting::database(
        "MIRROR_KEEP_DAYS",
        integer(0, 3650),
        Fallback::Integer(30),
        "How long the mirror of a repository that no task uses is kept; 0 is for ever.",
    )
    .unit("days"),
];
