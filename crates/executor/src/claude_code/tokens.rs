//! The tokens of a run of Claude Code.

use std::collections::HashMap;

use core_types::usage::Usage;

use crate::{
    claude_code::message::Share,
    tally::{IDS, greater, minus, plus},
};

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
}
