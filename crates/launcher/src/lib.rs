//! Starts commands that outlive their supervisor, and ends them so that nothing is left.
//!
//! A [`Launcher`](launcher::Launcher) starts a command under a *launch id*. A small static program,
//! the *shim*, becomes the command's parent and owns everything that must survive: the output, the
//! deadline, the lease and the exit record, all in one *launch directory*. The supervisor owns
//! nothing, so it may be killed at any moment; another process attaches by the stored
//! [`HandleRecord`](handle::HandleRecord) and gets the same exit code and the same output.
//!
//! `ProcessLauncher` (module [`process`]) runs commands on this machine; with the feature `docker`
//! there is `docker::DockerLauncher`, which runs them in containers under the same shim. Both, and
//! the fake for tests, pass one conformance suite.
//!
//! # The contract
//! - **Identity first.** The launch directory, its intent and its cgroup exist before the process.
//! - **One id, one start.** [`launch`](launcher::Launcher::launch) is idempotent by id: any number of
//!   callers start it once. Another spec under the same id is an error. An id is used up by its
//!   first start attempt, even one that failed.
//! - **Launched means accepted.** The input arrived whole and the program runs, or the error says
//!   what is wrong. A start that fails is typed by what the caller can do.
//! - **Ending is one function.** The command and all its descendants are asked, drained, given a
//!   grace and killed until nothing is left. The report says why, how, and how many were left over.
//! - **Output never blocks the command.** Head and tail are kept at the cap; what was dropped is a
//!   gap with an exact size. A reader resumes at any byte.
//! - **Lost is not a number.** Where no exit was recorded, the outcome says which evidence there is.
//! - **A limit is honoured or refused**, never ignored.
//!
//! # What it does not do
//! It knows no tasks, no queue, no database and no network. It restarts nothing, parses no output
//! and interprets no exit code. It does not isolate: a command that runs as the user of the launcher
//! can reach the launch directory, the shim and everything else of that user. Give it
//! [another user](spec::LaunchSpec::user), or a container, to take that away.
//!
//! For short trusted helpers (`git`, `initdb --version`) that need none of this there is
//! [`tool`].

#[cfg(feature = "testing")]
pub mod conformance;
pub mod container;
pub mod descendants;
#[cfg(feature = "docker")]
pub mod docker;
pub mod error;
#[cfg(feature = "testing")]
pub mod fake;
pub mod handle;
pub mod id;
pub mod identity;
mod launch;
pub mod launcher;
pub mod outcome;
pub mod output;
mod pidfd;
pub mod process;
pub mod removal;
pub mod spec;
pub mod tool;
