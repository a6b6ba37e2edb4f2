//! The API server as a launch that outlives the command that made it.
//!
//! Each start is a generation of its own: `api-server-1`, `api-server-2`, … Two commands that start at the same time take
//! the same id, and the launcher makes one launch of it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use core_config::table::setting;
use core_types::label;
use launcher::{
    handle::{Handle, LaunchState},
    launcher::{Discovered, Launcher as _},
    outcome::{ExitReport, Outcome},
    spec::{Input, LaunchSpec, OutputLimits, SecretValue, StopPolicy},
};

use super::state::{StateDir, output};
use crate::{code::Code, failure::Failure, surroundings::Surroundings};

/// What the launch is labelled as.
pub(crate) const PART: &str = "api-server";
/// The programs that make up a system, all beside each other.
const PROGRAMS: &[&str] = &["api-server", "dispatcher", "worker"];
/// How long it may take to end: requests and changes that are under way end within ten seconds.
const GRACE: Duration = Duration::from_secs(20);
/// It may run for months: its first lines and its last ones.
const OUTPUT: OutputLimits = OutputLimits { head_bytes: 1 << 20, tail_bytes: 16 << 20 };
/// Variables besides the agents' own list that the programs may see.
const MACHINE: &[&str] = &["XDG_DATA_HOME", "RUST_BACKTRACE"];
/// How many of its last lines are shown where it says nothing of its end.
const TAIL: usize = 12;

/// Starts it, or finds the one that is being started.
pub(crate) async fn start(
    state: &StateDir,
    surroundings: &Surroundings,
) -> Result<Handle, Failure> {
    let program = program()?;
    let found = state.launches().await?;
    let ours: Vec<&Discovered> =
        found.iter().filter(|launch| generation(launch).is_some()).collect();
    let running = ours.iter().find(|launch| !matches!(launch.state, LaunchState::Ended(_)));
    if let Some(running) = running
        && let Ok(handle) = state.launcher.attach(&running.record).await
    {
        return Ok(handle);
    }
    let next = ours.iter().filter_map(|launch| generation(launch)).max().unwrap_or(0) + 1;
    let id =
        format!("{PART}-{next}").parse().map_err(|error| Failure::of("name the launch", &error))?;
    let spec = spec(program, state);
    let launched = state.launcher.launch(&id, &spec, input(state, surroundings)).await;
    let launched = launched.map_err(|error| Failure::of("start `api-server`", &error))?;
    Ok(launched.into_handle())
}

fn generation(launch: &Discovered) -> Option<u64> {
    let number = launch.id.as_str().strip_prefix(PART)?.strip_prefix('-')?;
    number.parse().ok()
}

fn program() -> Result<PathBuf, Failure> {
    let own =
        std::env::current_exe().map_err(|error| Failure::of("find the own program", &error))?;
    let directory = own.parent().map(PathBuf::from).unwrap_or_default();
    let missing: Vec<&str> =
        PROGRAMS.iter().copied().filter(|name| !directory.join(name).is_file()).collect();
    if missing.is_empty() {
        return Ok(directory.join(PART));
    }
    let packages: String = missing.iter().map(|name| format!(" -p {name}")).collect();
    Err(Failure::new(
        Code::Failed,
        format!("`{}` has no {}", directory.display(), missing.join(", ")),
    )
    .with_hint(format!("install them beside `opentiger`, or build them: `cargo build{packages}`")))
}

fn spec(program: PathBuf, state: &StateDir) -> LaunchSpec {
    let mut spec = LaunchSpec::new(program, &state.path);
    spec.output = OUTPUT;
    spec.stop = StopPolicy { grace: GRACE, ..StopPolicy::default() };
    spec.labels.insert(label::PART.to_owned(), PART.to_owned());
    spec
}

/// Its whole environment goes the way of secrets, so that no file of the launch holds any of it. The variables of the
/// command line itself, a caller's key among them, stay behind.
fn input(state: &StateDir, surroundings: &Surroundings) -> Input {
    let mut variables: BTreeMap<String, String> =
        executor::environment::allow_list(surroundings.variables());
    for (name, value) in surroundings.variables() {
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else {
            continue;
        };
        if setting(&name).is_some() || MACHINE.contains(&name.as_str()) {
            variables.insert(name, value);
        }
    }
    let place = state.path.to_string_lossy().into_owned();
    variables.insert("OPENTIGER_STATE_DIR".to_owned(), place);
    let secret_env = variables.into_iter().map(|(name, value)| (name, SecretValue::new(value)));
    Input { secret_env: secret_env.collect(), ..Input::default() }
}

/// The failure of a server that ended instead of serving, in its own words.
pub(crate) async fn ended(handle: &Handle, report: &ExitReport) -> Failure {
    let said = output(handle).await;
    let code = match report.outcome {
        Outcome::Exited(2) => Code::Usage,
        Outcome::Exited(_) | Outcome::Signaled(_) | Outcome::NeverStarted(_) | Outcome::Lost(_) => {
            Code::Failed
        }
    };
    last_words(&said).map_or_else(
        || {
            let lines: Vec<&str> = said.lines().collect();
            let tail = lines.iter().skip(lines.len().saturating_sub(TAIL));
            Failure::new(code, format!("`api-server` ended: {}", report.outcome))
                .with_notes(tail.map(|line| (*line).to_owned()))
        },
        |(text, notes, hint)| {
            let failure = Failure::new(code, format!("`api-server` did not start: {text}"));
            Failure { hint, ..failure.with_notes(notes) }
        },
    )
}

/// What a program of ours says when it fails: a line with its name, more lines, a hint.
fn last_words(said: &str) -> Option<(String, Vec<String>, Option<String>)> {
    let lines: Vec<&str> = said.lines().collect();
    let begin = lines.iter().rposition(|line| line.starts_with("api-server: "))?;
    let text = lines.get(begin)?.strip_prefix("api-server: ")?.to_owned();
    let rest = lines.get(begin + 1..)?;
    let hint = rest.iter().find_map(|line| line.strip_prefix("hint: ")).map(ToOwned::to_owned);
    let notes = rest.iter().filter(|line| !line.starts_with("hint: "));
    Some((text, notes.map(|line| line.trim().to_owned()).collect(), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_text_notes_and_hint() {
        let said = "INFO starting\napi-server: 2 settings cannot be used\n  A is bad\n  B is bad\nhint: mend them\n";
        let (text, notes, hint) = last_words(said).unwrap();
        assert_eq!(text, "2 settings cannot be used");
        assert_eq!(notes, ["A is bad", "B is bad"]);
        assert_eq!(hint.as_deref(), Some("mend them"));
        assert_eq!(last_words("api-server listens on http://x"), None);
    }
}
