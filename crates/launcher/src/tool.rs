//! The other way a process may start: a short trusted helper such as `git` or `initdb --version`.
//!
//! It owns one bounded run: cleared environment, own process group, bounded output, a timeout. It
//! survives nothing and records nothing; a command that must is a
//! [`launch`](crate::launcher::Launcher::launch). A helper that leaves its process group on purpose
//! is not followed.

use std::{collections::BTreeMap, io, path::PathBuf, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
};

use crate::{pidfd, spec::UserId};

/// How long the output of a helper that has exited may stay open in somebody else's hands.
const DRAIN: Duration = Duration::from_secs(1);

/// Becomes the program that its arguments name, with a limit on what memory it may have to itself, in KiB.
const LIMITED: &str = r#"ulimit -d "$1" && shift && exec "$@""#;

/// A helper to run once.
#[derive(Debug, Clone)]
pub struct Tool {
    /// An absolute path, or a bare name that is looked up in the `PATH` of [`env`](Self::env).
    pub program: PathBuf,
    /// The arguments after the program's name.
    pub args: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// The directory in which it starts.
    pub cwd: PathBuf,
    /// Written to its standard input, which is then closed.
    pub stdin: Vec<u8>,
    /// After this time the whole process group is killed.
    pub timeout: Duration,
    /// How many bytes of each stream are kept; the rest is read and dropped.
    pub output_limit: usize,
    /// The user to run as (needs root); `None` is our own.
    pub user: Option<UserId>,
    /// How much memory each of its processes may have to itself, in bytes; more is refused to it. `None` is no limit. With
    /// a limit a program that is not there shows as the shell's exit code 127.
    pub memory: Option<u64>,
}

/// How a helper ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    /// The exit code; `None` when a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The first bytes of standard output.
    pub stdout: Vec<u8>,
    /// The first bytes of standard error.
    pub stderr: Vec<u8>,
    /// Whether a stream was longer than the limit.
    pub truncated: bool,
}

/// Why a helper has no result.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The program is not there.
    #[error("program `{}` not found", program.display())]
    ProgramMissing {
        /// As it was given.
        program: PathBuf,
    },
    /// The working directory is not there.
    #[error("working directory `{}` not found", cwd.display())]
    CwdMissing {
        /// As it was given.
        cwd: PathBuf,
    },
    /// It took too long and was killed.
    #[error("`{}` was killed after {} ms", program.display(), after.as_millis())]
    TimedOut {
        /// As it was given.
        program: PathBuf,
        /// The timeout.
        after: Duration,
    },
    /// It could not be started or watched.
    #[error("{what} `{}`", program.display())]
    Io {
        /// What was tried, as a verb phrase.
        what: &'static str,
        /// As it was given.
        program: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

impl Tool {
    /// A helper without arguments, environment or input, with a minute and 1 MiB for each stream.
    pub fn new(program: impl Into<PathBuf>, cwd: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: cwd.into(),
            stdin: Vec::new(),
            timeout: Duration::from_secs(60),
            output_limit: 1 << 20,
            user: None,
            memory: None,
        }
    }

    /// Runs it to its end. An exit code other than 0 is a result, not an error.
    ///
    /// # Errors
    /// When it could not be started, or did not end in time; then its process group is dead.
    ///
    /// # Cancel safety
    /// Dropping the future kills the process group.
    pub async fn run(self) -> Result<ToolOutput, ToolError> {
        let (program, timeout) = (self.program.clone(), self.timeout);
        let io_error = |what, source| ToolError::Io { what, program: program.clone(), source };
        let mut group = Group::of(self.spawn()?).map_err(|e| io_error("watch", e))?;
        let result = tokio::time::timeout(timeout, group.run(self.stdin, self.output_limit)).await;
        match result {
            Ok(output) => output.map_err(|e| io_error("wait for", e)),
            Err(_elapsed) => Err(ToolError::TimedOut { program, after: timeout }),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this module is where short trusted helpers start"
    )]
    fn spawn(&self) -> Result<Child, ToolError> {
        let Self { program, args, env, cwd, user, memory, .. } = self;
        let mut command = match memory {
            None => Command::new(program),
            // The limit is there before the program is.
            Some(bytes) => {
                let mut command = Command::new("/bin/sh");
                let kibibytes = (bytes >> 10).to_string();
                command.args(["-c", LIMITED, "sh", &kibibytes]).arg(program);
                command
            }
        };
        command.args(args).env_clear().envs(env).current_dir(cwd);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        if let Some(UserId { uid, gid }) = *user {
            command.gid(gid).uid(uid);
        }
        command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if !cwd.is_dir() => ToolError::CwdMissing { cwd: cwd.clone() },
            io::ErrorKind::NotFound => ToolError::ProgramMissing { program: program.clone() },
            _ => ToolError::Io { what: "start", program: program.clone(), source },
        })
    }
}

/// A running helper; dropping it kills what is left of its process group.
struct Group {
    child: Child,
    /// The group while its leader is not reaped: only then is the number surely ours.
    leader: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> io::Result<Self> {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let leader = pid.ok_or_else(|| io::Error::other("the child has no process id"))?;
        Ok(Self { child, leader: Some(leader) })
    }

    async fn run(&mut self, stdin: Vec<u8>, limit: usize) -> io::Result<ToolOutput> {
        let input = self.child.stdin.take();
        let mut out = Kept::new(self.child.stdout.take(), limit);
        let mut err = Kept::new(self.child.stderr.take(), limit);
        let streams = async {
            let ((), out_read, err_read) = tokio::join!(feed(input, stdin), out.read(), err.read());
            out_read.and(err_read)
        };
        let status = {
            tokio::pin!(streams);
            let exit = self.wait();
            tokio::pin!(exit);
            tokio::select! {
                // Cancel safe: `streams` is pinned outside and goes on below.
                status = &mut exit => {
                    let status = status?;
                    if let Ok(read) = tokio::time::timeout(DRAIN, &mut streams).await {
                        read?;
                    }
                    status
                }
                // Cancel safe: `exit` is pinned outside and goes on below.
                read = &mut streams => {
                    read?;
                    exit.await?
                }
            }
        };
        Ok(ToolOutput {
            status: status.code(),
            signal: std::os::unix::process::ExitStatusExt::signal(&status),
            truncated: out.truncated || err.truncated,
            stdout: out.bytes,
            stderr: err.bytes,
        })
    }

    /// Waits for the leader, kills what it left in its group, then reaps it: until it is reaped the
    /// group's number cannot be given to anybody else.
    async fn wait(&mut self) -> io::Result<std::process::ExitStatus> {
        if let Some(leader) = self.leader
            && let Ok(exited) = pidfd::watch(leader)
        {
            let _ready = exited.readable().await?;
            self.kill();
        }
        let status = self.child.wait().await;
        self.leader = None;
        status
    }

    fn kill(&self) {
        if let Some(leader) = self.leader {
            // An error means that nobody is left in the group.
            kill_process_group(leader, Signal::KILL).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The kept beginning of a stream.
struct Kept<R> {
    source: Option<R>,
    bytes: Vec<u8>,
    limit: usize,
    truncated: bool,
}

impl<R: AsyncRead + Unpin> Kept<R> {
    fn new(source: Option<R>, limit: usize) -> Self {
        Self { source, bytes: Vec::new(), limit, truncated: false }
    }

    async fn read(&mut self) -> io::Result<()> {
        let Some(mut source) = self.source.take() else {
            return Ok(());
        };
        let mut buffer = vec![0; 16 << 10];
        loop {
            let read = source.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let kept = read.min(self.limit.saturating_sub(self.bytes.len()));
            self.bytes.extend(buffer.iter().take(kept));
            self.truncated |= kept < read;
        }
    }
}

/// Gives the helper its input; one that reads none of it is no fault.
async fn feed(input: Option<ChildStdin>, bytes: Vec<u8>) {
    if let Some(mut input) = input {
        input.write_all(&bytes).await.ok();
    }
}
