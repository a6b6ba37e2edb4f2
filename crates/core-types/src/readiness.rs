//! How the parts of a working system are found: the words.

use crate::words;

words! {
    /// How a check came out.
    CheckState, "state of a check" {
        /// It is well.
        Ok = "ok",
        /// It does not stand in the way of a task, and should be known.
        Warn = "warn",
        /// It stands in the way of tasks.
        Fail = "fail",
        /// It could not be found out.
        Unknown = "unknown",
    }
}
