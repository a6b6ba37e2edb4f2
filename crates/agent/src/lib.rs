//! The life of one run: from a handed-over assignment to its finish.
//!
//! Owns the order of a run (checkout, agent, everything dead, seal, verification, collect, finish), its heartbeat
//! and its events. It does not decide which task runs where (`dispatch`), how a CLI is spoken to (`executor`), how
//! processes start and end (`launcher`), or what a row means (`store`).

pub mod around;
mod calling;
pub mod heartbeat;
pub mod ledger;
mod life;
pub mod meter;
mod past;
mod patience;
pub mod policy;
pub mod recorder;
pub mod resident;
pub mod run;
pub mod sandboxed;
pub mod session;
pub mod sessions;
mod set_aside;
mod trouble;
pub mod verification;
