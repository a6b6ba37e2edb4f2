//! What an error of a checkout means for the report of its run.

use checkout::error::CheckoutError;
pub(crate) use checkout::outcome::Step;
use core_types::outcome::RunReport;
use telemetry::chain::error_chain;

/// The report of a git step that failed.
pub(crate) fn report_of(step: Step, error: &CheckoutError) -> Box<RunReport> {
    let mut report = RunReport::new(checkout::outcome::outcome_of(step, error));
    report.message = Some(error_chain(error).to_string());
    report.hint = error.hint().map(str::to_owned);
    Box::new(report)
}
