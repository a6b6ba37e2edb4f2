//! Handing a notice to a program of this host, on its standard input.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use futures_util::StreamExt as _;
use launcher::{
    handle::{Destroy, Handle},
    launcher::Launcher,
    outcome::{Outcome, StopCause},
    output::{LogContent, LogCursor, LogStream},
    spec::{Input, LaunchSpec, OutputLimits},
};
use store::notices::Notice;
use telemetry::chain::error_chain;

use crate::message::Message;

/// How long the program may take unless told.
pub(crate) const TIME: Duration = Duration::from_secs(30);
/// How much longer than it may take it may outlive whoever started it: so long it is given to end.
const MORE: Duration = Duration::from_secs(15);
/// How much of its output is kept.
const OUTPUT: OutputLimits = OutputLimits { head_bytes: 8 << 10, tail_bytes: 8 << 10 };
/// How much of its last words is told.
const WORDS: usize = 200;

/// Runs the program for one attempt at a notice.
///
/// # Errors
/// What went wrong, on one line.
pub(crate) async fn hand_over(
    launcher: &dyn Launcher,
    command: &[String],
    env: &BTreeMap<String, String>,
    notice: &Notice,
    within: Duration,
) -> Result<(), String> {
    let Some((program, args)) = command.split_first() else {
        return Err("no program is named".to_owned());
    };
    let mut spec = LaunchSpec::new(program, PathBuf::from("/"));
    spec.args = args.to_vec();
    spec.env = env.clone();
    spec.limits.wall = Some(within);
    spec.lease = Some(within + MORE);
    spec.output = OUTPUT;
    spec.labels = [("opentiger.notice".to_owned(), notice.id.to_string())].into();
    // An id of its own for each attempt: a launch id is used up by its first start.
    let id = format!("{}.{:x}", notice.id, notice.attempts);
    let id = id.parse().expect("a notice's id, a point and a number make a launch id");
    let text = format!("{}\n", Message::new(notice).to_json());
    let input = Input { stdin: text.into_bytes(), ..Input::default() };
    let launched = launcher.launch(&id, &spec, input).await;
    let handle = launched.map_err(|error| error_chain(&error).to_string())?.into_handle();
    let report = handle.exited().await;
    let how = match report.outcome {
        Outcome::Exited(0) => Ok(()),
        _ if report.cause == Some(StopCause::WallTime) => {
            Err(format!("the command did not end within {} s", within.as_secs()))
        }
        Outcome::Exited(code) => Err(format!("the command ended with exit status {code}")),
        Outcome::Signaled(signal) => Err(format!("the command was ended by signal {signal}")),
        Outcome::NeverStarted(failure) => Err(format!("the command did not start: {failure}")),
        Outcome::Lost(reason) => Err(format!("what became of the command is not known: {reason}")),
    };
    let result = match how {
        Ok(()) => Ok(()),
        Err(how) => Err(match last_words(&handle).await {
            Some(words) => format!("{how}: {words}"),
            None => how,
        }),
    };
    if let Err(error) = handle.destroy(Destroy::Everything).await {
        tracing::debug!(launch.id = %handle.id(), error = %error, "cannot remove an ended launch");
    }
    result
}

/// The last line that it printed as an error, cut.
async fn last_words(handle: &Handle) -> Option<String> {
    let mut said = Vec::new();
    let mut chunks = handle.logs(LogCursor::START);
    while let Some(Ok(chunk)) = chunks.next().await {
        match chunk.content {
            LogContent::Output { stream: LogStream::Stderr, data } => said.extend(&data),
            LogContent::Output { stream: LogStream::Stdout, .. } | LogContent::Gap { .. } => {}
        }
    }
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    let line: String = line.chars().filter(|c| !c.is_control()).take(WORDS).collect();
    Some(line)
}
