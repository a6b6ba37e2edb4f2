//! The scripted model, asked over HTTP and by the real CLI.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod claude;
mod hostile;
mod http_api;
mod opencode;
mod program;
mod run;
