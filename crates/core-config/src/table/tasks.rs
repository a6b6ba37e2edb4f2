//! What tasks may take, who hears of their end, and how long they are kept.

use core_types::notice::NoticeEvent;

use super::{DAY_S, Fallback, Setting, TakesEffect, Unit, integer};
use crate::kind::Kind;

/// The settings of this group, in the order in which documents and the API show them.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::database(
        "SESSION_RETENTION_DAYS",
        integer(1, 365),
        Fallback::Integer(14),
        "How long the sessions of `opencode` are kept after a task's last run, so that it can be continued.",
        "task を続きから行えるように、最後の run の後に `opencode` の session を保存する期間。",
    )
    .unit(Unit::Days),
    Setting::database(
        "TASK_TIMEBOX_S",
        integer(1, 7 * DAY_S),
        Fallback::Integer(3600),
        "How long a run of a task which sets no limit of its own may take.",
        "上限を指定しない task の、1つの run にかけられる時間。",
    )
    .unit(Unit::Seconds),
    Setting::database(
        "VERIFICATION_TIMEOUT_S",
        integer(1, DAY_S),
        Fallback::Integer(900),
        "How long one verification command may take.",
        "検証のコマンド1つにかけられる時間。",
    )
    .unit(Unit::Seconds),
    Setting::database(
        "CANCEL_GRACE_S",
        integer(0, 600),
        Fallback::Integer(10),
        "How long an agent that is asked to end may take before it is killed.",
        "エージェントに終了を求めてから、kill するまでの時間。",
    )
    .unit(Unit::Seconds),
    Setting::database(
        "TASK_MAX_ATTEMPTS",
        integer(1, 100),
        Fallback::Integer(3),
        "How often a task which sets no limit of its own is tried.",
        "上限を指定しない task を試行する回数。",
    )
    .unit(Unit::Attempts)
    .effective(TakesEffect::NextRequest),
    Setting::database(
        "TASK_TOKEN_LIMIT",
        integer(0, 1_000_000_000_000),
        Fallback::Integer(0),
        "How many tokens of all kinds a task which sets no limit of its own may use, over all its attempts; at the limit its run is stopped; 0 is unlimited.",
        "上限を指定しない task が、すべての試行を合わせて使える token の数(種類を問わず合計します)。達すると run を停止します。0 は無制限です。",
    )
    .unit(Unit::Tokens),
    Setting::database(
        "TASK_COST_LIMIT_USD",
        Kind::Usd,
        Fallback::Text("0"),
        "How much a task which sets no limit of its own may cost over all its attempts, as its command line estimates it; 0 is unlimited.",
        "上限を指定しない task に、すべての試行を合わせてかけられる費用(CLI の見積もり)。0 は無制限です。",
    )
    .unit(Unit::UsDollars),
    Setting::database(
        "DAILY_TOKEN_LIMIT",
        integer(0, 1_000_000_000_000),
        Fallback::Integer(0),
        "How many tokens of all kinds may be used on a day of UTC; at the limit runs are stopped and no task is claimed until the next day; 0 is unlimited.",
        "1日(UTC)に使える token の数(種類を問わず合計します)。達すると run を停止し、翌日まで task を claim しません。0 は無制限です。",
    )
    .unit(Unit::Tokens),
    Setting::database(
        "DAILY_COST_LIMIT_USD",
        Kind::Usd,
        Fallback::Text("0"),
        "How much may be spent on a day of UTC; each run sets aside what its task may still cost, or a quarter of this where the task has no limit, and no task is claimed when nothing is left; 0 is unlimited.",
        "1日(UTC)にかけられる費用。各 run は、その task にまだかかりうる額を確保します。task に上限がない場合は、この値の4分の1を確保します。残りがなければ task を claim しません。0 は無制限です。",
    )
    .unit(Unit::UsDollars),
    Setting::database(
        "AGENT_MEMORY_LIMIT_BYTES",
        integer(0, 1 << 50),
        Fallback::Integer(0),
        "How much memory an agent and what it starts may use; 0 is unlimited.",
        "エージェントと、それが起動したものが使えるメモリ。0 は無制限です。",
    )
    .unit(Unit::Bytes),
    Setting::database(
        "AGENT_PROCESS_LIMIT",
        integer(0, 4_194_304),
        Fallback::Integer(0),
        "How many processes and threads an agent and what it starts may have; 0 is unlimited.",
        "エージェントと、それが起動したものが持てるプロセスと thread の数。0 は無制限です。",
    )
    .unit(Unit::Processes),
    Setting::database(
        "BASE_BRANCH",
        Kind::Branch,
        Fallback::Empty,
        "The branch on which a task that names none is based; when empty, the one the repository's HEAD is on.",
        "基点を指定しない task の基点になる branch。空の場合は、リポジトリの HEAD が指す branch です。",
    ),
    Setting::database(
        "NOTIFY_ON",
        Kind::Words(NoticeEvent::WANTED),
        Fallback::Text("failed,blocked,paused"),
        "What people are told of: tasks that are done, failed or blocked, executors and dispatchers that are paused or go on.",
        "通知する出来事。task の完了・失敗・blocked と、executor と dispatcher の一時停止・再開です。",
    ),
    Setting::database(
        "NOTIFY_WEBHOOK_URL",
        Kind::SecretHttpUrl,
        Fallback::Empty,
        "The address to which notices are posted as JSON; when empty, nowhere.",
        "通知を JSON で POST するアドレス。空の場合は送りません。",
    )
    .reaching_host(),
    Setting::database(
        "NOTIFY_WEBHOOK_SECRET",
        Kind::Secret,
        Fallback::Empty,
        "The secret with which notices to the webhook are signed; when empty, they are not.",
        "webhook への通知の署名に使う秘密。空の場合は署名しません。",
    ),
    Setting::database(
        "NOTIFY_COMMAND",
        Kind::List,
        Fallback::Empty,
        "The program that is started for each notice, and its arguments; it gets the notice as JSON on its standard input; when empty, none.",
        "通知ごとに起動するプログラムと、その引数。通知は標準入力に JSON で渡します。空の場合は起動しません。",
    )
    .reaching_host(),
    Setting::database(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        Kind::HttpUrl,
        Fallback::Empty,
        "The address of a collector that is told a trace of each task by OTLP over HTTP, such as `http://127.0.0.1:4318`; when empty, none is.",
        "task ごとの trace を OTLP(HTTP)で受け取る collector のアドレス(例: `http://127.0.0.1:4318`)。空の場合は送りません。",
    )
    .reaching_host(),
    Setting::database(
        "OTEL_EXPORTER_OTLP_HEADERS",
        Kind::Secret,
        Fallback::Empty,
        "Headers for the collector of traces, as `name=value`, separated by commas.",
        "trace の collector に送る header。`name=value` をコンマで区切ります。",
    ),
    Setting::database(
        "TASK_RETENTION_DAYS",
        integer(0, 36_500),
        Fallback::Integer(0),
        "For how long tasks that are over are kept with their runs, agents that signed off, and notices; 0 is for ever.",
        "終わった task とその run、登録を外したエージェント、通知を保存する期間。0 は無期限です。",
    )
    .unit(Unit::Days),
];
