//! A run's events as lines for people.

use client::telling::{Told, describe, lines_of};
use core_types::event::NumberedEvent;
use jiff::Timestamp;

use crate::console::line;

/// Widest line of a text that is not the agent's own words.
const WIDTH: usize = 110;

/// Tells a run's events as they come, each with its time since the task was submitted.
#[derive(Debug)]
pub(crate) struct Teller {
    since: Timestamp,
}

impl Teller {
    /// Tells times counted from `since`.
    #[must_use]
    pub(crate) const fn new(since: Timestamp) -> Self {
        Self { since }
    }

    /// Tells one event.
    pub(crate) fn tell(&self, event: &NumberedEvent) {
        let seconds = event.at.duration_since(self.since).as_secs_f64();
        let Told { who, text, .. } = describe(&event.event);
        for (index, part) in lines_of(&text, WIDTH).into_iter().enumerate() {
            let time = if index == 0 { format!("{seconds:6.2} s") } else { " ".repeat(8) };
            let who = if index == 0 { who } else { "" };
            line(format!("  {time}  {who:<9} {part}"));
        }
    }
}
