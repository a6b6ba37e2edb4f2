//! How an agent's command line is called, what its output means, and what verdict follows.
//!
//! Everything here is a plain function from input to output: no process is started, nothing is read from the
//! machine, and the time is passed in. [`invocation`] speaks of the call, [`stream`] of the output, [`verdict`]
//! of the end; [`claude_code`] and [`opencode`] are the executors.

mod checks;
pub mod claude_code;
pub mod environment;
pub mod invocation;
mod judgement;
mod limits;
mod lines;
pub mod opencode;
pub mod prompt;
pub mod stream;
mod tally;
mod text;
pub mod verdict;
