//! The shim: parent of one launched command, and owner of everything that must survive of it.
//!
//! `shim-<hash> <launch directory>` reads one input frame from its standard input, starts the
//! command, keeps its output, ends it by request, deadline or lease, and writes the exit record. It
//! answers on its standard output with a line when it is ready and one when the command runs; then
//! nobody needs to be there any more. It uses the standard library only and has one thread.

mod cgroup;
mod child;
mod control;
#[expect(dead_code, reason = "the shim reads input frames and writes output frames only")]
mod format;
mod record;
mod spool;
mod supervise;
mod sys;
mod tree;

use std::{
    env, fs,
    fs::OpenOptions,
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    process,
};

use child::{Failure, failed};
use control::{Control, Request};
use format::{INPUT_HEADER, Start};
use record::{ExitFile, Object, now_us};
use spool::Spool;
use sys::PollFd;

const STDIN: i32 = 0;
const STDOUT: i32 = 1;

fn main() {
    process::exit(run());
}

fn run() -> i32 {
    sys::close_inherited();
    let Some(directory) = env::args_os().nth(1) else {
        reply("error usage 22");
        return 2;
    };
    match prepare(Path::new(&directory)) {
        Ok(ready) => ready.serve(),
        Err(Refusal::Said(line)) => {
            reply(line);
            3
        }
        Err(Refusal::Failed(what, error)) => {
            reply(&format!("error {what} {}", error.raw_os_error().unwrap_or(0)));
            4
        }
    }
}

/// Why this shim does nothing.
enum Refusal {
    /// Another one has the launch, or it is over.
    Said(&'static str),
    /// Something could not be done.
    Failed(&'static str, io::Error),
}

/// A shim that holds its launch and waits for its input.
struct Ready {
    /// Where the launch directory was when this process entered it.
    directory: PathBuf,
    control: Control,
    exit: ExitFile,
}

/// A started command.
struct Running {
    start: Start,
    child: child::Child,
    spool: Spool,
    started_us: u64,
}

fn prepare(directory: &Path) -> Result<Ready, Refusal> {
    let fail = |what| move |error| Refusal::Failed(what, error);
    // Fails only where it leads one already.
    sys::setsid().ok();
    let directory = &std::path::absolute(directory).map_err(fail("enter"))?;
    env::set_current_dir(directory).map_err(fail("enter"))?;
    record::adopt_mode().map_err(fail("enter"))?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(record::file_mode());
    let lock = options.open("lock").map_err(fail("lock"))?;
    if !sys::lock(lock.as_raw_fd()) {
        return Err(Refusal::Said("busy"));
    }
    tree::remember_own_lock(&lock).map_err(fail("lock"))?;
    // Held until this process is gone; closing any descriptor of the file would release it.
    std::mem::forget(lock);
    if fs::symlink_metadata("exit.json").is_ok() || fs::symlink_metadata("verdict.json").is_ok() {
        return Err(Refusal::Said("ended"));
    }
    if fs::symlink_metadata("accepted").is_ok() {
        return Err(Refusal::Said("used"));
    }
    sys::become_subreaper().map_err(fail("prctl"))?;
    let control = Control::open().map_err(fail("control"))?;
    let exit = ExitFile::reserve().map_err(fail("reserve"))?;
    record::write("shim.json", identity(process::id() as i32).end().as_bytes(), false)
        .map_err(fail("identity"))?;
    reply("ready");
    Ok(Ready { directory: directory.clone(), control, exit })
}

impl Ready {
    fn serve(mut self) -> i32 {
        match self.begin() {
            Ok(Running { mut start, child, mut spool, started_us }) => {
                reply(&format!("started {} {started_us}", child.pid));
                sys::detach_standard();
                start.env.iter_mut().for_each(|entry| child::wipe_bytes(entry));
                let input = std::mem::take(&mut start.stdin);
                let ended =
                    supervise::supervise(&start, input, child, &mut self.control, &mut spool);
                let record = ended.describe(Object::versioned());
                self.close(record, spool.end(), Some(started_us));
                cgroup::remove(&start.cgroups);
                ended.exit_code()
            }
            Err(failed) => {
                let (start, Failure(json)) = *failed;
                let outcome = format!("{{\"never_started\":{json}}}");
                let record = Object::versioned()
                    .with("outcome", outcome)
                    .with("cause", "null")
                    .with("out_of_memory", false)
                    .with("leftovers_killed", 0)
                    .with("survivors", 0);
                self.close(record, (0, 0), None);
                cgroup::remove(&start.cgroups);
                reply(&format!("failed {json}"));
                127
            }
        }
    }

    fn close(&self, record: Object, (log_end, dropped): (u64, u64), started_us: Option<u64>) {
        let started = started_us.map_or_else(|| "null".to_owned(), |us| us.to_string());
        let json = record
            .with("log_end", log_end)
            .with("dropped_bytes", dropped)
            .with("started_us", started)
            .with("ended_us", now_us())
            .end();
        // Without a record the host will say that the launch is lost, which is then the truth.
        self.exit.commit(&json).ok();
        fs::remove_file("ctl").ok();
    }

    /// From the input to the running command.
    fn begin(&mut self) -> Result<Running, Box<(Start, Failure)>> {
        let none = |failure| Box::new((Start::default(), failure));
        let payload = self.read_input().map_err(none)?;
        let Some(start) = Start::decode(&payload) else {
            return Err(none(Failure("\"input_damaged\"".to_owned())));
        };
        wipe(payload);
        match self.start(&start) {
            Ok((child, spool, started_us)) => Ok(Running { start, child, spool, started_us }),
            Err(failure) => Err(Box::new((start, failure))),
        }
    }

    fn start(&self, start: &Start) -> Result<(child::Child, Spool, u64), Failure> {
        let io = |what: &'static str| {
            move |error: io::Error| failed(what, error.raw_os_error().unwrap_or(0))
        };
        if !start.assignment.is_empty() {
            record::write("assignment", &start.assignment, true)
                .map_err(io("write the assignment"))?;
        }
        let spool =
            Spool::create(start.head_bytes, start.tail_bytes).map_err(io("open the output"))?;
        // From here on a start may have happened, whatever becomes of this process.
        let accepted = Object::versioned().with("at_us", now_us()).end();
        record::write("accepted", accepted.as_bytes(), false)
            .map_err(io("write the acceptance"))?;
        // Whoever gives the launch up writes the verdict first and looks for us then, so one of the
        // two sees the other.
        if self.is_given_up() {
            return Err(Failure("\"stopped\"".to_owned()));
        }
        let child = child::start(start)?;
        let started_us = now_us();
        let started = identity(child.pid).with("at_us", started_us).end();
        // Only for people and statistics; the command runs without it.
        record::write("started.json", started.as_bytes(), false).ok();
        Ok((child, spool, started_us))
    }

    /// Whether somebody concluded that nothing was started, or removed the launch directory.
    fn is_given_up(&self) -> bool {
        let place = |path| fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
        fs::symlink_metadata("verdict.json").is_ok()
            || place(Path::new(".")) != place(&self.directory)
    }

    /// Reads the payload of one whole frame. Its end before that starts nothing.
    fn read_input(&mut self) -> Result<Vec<u8>, Failure> {
        let damaged = || Failure("\"input_damaged\"".to_owned());
        let header = self.read_exactly(INPUT_HEADER)?;
        let header = header.as_slice().try_into().map_err(|_| damaged())?;
        let (length, hash) = format::input_header(header).ok_or_else(damaged)?;
        let payload = self.read_exactly(usize::try_from(length).map_err(|_| damaged())?)?;
        if format::fnv64(&payload) == hash { Ok(payload) } else { Err(damaged()) }
    }

    fn read_exactly(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; length.min(64 << 10)];
        while bytes.len() < length {
            if !self.wait_for_input() {
                return Err(Failure("\"stopped\"".to_owned()));
            }
            let room = buffer.len().min(length - bytes.len());
            match sys::read(STDIN, &mut buffer[..room]) {
                Ok(0) => return Err(Failure("\"input_incomplete\"".to_owned())),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(failed("read the input", error.raw_os_error().unwrap_or(0)));
                }
            }
        }
        wipe(buffer);
        Ok(bytes)
    }

    /// `false`: it was stopped meanwhile.
    fn wait_for_input(&mut self) -> bool {
        loop {
            let fds = self.control.descriptors();
            let input = |fd| PollFd { fd, events: sys::POLLIN, revents: 0 };
            let mut fds = [input(STDIN), input(fds[0]), input(fds[1])];
            sys::poll(&mut fds, None);
            let stop = |request: &Request| matches!(request, Request::Stop { .. });
            if self.control.take().iter().any(stop) {
                return false;
            }
            if fds[0].revents != 0 {
                return true;
            }
        }
    }
}

/// What proves that a process is the one that is meant.
fn identity(pid: i32) -> Object {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Object::versioned()
        .with("pid", pid)
        .with("start_ticks", tree::start_ticks(pid).unwrap_or(0))
        .with("boot_id", record::quoted(boot.trim()))
}

/// Answers the launcher, if it is still there.
fn reply(line: &str) {
    sys::write(STDOUT, format!("{line}\n").as_bytes()).ok();
}

fn wipe(mut bytes: Vec<u8>) {
    child::wipe_bytes(&mut bytes);
}
