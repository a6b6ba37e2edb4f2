//! What runs: where, how many, and how often it is started again.

use super::{DAY_S, Fallback, MOST_AGENTS, Setting, TakesEffect, Unit, integer};
use crate::kind::Kind;

/// The settings of this group, in the order in which documents and the API show them.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::database(
        "EXECUTION_ENVIRONMENT",
        Kind::Choice(core_types::task::ExecutionEnvironment::WORDS),
        Fallback::Text("host"),
        "Where agents run: as processes of this host, or each task in a container of its own.",
        "エージェントの動く場所。この host のプロセスとして、または task ごとに専用の container で動きます。",
    ),
    Setting::database(
        "MAX_CONCURRENT_WORKERS",
        integer(1, 1024),
        Fallback::Capacity,
        "How many runs may be alive at once on this system; never without limit.",
        "システム全体で同時に生きていられる run の数。無制限にはできません。",
    )
    .unit(Unit::Runs),
    Setting::database(
        "DISPATCHER_ENABLED",
        Kind::Boolean,
        Fallback::Text("true"),
        "Whether the process manager runs a dispatcher.",
        "process manager が dispatcher を動かすか。",
    )
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "WORKER_COUNT",
        integer(0, MOST_AGENTS),
        Fallback::CapacityUpTo(4),
        "How many resident agents of the role `worker` the process manager runs on the host; one that is too many ends after its run.",
        "process manager が host で常駐させる、role `worker` のエージェントの数。余分なエージェントは、実行中の run を終えてから停止します。",
    )
    .unit(Unit::Processes)
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "TESTER_COUNT",
        integer(0, MOST_AGENTS),
        Fallback::Integer(1),
        "The same for the role `tester`.",
        "role `tester` についての同じ数。",
    )
    .unit(Unit::Processes)
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "DOCSER_COUNT",
        integer(0, MOST_AGENTS),
        Fallback::Integer(1),
        "The same for the role `docser`.",
        "role `docser` についての同じ数。",
    )
    .unit(Unit::Processes)
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_RESTART_DELAY_MS",
        integer(10, 60_000),
        Fallback::Integer(1000),
        "How long after its end a managed process that ended unasked is started again; doubles with each further time, up to a minute.",
        "管理されるプロセスが意図せず終了したとき、再び起動するまでの時間。繰り返すたびに倍になり、最大で1分です。",
    )
    .unit(Unit::Milliseconds)
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_RESTART_MAX_ATTEMPTS",
        integer(0, 1000),
        Fallback::Integer(8),
        "How often a managed process is started again within `PROCESS_RESTART_WINDOW_S` before it is left as `failed`.",
        "`PROCESS_RESTART_WINDOW_S` の間に、管理されるプロセスを再び起動する回数。これを超えると `failed` になり、起動しません。",
    )
    .unit(Unit::Attempts)
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_RESTART_WINDOW_S",
        integer(1, DAY_S),
        Fallback::Integer(600),
        "The time after which the restarts of a managed process are counted anew.",
        "管理されるプロセスの再起動の回数を数え直すまでの時間。",
    )
    .unit(Unit::Seconds)
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_STOP_GRACE_S",
        integer(0, 600),
        Fallback::Integer(30),
        "How long a managed process that is asked to end may take before it is killed.",
        "管理されるプロセスに終了を求めてから、kill するまでの時間。",
    )
    .unit(Unit::Seconds)
    .effective(TakesEffect::AtOnce),
];
