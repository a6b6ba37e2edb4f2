//! What is counted while a run goes on, whatever the agent's program: tool calls and how they fared, and usage.

use std::collections::{BTreeSet, HashMap};

use core_types::usage::Usage;

/// Most ids that are told apart in one run; a run that makes more up only counts worse, not more memory.
pub(crate) const IDS: usize = 100_000;

/// The tool calls of a run.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    open: HashMap<String, String>,
    denied: BTreeSet<String>,
    denied_tools: BTreeSet<String>,
    answers: HashMap<String, bool>,
}

impl Calls {
    pub(crate) fn called(&mut self, id: &str, tool: &str) {
        if self.open.len() < IDS {
            self.open.insert(id.to_owned(), tool.to_owned());
        }
    }

    /// Takes note of a denial; `false` if it was known.
    pub(crate) fn denied(&mut self, id: &str, tool: &str) -> bool {
        self.denied_tools.insert(tool.to_owned());
        self.denied.len() < IDS && self.denied.insert(id.to_owned())
    }

    pub(crate) fn answered(&mut self, id: &str, is_error: bool, text: &str) {
        if self.answers.len() < IDS {
            self.answers.insert(id.to_owned(), !is_error || command_ran(text));
        }
    }

    /// How many were called.
    pub(crate) fn count(&self) -> usize {
        self.open.len().max(self.denied.len())
    }

    /// How many were denied.
    pub(crate) fn denials(&self) -> usize {
        self.denied.len()
    }

    /// Whether at least one did its work.
    pub(crate) fn any_fine(&self) -> bool {
        self.answers.iter().any(|(id, fine)| *fine && !self.denied.contains(id))
    }

    /// The denied tools, for people.
    pub(crate) fn denied_tools(&self) -> String {
        self.denied_tools.iter().map(|tool| format!("`{tool}`")).collect::<Vec<_>>().join(", ")
    }
}

/// A command that ends with a code other than 0 is reported as a tool error, but its tool worked.
fn command_ran(text: &str) -> bool {
    text.trim_start().starts_with("Exit code ")
}

pub(crate) fn greater(a: Usage, b: Usage) -> Usage {
    zip(a, b, u64::max, u32::max)
}

pub(crate) fn minus(a: Usage, b: Usage) -> Usage {
    zip(a, b, u64::saturating_sub, u32::saturating_sub)
}

/// Both together.
pub(crate) fn plus(a: Usage, b: Usage) -> Usage {
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
