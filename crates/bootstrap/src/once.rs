//! What a program does first that has neither settings nor a database of its own: a worker in a sandbox.

use std::io;

use telemetry::log::{Format, InitError, LogOptions};
use tokio_util::sync::CancellationToken;

use crate::{secrecy, signals::StopSignals};

/// Closes the memory and the environment of this process to others of its user: call it before a secret is read.
///
/// # Errors
/// The system's, where it does not let this be done.
pub fn hide_memory() -> io::Result<()> {
    secrecy::hide_memory()
}

/// Starts logging to standard error, one JSON object for each line.
///
/// # Errors
/// Where something logs already.
pub fn start_logging() -> Result<(), InitError> {
    telemetry::log::init(&LogOptions { filter: "info".to_owned(), format: Format::Json })
}

/// A token that the first signal to stop cancels; the second one ends the process.
///
/// # Errors
/// The system's, where signals cannot be heard.
pub fn stop_token() -> io::Result<CancellationToken> {
    let signals = StopSignals::new()?;
    let stop = CancellationToken::new();
    let obey = signals.obey(stop.clone(), CancellationToken::new());
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with the process, which does nothing else"
    )]
    tokio::spawn(obey);
    Ok(stop)
}
