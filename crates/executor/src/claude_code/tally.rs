//! What is counted while a run goes on: tool calls and how they fared, and tokens.

use std::collections::{BTreeSet, HashMap};

use core_types::usage::Usage;

use crate::claude_code::message::Share;

/// Most ids that are told apart in one run; a run that makes more up only counts worse, not more memory.
const IDS: usize = 100_000;

/// The tool calls of a run.
#[derive(Debug, Default)]
pub(super) struct Calls {
    open: HashMap<String, String>,
    denied: BTreeSet<String>,
    denied_tools: BTreeSet<String>,
    answers: HashMap<String, bool>,
}

impl Calls {
    pub(super) fn called(&mut self, id: &str, tool: &str) {
        if self.open.len() < IDS {
            self.open.insert(id.to_owned(), tool.to_owned());
        }
    }

    /// Takes note of a denial; `false` if it was known.
    pub(super) fn denied(&mut self, id: &str, tool: &str) -> bool {
        self.denied_tools.insert(tool.to_owned());
        self.denied.len() < IDS && self.denied.insert(id.to_owned())
    }

    pub(super) fn answered(&mut self, id: &str, is_error: bool, text: &str) {
        if self.answers.len() < IDS {
            self.answers.insert(id.to_owned(), !is_error || command_ran(text));
        }
    }

    /// How many were called.
    pub(super) fn count(&self) -> usize {
        self.open.len().max(self.denied.len())
    }

    /// How many were denied.
    pub(super) fn denials(&self) -> usize {
        self.denied.len()
    }

    /// Whether at least one did its work.
    pub(super) fn any_fine(&self) -> bool {
        self.answers.iter().any(|(id, fine)| *fine && !self.denied.contains(id))
    }

    /// The denied tools, for people.
    pub(super) fn denied_tools(&self) -> String {
        self.denied_tools.iter().map(|tool| format!("`{tool}`")).collect::<Vec<_>>().join(", ")
    }
}

/// A command that ends with a code other than 0 is reported as a tool error, but its tool worked.
fn command_ran(text: &str) -> bool {
    text.trim_start().starts_with("Exit code ")
}

/// Tokens as final words tell them, and as the model's answers do for the time in between.
///
/// One answer comes as several lines with the same id, each with the answer's usage so far.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    by_answer: HashMap<String, Usage>,
    sum: Usage,
    told: Usage,
    sum_at_told: Usage,
}

impl Tokens {
    pub(super) fn add(&mut self, id: Option<&str>, usage: Usage) {
        let before = id.and_then(|id| self.by_answer.get(id)).copied();
        let now = before.map_or(usage, |before| greater(before, usage));
        self.sum = plus(self.sum, minus(now, before.unwrap_or_default()));
        if before.is_none() && (usage.total_tokens() > 0) {
            self.sum.turns = self.sum.turns.saturating_add(1);
        }
        if let Some(id) = id
            && self.by_answer.len() < IDS
        {
            self.by_answer.insert(id.to_owned(), now);
        }
    }

    /// Takes what a final word told, which is more exact than what was summed up to it.
    pub(super) fn told(&mut self, usage: Usage, share: Share) {
        self.told = match share {
            Share::SinceLast => plus(self.told, usage),
            Share::Total => usage,
        };
        self.sum_at_told = self.sum;
    }

    /// All so far: what was told, and what was seen after that.
    pub(super) fn all(&self) -> Usage {
        plus(self.told, minus(self.sum, self.sum_at_told))
    }
}

fn greater(a: Usage, b: Usage) -> Usage {
    zip(a, b, u64::max, u32::max)
}

fn minus(a: Usage, b: Usage) -> Usage {
    zip(a, b, u64::saturating_sub, u32::saturating_sub)
}

/// Both together.
pub(super) fn plus(a: Usage, b: Usage) -> Usage {
    zip(a, b, u64::saturating_add, u32::saturating_add)
}

fn zip(a: Usage, b: Usage, with: fn(u64, u64) -> u64, turns: fn(u32, u32) -> u32) -> Usage {
    Usage {
        input_tokens: with(a.input_tokens, b.input_tokens),
        output_tokens: with(a.output_tokens, b.output_tokens),
        cache_read_tokens: with(a.cache_read_tokens, b.cache_read_tokens),
        cache_write_tokens: with(a.cache_write_tokens, b.cache_write_tokens),
        cost_microusd: with(a.cost_microusd, b.cost_microusd),
        turns: turns(a.turns, b.turns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(input: u64, output: u64) -> Usage {
        Usage { input_tokens: input, output_tokens: output, ..Usage::default() }
    }

    #[test]
    fn lines_of_one_answer_count_once() {
        let mut sum = Tokens::default();
        sum.add(Some("a"), tokens(10, 1));
        sum.add(Some("a"), tokens(10, 7));
        sum.add(Some("b"), tokens(20, 2));
        assert_eq!(sum.all(), Usage { turns: 2, ..tokens(30, 9) });
    }

    #[test]
    fn final_words_count_for_what_came_before_them() {
        let mut sum = Tokens::default();
        sum.add(Some("a"), tokens(10, 1));
        sum.told(Usage { cost_microusd: 5, turns: 1, ..tokens(10, 40) }, Share::SinceLast);
        sum.add(Some("b"), tokens(20, 2));
        assert_eq!(sum.all(), Usage { cost_microusd: 5, turns: 2, ..tokens(30, 42) });
        sum.told(Usage { cost_microusd: 6, turns: 1, ..tokens(20, 50) }, Share::SinceLast);
        assert_eq!(sum.all(), Usage { cost_microusd: 11, turns: 2, ..tokens(30, 90) });
        sum.told(tokens(7, 7), Share::Total);
        assert_eq!(sum.all(), tokens(7, 7));
    }

    #[test]
    fn a_command_that_failed_is_a_tool_that_worked() {
        let mut calls = Calls::default();
        calls.called("1", "Bash");
        calls.answered("1", true, "Exit code 1\n2 tests failed");
        assert!(calls.any_fine());
    }

    #[test]
    fn a_denied_call_is_not_fine_whatever_its_answer() {
        let mut calls = Calls::default();
        calls.called("1", "Bash");
        calls.answered("1", false, "ok");
        assert!(calls.denied("1", "Bash"));
        assert!(!calls.denied("1", "Bash"));
        assert!(!calls.any_fine());
        assert_eq!(calls.denied_tools(), "`Bash`");
    }
}
