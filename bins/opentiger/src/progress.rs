//! What is under way: a line that moves on a terminal, a line for each step elsewhere.

use std::time::{Duration, Instant};

use crate::{console::Console, units::length};

const FRAMES: &[&str] = &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// How often the line moves.
pub(crate) const BEAT: Duration = Duration::from_millis(80);

/// Tells what is under way on standard error.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    console: &'a Console,
    begun: Instant,
    step: String,
    beat: usize,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(console: &'a Console) -> Self {
        Self { console, begun: Instant::now(), step: String::new(), beat: 0 }
    }

    /// Says what is under way now; the same step again only moves the line.
    pub(crate) fn step(&mut self, step: &str) {
        let new = self.step != step;
        if new {
            step.clone_into(&mut self.step);
        }
        if self.console.shows_progress() {
            self.beat += 1;
            let frame = FRAMES.get(self.beat % FRAMES.len()).copied().unwrap_or_default();
            self.console.moving(&format!("{frame} {step} ({})", length(self.begun.elapsed())));
        } else if new && !self.console.json {
            self.console.remark(step);
        }
    }

    /// Does something while the line moves.
    pub(crate) async fn during<T>(&mut self, step: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            self.step(step);
            // Cancel safe: the work is pinned outside and goes on in the next round.
            if let Ok(done) = tokio::time::timeout(BEAT, &mut work).await {
                return done;
            }
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.console.shows_progress() {
            self.console.still();
        }
    }
}
