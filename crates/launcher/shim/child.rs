//! Fork and exec of the launched command, and the reason when that fails.
//!
//! The new process reports a failure through a pipe that exec closes, so nothing is guessed.

use std::{
    ffi::{CStr, CString, c_char},
    io::{self, PipeReader, PipeWriter, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use crate::{
    cgroup,
    format::Start,
    record::quoted_bytes,
    sys::{self, Pid, child},
};

const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// The running command with our ends of its pipes.
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Why nothing was started, as the JSON of the exit record.
pub(crate) struct Failure(pub(crate) String);

/// What the new process was doing when it failed.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Step {
    Cgroup = 1,
    Descriptors = 2,
    User = 3,
    Cwd = 4,
    Parent = 5,
    Exec = 6,
    Interpreter = 7,
    NoExecBit = 8,
}

/// Everything that exec needs, allocated before the fork.
struct Image {
    cgroups: Vec<CString>,
    /// Which of them is the one by which everything is killed.
    kill_cgroup: Option<usize>,
    cwd: CString,
    user: Option<(u32, u32)>,
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
}

/// Starts the command.
pub(crate) fn start(start: &Start) -> Result<Child, Failure> {
    let image = Image::of(start).ok_or_else(|| refused("read the input", 22))?;
    let pipes = || -> io::Result<_> { Ok((io::pipe()?, io::pipe()?, io::pipe()?, io::pipe()?)) };
    let ((in_read, in_write), (out_read, out_write), (err_read, err_write), (report, broken)) =
        pipes().map_err(|error| failed("make pipes", error.raw_os_error().unwrap_or(0)))?;
    let shim = std::process::id() as Pid;
    let pointers = Pointers::of(&image);
    let home = cgroup::birthplace(&start.kill_cgroup);
    let born_there = home.as_ref().and_then(child::fork_into);
    let pid = born_there.unwrap_or_else(child::fork);
    if pid == 0 {
        let standard = [in_read.as_raw_fd(), out_write.as_raw_fd(), err_write.as_raw_fd()];
        let joined = born_there.is_some().then_some(image.kill_cgroup);
        become_command(&image, &pointers, standard, joined.flatten(), &broken, shim);
    }
    drop((in_read, out_write, err_write, broken));
    wipe(image);
    if pid < 0 {
        return Err(failed("start a process", sys::errno()));
    }
    match read_failure(report) {
        None => Ok(Child {
            pid,
            stdin: in_write.into(),
            stdout: out_read.into(),
            stderr: err_read.into(),
        }),
        Some((step, errno)) => {
            sys::reap_blocking(pid);
            Err(explain(start, step, errno))
        }
    }
}

/// Overwrites the environment of the command, which holds its secrets.
pub(crate) fn wipe_bytes(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

impl Image {
    fn of(start: &Start) -> Option<Self> {
        let text = |bytes: &[u8]| CString::new(bytes).ok();
        let list = |items: &[Vec<u8>]| {
            items.iter().map(|item| text(item)).collect::<Option<Vec<CString>>>()
        };
        let mut args = vec![text(&start.program)?];
        args.extend(list(&start.args)?);
        let procs = |dir: &Vec<u8>| CString::new([dir.as_slice(), b"/cgroup.procs"].concat()).ok();
        Some(Self {
            cgroups: start.cgroups.iter().map(procs).collect::<Option<_>>()?,
            kill_cgroup: start.cgroups.iter().position(|path| *path == start.kill_cgroup),
            cwd: text(&start.cwd)?,
            user: start.user,
            candidates: candidates(start).iter().map(|path| text(path)).collect::<Option<_>>()?,
            args,
            env: list(&start.env)?,
        })
    }
}

/// The paths to try: the program itself, or its name in each directory of the command's `PATH`.
fn candidates(start: &Start) -> Vec<Vec<u8>> {
    if start.program.contains(&b'/') {
        return vec![start.program.clone()];
    }
    let given = start.env.iter().rev().find_map(|entry| entry.strip_prefix(b"PATH="));
    let directories = given.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':');
    let absolute = directories.filter(|directory| directory.starts_with(b"/"));
    absolute.map(|directory| [directory, b"/", &start.program].concat()).collect()
}

struct Pointers {
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
}

impl Pointers {
    fn of(image: &Image) -> Self {
        let list = |items: &[CString]| {
            items.iter().map(|item| item.as_ptr()).chain([std::ptr::null()]).collect()
        };
        Self { args: list(&image.args), env: list(&image.env) }
    }
}

/// In the new process: becomes the command or reports why not. Allocates nothing.
fn become_command(
    image: &Image,
    pointers: &Pointers,
    standard: [i32; 3],
    joined: Option<usize>,
    report: &PipeWriter,
    shim: Pid,
) -> ! {
    let (step, errno) = try_become(image, pointers, standard, joined, shim);
    let [a, b, c, d] = errno.to_le_bytes();
    // If nobody reads it, nobody is left to be told.
    sys::write(report.as_raw_fd(), &[step as u8, a, b, c, d]).ok();
    child::exit(127)
}

fn try_become(
    image: &Image,
    pointers: &Pointers,
    standard: [i32; 3],
    joined: Option<usize>,
    shim: Pid,
) -> (Step, i32) {
    child::own_group();
    for (index, procs) in image.cgroups.iter().enumerate() {
        if joined != Some(index) && !child::write_file(procs, b"0") {
            return (Step::Cgroup, sys::errno());
        }
    }
    for (to, from) in (0..).zip(standard) {
        if !child::standard(from, to) {
            return (Step::Descriptors, sys::errno());
        }
    }
    sys::default_signals();
    if let Some((uid, gid)) = image.user
        && !child::become_user(uid, gid)
    {
        return (Step::User, sys::errno());
    }
    if sys::die_with_parent().is_err() || child::parent() != shim {
        return (Step::Parent, sys::errno());
    }
    if !child::chdir(&image.cwd) {
        return (Step::Cwd, sys::errno());
    }
    exec(image, pointers)
}

/// Tries each candidate; returns only when none could be executed.
fn exec(image: &Image, pointers: &Pointers) -> (Step, i32) {
    let mut denied: Option<&CStr> = None;
    for path in &image.candidates {
        child::exec(path, &pointers.args, &pointers.env);
        let errno = sys::errno();
        match errno {
            sys::ENOENT | sys::ENOTDIR if child::may(path, sys::F_OK) => {
                return (Step::Interpreter, errno);
            }
            sys::ENOENT | sys::ENOTDIR => {}
            sys::EACCES => denied = denied.or(Some(path)),
            sys::ENOEXEC => return (Step::NoExecBit, errno),
            _ => return (Step::Exec, errno),
        }
    }
    match denied {
        None => (Step::Exec, sys::ENOENT),
        Some(path) if child::may(path, sys::F_OK) && !child::may(path, sys::X_OK) => {
            (Step::NoExecBit, sys::EACCES)
        }
        Some(_) => (Step::Exec, sys::EACCES),
    }
}

fn read_failure(mut report: PipeReader) -> Option<(u8, i32)> {
    let mut message = [0; 5];
    report.read_exact(&mut message).ok()?;
    let [step, errno @ ..] = message;
    Some((step, i32::from_le_bytes(errno)))
}

fn explain(start: &Start, step: u8, errno: i32) -> Failure {
    let program = || quoted_bytes(&start.program);
    let cwd = Path::new(std::ffi::OsStr::from_bytes(&start.cwd));
    let is = |known: Step| step == known as u8;
    if is(Step::Interpreter) {
        return Failure(format!("{{\"interpreter_missing\":{{\"program\":{}}}}}", program()));
    }
    if is(Step::NoExecBit) {
        return Failure(format!("{{\"not_executable\":{{\"program\":{}}}}}", program()));
    }
    if is(Step::Exec) && matches!(errno, sys::ENOENT | sys::ENOTDIR) {
        return Failure(format!("{{\"program_missing\":{{\"program\":{}}}}}", program()));
    }
    if is(Step::Cwd) && matches!(errno, sys::ENOENT | sys::ENOTDIR) {
        let cwd = quoted_bytes(&start.cwd);
        return Failure(format!("{{\"cwd_missing\":{{\"cwd\":{cwd}}}}}"));
    }
    let program = String::from_utf8_lossy(&start.program).into_owned();
    let what = match step {
        1 => "join the cgroup".to_owned(),
        2 => "connect the pipes".to_owned(),
        3 => {
            let (uid, gid) = start.user.unwrap_or_default();
            format!("switch to user {uid} and group {gid}")
        }
        4 => format!("enter `{}`", cwd.display()),
        5 => "watch the shim".to_owned(),
        _ => format!("execute `{program}`"),
    };
    failed(&what, errno)
}

/// A refusal by what the caller can do about it.
pub(crate) fn failed(what: &str, errno: i32) -> Failure {
    let text = quoted_bytes(what.as_bytes());
    match errno {
        sys::EACCES | sys::EPERM => Failure(format!("{{\"permission\":{{\"what\":{text}}}}}")),
        sys::EAGAIN | sys::ENOMEM | sys::ENFILE | sys::EMFILE | sys::ENOSPC | sys::EDQUOT => {
            let json = format!("{{\"what\":{text},\"errno\":{errno}}}");
            Failure(format!("{{\"resource_exhausted\":{json}}}"))
        }
        _ => refused(what, errno),
    }
}

fn refused(what: &str, errno: i32) -> Failure {
    let text = quoted_bytes(what.as_bytes());
    Failure(format!("{{\"refused\":{{\"what\":{text},\"errno\":{errno}}}}}"))
}

fn wipe(image: Image) {
    for entry in image.env {
        wipe_bytes(&mut entry.into_bytes());
    }
}
