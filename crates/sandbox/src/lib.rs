//! What a sandboxed agent gets: image and network, a view of the host's login, the way to the host's services, limits.
//!
//! It does not start anything itself (`launcher`), knows no task's life (`agent`, `dispatch`), and
//! no database (`store`).

pub mod addresses;
pub mod disk;
pub mod image;
#[cfg(feature = "docker")]
pub mod premises;
pub mod relay;
pub mod rewrite;
pub mod sandbox;
pub mod view;
