//! A run's own copy of a repository, and the way its result gets back.
//!
//! The life of a checkout is `prepare` → the agent works in it → `seal` → `collect` → `remove`:
//!
//! - **prepare** makes `<root>/<run id>/` with `work/` (the agent's current directory, a repository of its own on the
//!   run's branch), `home/`, `tmp/` and `objects/` (the user's objects, hard-linked);
//! - **seal** turns whatever the work tree holds into one commit on top of the base, using a git directory that no
//!   agent ever saw, and leaves that commit as a pack;
//! - **collect** treats the pack as hostile, and moves one ref in the user's repository.
//!
//! A checkout that goes into a sandbox is handed over to its user, written down beside, and the result is taken from
//! what the sandbox left, see [`sandboxed`].
//!
//! A repository behind a network is fetched into a *mirror*, a bare repository of our own that runs share; a checkout is
//! made from that as from a repository of this host, and collect pushes one new branch.
//!
//! # What it does not do
//! It never runs git on the agent's own `.git`, never touches the user's work tree, index, `HEAD`, configuration or
//! other branches, knows nothing of tasks' states, and speaks to no network
//! but through git, to the one address that a task names.
//!
//! # Why hard links into a directory of their own
//! An alternate that points at the user's repository breaks when `git gc --prune` there drops what a rebase left
//! behind; a full copy costs the size of the history for each run; hard links inside the agent's `.git` would let one
//! careless `chmod` and write reach the user's files. So the object files are linked (copied where the file system
//! cannot) into `objects/`, beside the work tree, and the agent's repository borrows from there. `git gc` in the
//! user's repository only unlinks its own names.

pub mod access;
pub mod branch;
pub mod checkouts;
pub mod collect;
pub mod diff;
pub mod error;
pub mod git;
pub mod given;
pub mod local;
pub mod mirror;
pub mod outcome;
pub mod roots;
pub mod sandboxed;
pub mod seal;
pub mod trouble;
pub mod url;

mod changes;
mod credentials;
mod files;
mod git_dir;
mod launched;
mod objects;
mod push;
pub mod rehearsal;
mod remote;
mod results;
mod worktree;
