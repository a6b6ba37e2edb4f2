//! A run's events as lines for people.

use client::telling::{Told, Tone, describe, lines_of};
use core_types::event::RunEvent;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::console::{Console, Style};

/// How much room time and speaker take.
const MARGIN: usize = 23;

/// Tells events as they come, each with its time since the first one of its run.
#[derive(Debug)]
pub(crate) struct Teller<'a> {
    console: &'a Console,
    since: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Numbered {
    at: Timestamp,
    event: Value,
}

impl<'a> Teller<'a> {
    pub(crate) const fn new(console: &'a Console) -> Self {
        Self { console, since: None }
    }

    /// Tells one event, as the API shows it.
    pub(crate) fn tell(&mut self, event: &Value) -> std::io::Result<()> {
        self.console.value(event)?;
        let Ok(Numbered { at, event }) = Numbered::deserialize(event) else {
            return Ok(());
        };
        let seconds = at.duration_since(*self.since.get_or_insert(at)).as_secs_f64();
        let told = RunEvent::deserialize(&event).map(|event| describe(&event));
        // A newer server may know more kinds.
        let unknown = |_| Told { tone: Tone::Dim, who: "event", text: event.to_string() };
        let Told { tone, who, text } = told.unwrap_or_else(unknown);
        let style = style(tone);
        let width = usize::from(self.console.width).saturating_sub(MARGIN).max(20);
        for (index, part) in lines_of(&text, width).into_iter().enumerate() {
            let (time, who) =
                if index == 0 { (format!("{seconds:8.1} s"), who) } else { (" ".repeat(10), "") };
            let who = format!("  {who:<9} ");
            self.console.parts(&[(Style::Dim, &time), (style, &who), (Style::Plain, &part)])?;
        }
        Ok(())
    }
}

const fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::Plain,
        Tone::Dim => Style::Dim,
        Tone::Words => Style::Bold,
        Tone::Step => Style::Cyan,
        Tone::Good => Style::Green,
        Tone::Odd => Style::Yellow,
        Tone::Bad => Style::Red,
    }
}
