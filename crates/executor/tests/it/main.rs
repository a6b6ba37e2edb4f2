//! What the executor makes of an agent's output and end.

mod bytes;
mod lines;
mod model_failures;
mod opencode;
mod verdicts;
