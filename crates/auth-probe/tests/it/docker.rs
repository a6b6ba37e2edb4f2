//! Each reason in a sandbox, produced for real: containers of the shared engine, the real command lines in the image, a
//! scripted model behind the relay.
//!
//! Each check prints a line `reason | how | milliseconds | tokens`.

mod engine;
mod image;
mod programs;
mod provider;
mod readiness;
mod sharing;
mod world;
