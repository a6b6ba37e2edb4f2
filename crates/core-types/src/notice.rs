//! What people are told of.

use crate::words;

words! {
    /// What a notice is about.
    NoticeEvent, "event to be told of" {
        /// A task is done.
        Done = "done",
        /// A task failed for good.
        Failed = "failed",
        /// A task waits for a person.
        Blocked = "blocked",
        /// An environment takes no tasks.
        Paused = "paused",
        /// An environment takes tasks again.
        Resumed = "resumed",
        /// Somebody wants to see whether notices arrive.
        Test = "test",
    }
}

impl NoticeEvent {
    /// The words of those that may be asked for; a test always is.
    pub const WANTED: &'static [&'static str] = &["done", "failed", "blocked", "paused", "resumed"];
}

words! {
    /// How a notice stands.
    NoticeState, "state of a notice" {
        /// It is not delivered yet.
        Pending = "pending",
        /// It is delivered.
        Sent = "sent",
        /// Nobody asked for it.
        Unwanted = "unwanted",
        /// It was tried as often as it is worth.
        Failed = "failed",
    }
}
