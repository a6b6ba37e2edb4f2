//! Starting a shim, handing it the input, and reading its two answers.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::io::Errno;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    error::LaunchError,
    launch::answers::{First, Second},
    outcome::StartFailure,
};

/// The error number of a program file that somebody has open for writing.
const TEXT_BUSY: i32 = 26;

/// How long a shim may take for an answer. One that takes longer stands still or waits for a disk
/// that does not answer; then the caller is told instead of held up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a shim that was killed may take to be gone.
const DYING: Duration = Duration::from_secs(1);

/// A shim that waits for its input.
#[derive(Debug)]
pub(crate) struct WaitingShim {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// The first answer of a shim.
#[derive(Debug)]
pub(crate) enum Hello {
    /// It has the launch and waits.
    Ready(Box<WaitingShim>),
    /// Another one has it, or had it.
    Taken,
}

/// The second answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The command runs; the child is the shim, to be reaped some day.
    Started(Box<Child>),
    /// Nothing was started, and the exit record says so.
    Failed(StartFailure),
    /// The shim is gone without an answer; the launch directory says what became of it.
    Silent,
}

/// Starts a shim on a launch directory.
pub(crate) async fn start(shim: &Path, directory: &Path) -> io::Result<Hello> {
    let mut child = spawn(shim, directory).await?;
    match tokio::time::timeout(PATIENCE, hello(&mut child)).await {
        Ok(Ok(Some((stdin, stdout)))) => {
            Ok(Hello::Ready(Box::new(WaitingShim { child, stdin, stdout })))
        }
        Ok(Ok(None)) => Ok(Hello::Taken),
        Ok(Err(error)) => Err(error),
        Err(_elapsed) => {
            end(&mut child).await;
            let why = format!("no answer for {} s", PATIENCE.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        }
    }
}

/// The first answer: the pipes to go on with, or `None` if another shim has the launch.
async fn hello(child: &mut Child) -> io::Result<Option<(ChildStdin, BufReader<ChildStdout>)>> {
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("the shim has no pipes"));
    };
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    stdout.read_line(&mut line).await?;
    match First::parse(&line) {
        First::Ready => Ok(Some((stdin, stdout))),
        First::Taken => {
            child.wait().await?;
            Ok(None)
        }
        First::Unable(error) => {
            child.wait().await?;
            Err(error)
        }
        First::Nonsense => {
            let status = child.wait().await?;
            Err(io::Error::other(format!("the shim ended with {status} instead of an answer")))
        }
    }
}

/// Kills a shim that does not answer; what it may have started dies with it. One that the kernel
/// holds is left to its fate, and to whoever looks at the launch directory.
async fn end(child: &mut Child) {
    // An error means that it is gone.
    child.start_kill().ok();
    tokio::time::timeout(DYING, child.wait()).await.ok();
}

/// Why a shim did not start, by what the caller can do.
pub(crate) fn error(path: PathBuf, source: io::Error) -> LaunchError {
    let exhausted = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::NOSPC];
    let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::OutOfMemory, io::ErrorKind::TimedOut];
    let errno = Errno::from_io_error(&source);
    if errno.is_some_and(|errno| exhausted.contains(&errno)) || kinds.contains(&source.kind()) {
        return LaunchError::ResourceExhausted { what: format!("start the shim: {source}") };
    }
    LaunchError::ShimUnusable { path, source }
}

#[expect(clippy::disallowed_methods, reason = "this module is where shims start")]
async fn spawn(shim: &Path, directory: &Path) -> io::Result<Child> {
    let mut tries = 0;
    loop {
        let mut command = Command::new(shim);
        command.arg(directory).env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        match command.spawn() {
            // A process that another thread has just forked may still have the freshly written
            // file open for writing; it closes it within moments.
            Err(error) if error.raw_os_error() == Some(TEXT_BUSY) && tries < 100 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            spawned => return spawned,
        }
    }
}

impl WaitingShim {
    /// Hands over the input and waits until the command runs or does not.
    ///
    /// # Cancel safety
    /// Dropping it before the whole frame is written starts nothing.
    pub(crate) async fn begin(self, frame: Vec<u8>) -> Answer {
        let Self { mut child, stdin, stdout } = self;
        let said = tokio::time::timeout(PATIENCE, Self::hand_over(stdin, stdout, frame)).await;
        let line = said.unwrap_or_default();
        let said = Second::parse(&line);
        if matches!(said, Second::Started) {
            return Answer::Started(Box::new(child));
        }
        // It has said what it had to say and ends at once, or it will never say anything.
        if tokio::time::timeout(DYING, child.wait()).await.is_err() {
            end(&mut child).await;
        }
        match said {
            Second::Failed(failure) => Answer::Failed(failure),
            Second::Started | Second::Silent => Answer::Silent,
        }
    }

    async fn hand_over(
        mut stdin: ChildStdin,
        mut stdout: BufReader<ChildStdout>,
        frame: Vec<u8>,
    ) -> String {
        // A shim that is gone reads nothing; then it says nothing either.
        stdin.write_all(&frame).await.ok();
        drop(frame);
        drop(stdin);
        let mut line = String::new();
        stdout.read_line(&mut line).await.ok();
        line.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::launch::procfs;

    /// A shim that says something and then stands still.
    fn silent(scratch: &Path, says: &str) -> PathBuf {
        let path = scratch.join("shim-silent");
        std::fs::write(&path, format!("#!/bin/sh\n{says}\nexec sleep 600\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test(start_paused = true)]
    async fn shim_that_never_answers_holds_nobody_up() {
        let scratch = tempfile::tempdir().unwrap();
        let shim = silent(scratch.path(), "");
        let refused = start(&shim, scratch.path()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        let refused = error(shim, refused);
        assert!(refused.is_transient(), "{refused:?}");
    }

    #[tokio::test]
    async fn shim_that_takes_no_input_is_killed() {
        let scratch = tempfile::tempdir().unwrap();
        let shim = silent(scratch.path(), "echo ready");
        let Hello::Ready(waiting) = start(&shim, scratch.path()).await.unwrap() else {
            panic!("it has not said that it is ready");
        };
        let pid = i32::try_from(waiting.child.id().unwrap()).unwrap();
        let start = procfs::entry(pid).unwrap().start_ticks;
        tokio::time::pause();
        // More than the pipe takes.
        let answer = waiting.begin(vec![0; 1 << 20]).await;
        assert!(matches!(answer, Answer::Silent), "{answer:?}");
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        let lives = || procfs::entry(pid).is_some_and(|e| e.start_ticks == start && e.state != 'Z');
        while lives() {
            assert!(std::time::Instant::now() < deadline, "the shim lives");
            std::thread::yield_now();
        }
    }
}
