//! What runs: where, how many, and how often it is started again.

use super::{DAY_S, Fallback, MOST_AGENTS, Setting, TakesEffect, integer};
use crate::kind::Kind;

/// The settings of this group, in the order in which documents and the API show them.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::database(
        "EXECUTION_ENVIRONMENT",
        Kind::Choice(core_types::task::ExecutionEnvironment::WORDS),
        Fallback::Text("host"),
        "Where agents run: as processes of this host, or each task in a container of its own.",
    ),
    Setting::database(
        "MAX_CONCURRENT_WORKERS",
        integer(1, 1024),
        Fallback::Capacity,
        "How many runs may be alive at once on this system; never without limit.",
    )
    .unit("runs"),
    Setting::database(
        "DISPATCHER_ENABLED",
        Kind::Boolean,
        Fallback::Text("true"),
        "Whether the process manager runs a dispatcher.",
    )
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "WORKER_COUNT",
        integer(0, MOST_AGENTS),
        Fallback::CapacityUpTo(4),
        "How many resident agents of the role `worker` the process manager runs on the host; one that is too many ends after its run.",
    )
    .unit("processes")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "TESTER_COUNT",
        integer(0, MOST_AGENTS),
        Fallback::Integer(1),
        "The same for the role `tester`.",
    )
    .unit("processes")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "DOCSER_COUNT",
        integer(0, MOST_AGENTS),
        Fallback::Integer(1),
        "The same for the role `docser`.",
    )
    .unit("processes")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_RESTART_DELAY_MS",
        integer(10, 60_000),
        Fallback::Integer(1000),
        "How long after its end a managed process that ended unasked is started again; doubles with each further time, up to a minute.",
    )
    .unit("milliseconds")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_RESTART_MAX_ATTEMPTS",
        integer(0, 1000),
        Fallback::Integer(8),
        "How often a managed process is started again within `PROCESS_RESTART_WINDOW_S` before it is left as `failed`.",
    )
    .unit("attempts")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_RESTART_WINDOW_S",
        integer(1, DAY_S),
        Fallback::Integer(600),
        "The time after which the restarts of a managed process are counted anew.",
    )
    .unit("seconds")
    .effective(TakesEffect::AtOnce),
    Setting::database(
        "PROCESS_STOP_GRACE_S",
        integer(0, 600),
        Fallback::Integer(30),
        "How long a managed process that is asked to end may take before it is killed.",
    )
    .unit("seconds")
    .effective(TakesEffect::AtOnce),
];
