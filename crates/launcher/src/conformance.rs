//! What every launcher must do, as one suite that each of them passes.
//!
//! A launcher's tests bring a [`Bench`] and call [`run`]. The cases know nothing but the contract.

mod ending;
mod finding;
mod starting;

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};

use crate::{
    handle::{Handle, LaunchState},
    id::LaunchId,
    launcher::{Launched, Launcher},
    output::{LogContent, LogCursor},
    spec::{Input, LaunchSpec},
};

/// What a launcher's tests bring.
pub trait Bench: Sync {
    /// The launcher.
    fn launcher(&self) -> &dyn Launcher;
    /// The same store as another process sees it.
    fn other(&self) -> &dyn Launcher;
    /// A spec of a command that does this.
    fn spec(&self, script: Script) -> LaunchSpec;
}

/// What a command of a case does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Prints [`printed`] to standard output and exits with 7.
    Print,
    /// Prints its standard input and exits with 0.
    Cat,
    /// Runs until it is asked to end.
    Hang,
    /// Prints something as soon as it does not listen any more, and runs until it is killed.
    HangDeaf,
    /// Is ended by signal 9.
    KillItself,
    /// There is no such program.
    Missing,
}

/// What [`Script::Print`] prints: more than one frame, with characters of several bytes.
#[must_use]
pub fn printed() -> String {
    "zürich 東京 — ".repeat(8 << 10)
}

/// The exit code of [`Script::Print`].
pub const PRINT_CODE: i32 = 7;

/// The longest that anything in the suite may take.
const DEADLINE: Duration = Duration::from_secs(20);

type Case = for<'a> fn(&'a dyn Bench) -> BoxFuture<'a, ()>;

/// Every case by the behaviour it demands.
const CASES: &[(&str, Case)] = &[
    ("exit_code_and_output_are_reported", |b| ending::exit_code_and_output(b).boxed()),
    ("signal_is_reported_as_signal", |b| ending::signal(b).boxed()),
    ("missing_program_is_typed_and_uses_the_id_up", |b| starting::missing_program(b).boxed()),
    ("invalid_spec_is_refused_by_field", |b| starting::invalid_spec(b).boxed()),
    ("second_launch_gives_the_first_one", |b| starting::second_launch(b).boxed()),
    ("other_spec_under_the_same_id_is_refused", |b| starting::spec_mismatch(b).boxed()),
    ("many_callers_start_it_once", |b| starting::many_callers(b).boxed()),
    ("unassigned_launch_never_starts", |b| starting::unassigned(b).boxed()),
    ("standard_input_arrives_whole", |b| starting::standard_input(b).boxed()),
    ("stop_is_idempotent_and_says_why", |b| ending::stop(b).boxed()),
    ("deaf_command_ends_within_its_grace", |b| ending::deaf(b).boxed()),
    ("sharper_stop_wins", |b| ending::sharper_stop(b).boxed()),
    ("handle_is_only_a_view", |b| finding::reattach(b).boxed()),
    ("output_resumes_at_every_offset", |b| finding::resume(b).boxed()),
    ("wall_time_ends_it", |b| ending::wall_time(b).boxed()),
    ("lease_ends_it_unless_renewed", |b| ending::lease(b).boxed()),
    ("discover_shows_labels_and_states", |b| finding::discover(b).boxed()),
    ("reap_removes_the_ended_only", |b| finding::reap(b).boxed()),
    ("destroy_waits_for_the_end", |b| finding::destroy(b).boxed()),
    ("foreign_records_are_left_alone", |b| finding::foreign(b).boxed()),
    ("late_subscriber_sees_the_end", |b| ending::late_subscriber(b).boxed()),
];

/// Runs the whole suite, several cases at once.
///
/// # Panics
/// When a case fails, with the names of all that did.
pub async fn run(bench: &dyn Bench) {
    let cases = CASES.iter().map(|(name, case)| async move {
        let done = AssertUnwindSafe(tokio::time::timeout(DEADLINE, case(bench))).catch_unwind();
        (!matches!(done.await, Ok(Ok(())))).then_some(*name)
    });
    let results: Vec<_> = futures_util::stream::iter(cases).buffer_unordered(4).collect().await;
    let failed: Vec<_> = results.into_iter().flatten().collect();
    assert!(failed.is_empty(), "these cases failed or took over {DEADLINE:?}: {failed:?}");
}

fn id(name: &str) -> LaunchId {
    format!("conformance-{name}").parse().expect("case names are launch ids")
}

async fn start(bench: &dyn Bench, name: &str, script: Script) -> Handle {
    let launched = bench.launcher().launch(&id(name), &bench.spec(script), Input::default()).await;
    let Ok(Launched::Started(handle)) = launched else { unreachable_case(&launched) };
    handle
}

/// Starts a command that does not listen, and waits until it does not.
async fn start_deaf(bench: &dyn Bench, name: &str) -> Handle {
    let handle = start(bench, name, Script::HangDeaf).await;
    let first = handle.logs(LogCursor::START).next().await;
    assert!(matches!(first, Some(Ok(_))), "{first:?}");
    handle
}

/// Reads the output to its end and checks that its chunks follow each other.
async fn read(handle: &Handle, from: LogCursor) -> Vec<u8> {
    let mut logs = handle.logs(from);
    let (mut bytes, mut cursor) = (Vec::new(), from);
    while let Some(chunk) = logs.next().await {
        let chunk = chunk.expect("it is readable");
        assert_eq!(chunk.offset, cursor.0);
        cursor = chunk.next;
        let LogContent::Output { data, .. } = &chunk.content else { unreachable_case(&chunk) };
        assert_eq!(chunk.next.0, chunk.offset + data.len() as u64);
        bytes.extend_from_slice(data);
    }
    bytes
}

fn wait_for(handle: &Handle, is_it: fn(&LaunchState) -> bool) -> impl Future<Output = ()> {
    let mut state = handle.state();
    async move {
        state.wait_for(is_it).await.expect("the handle is alive");
    }
}

#[expect(clippy::panic, reason = "the suite is run by tests only")]
fn unreachable_case(found: &dyn std::fmt::Debug) -> ! {
    panic!("the contract has no such answer: {found:?}")
}
