//! What a run used: tokens, money, turns.

use serde::{Deserialize, Serialize};

/// Tokens, money and turns of one run, summed over all its model calls. Known also for failed runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens sent that no cache served.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Tokens sent that a cache served.
    pub cache_read_tokens: u64,
    /// Tokens sent and written to a cache.
    pub cache_write_tokens: u64,
    /// Estimated price in millionths of a US dollar, as the agent's CLI computes it.
    pub cost_microusd: u64,
    /// Turns of the agent.
    pub turns: u32,
}

impl Usage {
    /// All tokens together.
    #[must_use]
    pub const fn total_tokens(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.output_tokens)
            .saturating_add(self.cache_read_tokens)
            .saturating_add(self.cache_write_tokens)
    }
}

/// What may be spent; absent is without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpendLimits {
    /// Tokens of a task that sets no limit of its own, over all its runs.
    pub task_tokens: Option<u64>,
    /// Money of a task that sets no limit of its own, over all its runs, in millionths of a US dollar.
    pub task_cost_microusd: Option<u64>,
    /// Tokens of a day of UTC, over all tasks.
    pub day_tokens: Option<u64>,
    /// Money of a day of UTC, over all tasks, in millionths of a US dollar.
    pub day_cost_microusd: Option<u64>,
}

impl SpendLimits {
    /// Whether a day has a limit at all.
    #[must_use]
    pub const fn limits_days(&self) -> bool {
        self.day_tokens.is_some() || self.day_cost_microusd.is_some()
    }
}

/// Millionths of a US dollar for people, such as `1.25 USD`.
#[must_use]
pub fn usd_text(microusd: u64) -> String {
    let (dollars, rest) = (microusd / 1_000_000, microusd % 1_000_000);
    let digits = format!("{rest:06}");
    let digits = digits.trim_end_matches('0');
    format!("{dollars}.{digits:0<2} USD")
}

/// The most dollars that [`parse_usd`] takes.
const MOST_USD: u64 = 1_000_000;

/// Reads an amount of US dollars, such as `2.50`, as millionths of one: digits, and up to six decimals.
#[must_use]
pub fn parse_usd(text: &str) -> Option<u64> {
    let (dollars, decimals) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if dollars.is_empty() || decimals.len() > 6 || !digits(dollars) || !digits(decimals) {
        return None;
    }
    let dollars: u64 = dollars.parse().ok()?;
    let millionths: u64 = format!("{decimals:0<6}").parse().ok()?;
    let amount = dollars.checked_mul(1_000_000)?.checked_add(millionths)?;
    (amount <= MOST_USD * 1_000_000).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_shown_with_two_decimals_or_as_many_as_it_has() {
        let texts = [0, 1_250_000, 2_000_000, 1, 120_034].map(usd_text);
        assert_eq!(texts, ["0.00 USD", "1.25 USD", "2.00 USD", "0.000001 USD", "0.120034 USD"]);
    }

    #[test]
    fn an_amount_is_read_to_the_millionth() {
        for (text, amount) in
            [("0", 0), ("2.5", 2_500_000), ("0.000001", 1), ("1000000", 1_000_000_000_000)]
        {
            assert_eq!(parse_usd(text), Some(amount), "{text}");
        }
        for text in
            ["", ".", "1.", ".1", "-1", "1e5", "1.0000001", "1000000.1", "99999999999999999999"]
        {
            assert_eq!(parse_usd(text), None, "{text}");
        }
    }
}
