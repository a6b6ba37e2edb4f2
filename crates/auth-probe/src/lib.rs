//! Whether an agent could run right now, and why not.
//!
//! [`checker`] is what callers ask: it remembers an answer for a minute and lets concurrent callers share one check.
//! [`probe`] is the check itself, cheap steps before dear ones; [`place`] is where it runs, [`host`] and [`sandboxed`] make such places. What the words mean and what
//! to do about each is in `core_types::auth`, how the command lines are called in `executor`.
//!
//! A check never renews or changes a login of Claude Code: the command line gets a copy without what it
//! could renew it with. opencode renews its own where it has to, as in a run. A check keeps nothing running: what a check started is dead when it answers.

pub mod checker;
mod credentials;
pub mod finding;
pub mod host;
pub mod machine;
mod owner;
pub mod part;
pub mod place;
pub mod probe;
mod run;
pub mod sandboxed;
mod scratch;
