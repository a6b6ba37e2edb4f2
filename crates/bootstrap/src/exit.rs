//! How a binary ends: what is printed, and the exit code.
//!
//! Codes: 0 done, 1 failure, 2 settings, 3 ended at once by a second signal.

use std::process::ExitCode;

use telemetry::chain::error_chain;

use crate::error::StartError;

/// The exit code of a process that was told twice to stop.
pub const FORCED: i32 = 3;

/// Prints why a program failed, if it did, and gives the exit code that says so.
#[must_use]
pub fn report(program: &str, result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(program, &error),
    }
}

#[expect(clippy::print_stderr, reason = "logging may not have been started")]
fn failure(program: &str, error: &anyhow::Error) -> ExitCode {
    let start = error.downcast_ref::<StartError>();
    match start {
        // Its report has a line for each fault, which a chain would join.
        Some(StartError::Settings(faults)) => eprintln!("{program}: {faults}"),
        Some(_) | None => eprintln!("{program}: {}", error_chain(error.as_ref())),
    }
    if let Some(hint) = start.and_then(StartError::hint) {
        eprintln!("hint: {hint}");
    }
    start.map_or(ExitCode::FAILURE, StartError::exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_an_exit_code_of_their_own() {
        let environment = [("CANCEL_GRACE_S".into(), "soon".into())];
        let faults = core_config::load::load(environment, None).unwrap_err();
        let error = anyhow::Error::from(StartError::Settings(faults)).context("start");
        assert_eq!(report("test", Err(error)), ExitCode::from(2));
        assert_eq!(report("test", Err(anyhow::anyhow!("no"))), ExitCode::FAILURE);
        assert_eq!(report("test", Ok(())), ExitCode::SUCCESS);
    }
}
