//! `--check-config`: says whether the environment would let a binary start, and starts nothing.

use crate::{error::StartError, start::first_settings};

/// Loads the settings from the environment alone and prints that they can be used.
///
/// A program that serves the API is asked for more than others. Rows of the database are not looked at: they do not stop a start.
///
/// # Errors
/// [`StartError::Settings`] with the whole report; [`StartError::Logging`] for a log filter that makes no sense.
#[expect(clippy::print_stdout, reason = "the answer of a command to its user")]
pub fn check_config(serves_api: bool) -> Result<(), StartError> {
    let loaded = first_settings(serves_api).map_err(StartError::Settings)?;
    telemetry::log::check_filter(&loaded.settings.log).map_err(StartError::Logging)?;
    println!("the settings of the environment can be used");
    Ok(())
}
