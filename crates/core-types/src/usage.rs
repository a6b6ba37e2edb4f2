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
