//! What a caller needs for each operation: one table, from the id of an operation to a right.
//!
//! A new route needs one line here, under the `operation_id` of its handler. Without one the route is closed to
//! everybody but callers with a key, and the test `every_operation_has_a_right_and_no_right_is_left_over` fails.

use core_types::words;

words! {
    /// What a caller may do. Each right is asked for on its own; a key or the token gives all of them.
    Right, "right" {
        /// Everybody who reaches this server: health. Nothing here may tell what is worked on, or cost much.
        Open = "open",
        /// See what there is: callers on this machine, and callers with a key.
        Read = "read",
        /// Make, cancel and repeat tasks: callers on this machine, and callers with a key.
        Work = "work",
        /// Change how the system runs: callers with a key, and callers on this machine unless that is switched off.
        Control = "control",
        /// Name what is started or talked to on the host: callers with a key.
        Host = "host",
    }
}

/// The right for each operation.
const RIGHTS: &[(&str, Right)] = &[
    ("health", Right::Open),
    ("readiness", Right::Open),
    // How much work there is, what it costs and who does it: as much as lists tell.
    ("showMetrics", Right::Read),
    ("openapi", Right::Read),
    ("listTasks", Right::Read),
    ("countTasks", Right::Read),
    ("showTask", Right::Read),
    ("listRunsOfTask", Right::Read),
    ("listRuns", Right::Read),
    ("showRun", Right::Read),
    ("diffTask", Right::Read),
    ("diffRun", Right::Read),
    ("showLog", Right::Read),
    ("listEvents", Right::Read),
    ("followEvents", Right::Read),
    ("listAgents", Right::Read),
    ("showAgent", Right::Read),
    ("listNotices", Right::Read),
    ("testNotices", Right::Control),
    ("planCleanup", Right::Read),
    ("cleanUp", Right::Control),
    ("showConfig", Right::Read),
    ("configHistory", Right::Read),
    ("listGates", Right::Read),
    ("tryGate", Right::Control),
    ("showUsage", Right::Read),
    ("listSelfTests", Right::Read),
    ("selfTest", Right::Control),
    // Each may start a program and cost a prompt.
    ("checkClaudeAuth", Right::Control),
    ("checkOpencodeAuth", Right::Control),
    ("showReadiness", Right::Control),
    ("listProcesses", Right::Read),
    ("showProcess", Right::Read),
    ("showProcessLog", Right::Read),
    ("createTask", Right::Work),
    ("createTasks", Right::Work),
    ("cancelTask", Right::Work),
    ("retryTask", Right::Work),
    // Keys that reach the host need a key besides; the handler sees which ones a change touches.
    ("changeConfig", Right::Control),
    ("startProcess", Right::Control),
    ("stopProcess", Right::Control),
    ("restartProcess", Right::Control),
    ("stopProcesses", Right::Control),
    ("startProcesses", Right::Control),
];

/// The right for an operation; the strictest one where the table has none.
pub(crate) fn right_for(operation: &str) -> Right {
    RIGHTS.iter().find(|(id, _)| *id == operation).map_or(Right::Host, |(_, right)| *right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::routes::operations;

    #[test]
    fn every_operation_has_a_right_and_no_right_is_left_over() {
        let mut document = crate::openapi::bare_document();
        let ids: Vec<String> = operations(&mut document)
            .map(|(path, method, operation)| {
                let id = operation.operation_id.clone();
                assert!(id.is_some(), "`{method} {path}` has no `operation_id`");
                id.unwrap_or_default()
            })
            .collect();
        for id in &ids {
            let entries = RIGHTS.iter().filter(|(known, _)| known == id).count();
            assert_eq!(
                entries, 1,
                "operation `{id}` needs exactly one line in `RIGHTS` in crates/api/src/access/rights.rs"
            );
        }
        for (known, _) in RIGHTS {
            assert!(
                ids.iter().any(|id| id == known),
                "`RIGHTS` has `{known}`, and no route has that `operation_id`"
            );
        }
    }

    #[test]
    fn an_operation_without_a_right_needs_the_strictest() {
        assert_eq!(right_for("no such operation"), Right::Host);
    }
}
