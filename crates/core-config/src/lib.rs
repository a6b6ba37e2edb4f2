//! The settings of openTiger: one declared table, three layers, one report of everything that is wrong.
//!
//! The layers are defaults, rows of the table `system_config`, and the environment; the last one wins. Which keys
//! exist, what they allow and what they mean is declared once, in [`table::SETTINGS`]; validation, the pages of
//! settings under `docs/` and the API's answer all come from there.
//!
//! It does no I/O but to learn what the machine bears: the environment and the database's rows are handed in. It does not
//! decide what a setting causes.

pub mod database;
pub mod document;
pub mod fault;
pub mod groups;
pub mod kind;
pub mod load;
pub mod provenance;
pub mod sandboxed;
pub mod settings;
pub mod table;
pub mod wording;

mod capacity;
mod environment;
mod layer;
mod nearest;
mod sums;
