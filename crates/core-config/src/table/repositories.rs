//! Repositories of this host and of others, and the mirrors of those.

use super::{DAY_S, Fallback, Setting, TakesEffect, Unit, integer};
use crate::kind::Kind;

/// The settings of this group, in the order in which documents and the API show them.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::database(
        "LOCAL_REPO_ROOTS",
        Kind::PathList,
        Fallback::Empty,
        "The directories under which a task's local repository must lie; when empty, it may lie anywhere; while its row in the database is faulty, it may lie nowhere.",
        "task の local のリポジトリを置けるディレクトリ。空の場合はどこにでも置けます。データベースの値に誤りがある間は、どこにも置けません。",
    )
    .reaching_host()
    .effective(TakesEffect::NextRequest),
    Setting::environment(
        "GIT_ALLOW_HTTP_LOOPBACK",
        Kind::Boolean,
        Fallback::Text("false"),
        "Whether the repository of a task may be behind unencrypted `http` where its host is this machine.",
        "このマシンにある task のリポジトリに限り、暗号化されない `http` を許可するか。",
    ),
    Setting::database(
        "GIT_TOKENS",
        Kind::HostTokens,
        Fallback::Empty,
        "Logins for repositories behind `https`, for each host one; for other hosts the credential helpers of the worker's user are asked.",
        "`https` のリポジトリの login。host ごとに1つです。ほかの host については、worker のユーザーの credential helper に問い合わせます。",
    ),
    Setting::database(
        "GIT_SSH_UNKNOWN_HOSTS",
        Kind::Choice(crate::settings::UnknownSshHosts::WORDS),
        Fallback::Text("refuse"),
        "What becomes of a repository behind `ssh` whose host's key is not known yet; `accept` remembers the key, and a key that changed is refused in any case.",
        "`ssh` のリポジトリの host key が未知の場合の扱い。`accept` は key を記憶します。変わった key はどちらの場合も拒否します。",
    )
    .reaching_host(),
    Setting::database(
        "GIT_SSH_CONFIG",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The configuration file that `ssh` reads for repositories; when empty, that of the worker's user.",
        "リポジトリに接続する `ssh` が読む設定ファイル。空の場合は worker のユーザーのものです。",
    )
    .reaching_host(),
    Setting::database(
        "GIT_CA_FILE",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The file of certificate authorities that are trusted for repositories behind `https`; when empty, the system's.",
        "`https` のリポジトリについて信頼する認証局のファイル。空の場合はシステムのものです。",
    )
    .reaching_host(),
    Setting::database(
        "GIT_TIMEOUT_S",
        integer(1, DAY_S),
        Fallback::Integer(1800),
        "How long one call on the repository of another host, such as a fetch or a push, may take.",
        "ほかの host のリポジトリに対する fetch や push など、1回の呼び出しにかけられる時間。",
    )
    .unit(Unit::Seconds),
    Setting::database(
        "GIT_MAX_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(10 << 30),
        "How much disk the mirror of one repository of another host may use; 0 is unlimited.",
        "ほかの host のリポジトリ1つの mirror が使えるディスク。0 は無制限です。",
    )
    .unit(Unit::Bytes),
    Setting::database(
        "MIRROR_KEEP_DAYS",
        integer(0, 3650),
        Fallback::Integer(30),
        "How long the mirror of a repository that no task uses is kept; 0 is for ever.",
        "どの task も使わないリポジトリの mirror を残す期間。0 は無期限です。",
    )
    .unit(Unit::Days),
];
