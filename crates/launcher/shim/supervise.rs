//! The life of a started command: drain, feed, watch deadlines, end, report.
//!
//! One loop, one thread. Decisions are in [`Supervision::turn`], waiting is in one `poll`.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use crate::{
    cgroup,
    child::{self, Child},
    control::{Control, Request},
    format::{STDERR, STDOUT, Start},
    record::Object,
    spool::Spool,
    sys::{self, Children, Pid, PollFd},
    tree::{self, Identity, Tree},
};

/// What the command leaves running gets this long after it was asked to end.
const LEFTOVER_GRACE: Duration = Duration::from_millis(200);
/// Between two looks at what is still alive.
const TICK: Duration = Duration::from_millis(10);
/// After that long, what cannot be killed is reported instead.
const GIVE_UP: Duration = Duration::from_secs(30);
/// Between two looks at whether the launch directory is still there.
const DIRECTORY_LOOK: Duration = Duration::from_secs(5);
/// Reads from one pipe before the others get their turn.
const READS_A_TURN: usize = 16;

/// How the command ended, for the exit record.
pub(crate) struct Ended {
    pub(crate) status: i32,
    /// JSON, or `null`.
    pub(crate) cause: String,
    pub(crate) leftovers: usize,
    pub(crate) survivors: usize,
    pub(crate) out_of_memory: bool,
}

enum Phase {
    Running,
    /// Asked to end; killed at the deadline.
    Asked {
        deadline: Instant,
    },
    Killing {
        since: Instant,
    },
}

struct Supervision<'a> {
    start: &'a Start,
    control: &'a mut Control,
    spool: &'a mut Spool,
    leader: Pid,
    /// The leader's raw status once it was reaped.
    status: Option<i32>,
    stdin: Option<File>,
    /// What is to be written there.
    input: Vec<u8>,
    /// How much of the input was written.
    fed: usize,
    outputs: [(u8, Option<File>); 2],
    phase: Phase,
    cause: Option<String>,
    wall: Option<Instant>,
    lease: Option<Instant>,
    /// When to look at the launch directory again.
    directory: Instant,
    /// Who was alive when the leader was gone.
    leftovers: BTreeSet<Identity>,
    empty_looks: u32,
    buffer: Vec<u8>,
}

enum Turn {
    /// Look again when something happens, or after this time at the latest.
    Wait(Option<Duration>),
    Done {
        survivors: usize,
    },
}

/// Sees a started command to its end; returns when nothing of it is left.
pub(crate) fn supervise(
    start: &Start,
    input: Vec<u8>,
    child: Child,
    control: &mut Control,
    spool: &mut Spool,
) -> Ended {
    let Child { pid, stdin, stdout, stderr } = child;
    for fd in [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()] {
        sys::set_nonblocking(fd);
    }
    let mut supervision = Supervision {
        start,
        control,
        spool,
        leader: pid,
        status: None,
        stdin: Some(File::from(stdin)),
        input,
        fed: 0,
        outputs: [(STDOUT, Some(File::from(stdout))), (STDERR, Some(File::from(stderr)))],
        phase: Phase::Running,
        cause: None,
        wall: deadline(start.wall_ms),
        lease: deadline(start.lease_ms),
        directory: Instant::now() + DIRECTORY_LOOK,
        leftovers: BTreeSet::new(),
        empty_looks: 0,
        buffer: vec![0; crate::format::MAX_FRAME_DATA],
    };
    supervision.run()
}

impl Supervision<'_> {
    fn run(&mut self) -> Ended {
        let survivors = loop {
            self.feed();
            self.drain();
            for request in self.control.take() {
                self.on_request(request);
            }
            match self.turn(Instant::now()) {
                Turn::Wait(timeout) => self.wait(timeout),
                Turn::Done { survivors } => break survivors,
            }
        };
        self.drain_rest();
        Ended {
            // One that cannot be reaped was killed; it ends when the kernel lets it.
            status: self.status.unwrap_or(sys::SIGKILL),
            cause: self.cause.take().unwrap_or_else(|| "null".to_owned()),
            leftovers: self.leftovers.len(),
            survivors,
            out_of_memory: cgroup::out_of_memory(&self.start.oom_file),
        }
    }

    /// Looks at children and deadlines, does what is due, and says when to look again.
    fn turn(&mut self, now: Instant) -> Turn {
        let alone = self.reap();
        if alone && self.status.is_some() && tree::is_empty(&self.start.kill_cgroup) {
            return Turn::Done { survivors: 0 };
        }
        let (wall, lease) = (self.wall, self.lease);
        let over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if over(wall) {
            self.wall = None;
            self.ask("\"wall_time\"".to_owned(), None);
        }
        if over(lease) {
            self.lease = None;
            self.ask("\"lease_expired\"".to_owned(), None);
        }
        if self.status.is_some() {
            return self.clear_leftovers(now);
        }
        self.look_at_directory(now);
        match self.phase {
            Phase::Running => Turn::Wait(until([wall, lease, Some(self.directory)], now)),
            Phase::Asked { deadline } if deadline <= now => {
                self.phase = Phase::Killing { since: now };
                self.kill();
                Turn::Wait(Some(TICK))
            }
            Phase::Asked { deadline } => Turn::Wait(until([Some(deadline)], now)),
            Phase::Killing { since } if since + GIVE_UP <= now => {
                Turn::Done { survivors: Tree::look(&self.start.kill_cgroup).ours.len() }
            }
            Phase::Killing { .. } => {
                self.kill();
                Turn::Wait(Some(TICK))
            }
        }
    }

    /// Ends a launch whose directory somebody removed: nobody could find or stop it any more.
    fn look_at_directory(&mut self, now: Instant) {
        if self.directory > now || !matches!(self.phase, Phase::Running) {
            return;
        }
        self.directory = now + DIRECTORY_LOOK;
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        if fs::symlink_metadata("lock").is_err_and(|error| gone(&error)) {
            let cause = "{\"requested\":{\"reason\":\"the launch directory was removed\"}}";
            self.ask(cause.to_owned(), None);
        }
    }

    /// The leader is gone: what is left gets a short grace, then it is killed until none is left.
    fn clear_leftovers(&mut self, now: Instant) -> Turn {
        let tree = Tree::look(&self.start.kill_cgroup);
        if tree.ours.is_empty() {
            // Twice, because a process may fork and end between two lines of one look.
            self.empty_looks += 1;
            let alone = matches!(sys::look_at_children(), Children::None);
            return if alone || self.empty_looks > 1 {
                Turn::Done { survivors: 0 }
            } else {
                Turn::Wait(Some(Duration::from_millis(2)))
            };
        }
        self.empty_looks = 0;
        self.leftovers.extend(tree.identities());
        match self.phase {
            Phase::Running => {
                tree.signal(self.start.stop_signal as i32);
                tree.signal(sys::SIGCONT);
                self.phase = Phase::Asked { deadline: now + LEFTOVER_GRACE };
            }
            Phase::Asked { deadline } if deadline <= now => {
                self.phase = Phase::Killing { since: now };
                self.kill();
            }
            Phase::Asked { .. } => {}
            Phase::Killing { since } if since + GIVE_UP <= now => {
                return Turn::Done { survivors: tree.ours.len() };
            }
            Phase::Killing { .. } => self.kill(),
        }
        Turn::Wait(Some(TICK))
    }

    /// Reaps what has ended. `true`: there are no children, hence no descendants.
    fn reap(&mut self) -> bool {
        loop {
            match sys::look_at_children() {
                Children::None => return true,
                Children::Alive => return false,
                Children::Ended(pid) if pid == self.leader && self.status.is_none() => {
                    // Its group's number is surely ours only until it is reaped.
                    match self.phase {
                        Phase::Running => {}
                        Phase::Asked { .. } => {
                            sys::signal_group(pid, self.start.stop_signal as i32);
                        }
                        Phase::Killing { .. } => sys::signal_group(pid, sys::SIGKILL),
                    }
                    self.status = Some(sys::reap(pid));
                }
                Children::Ended(pid) => drop(sys::reap(pid)),
            }
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Renew if self.lease.is_some() => {
                self.lease = deadline(self.start.lease_ms);
            }
            Request::Renew => {}
            Request::Stop { cause, grace } => self.ask(cause, grace),
        }
    }

    /// Asks everything to end. The first cause stays, the earliest deadline wins.
    fn ask(&mut self, cause: String, grace: Option<Duration>) {
        let grace = grace.unwrap_or(Duration::from_millis(self.start.grace_ms));
        let asked = Instant::now().checked_add(grace);
        let deadline = asked.unwrap_or_else(|| Instant::now() + Duration::from_secs(1 << 31));
        match &mut self.phase {
            Phase::Running => {
                if self.status.is_none() {
                    self.cause = Some(cause);
                }
                self.phase = Phase::Asked { deadline };
                self.signal_all(self.start.stop_signal as i32);
                self.signal_all(sys::SIGCONT);
            }
            Phase::Asked { deadline: old } => *old = deadline.min(*old),
            Phase::Killing { .. } => {}
        }
    }

    fn signal_all(&self, signal: i32) {
        let tree = Tree::look(&self.start.kill_cgroup);
        if self.status.is_none() {
            sys::signal_group(self.leader, signal);
            tree.signal_outside(self.leader, signal);
        } else {
            tree.signal(signal);
        }
    }

    /// One pass of killing. The caller repeats it until nothing is left.
    fn kill(&mut self) {
        if self.status.is_none() {
            sys::signal_group(self.leader, sys::SIGKILL);
        }
        let cgroup = &self.start.kill_cgroup;
        cgroup::freeze(cgroup, true);
        let tree = Tree::look(cgroup);
        if !tree.has_nested {
            cgroup::kill(cgroup);
        }
        tree.signal(sys::SIGKILL);
        cgroup::freeze(cgroup, false);
        let others = tree.identities().filter(|(pid, _)| *pid != self.leader);
        self.leftovers.extend(others);
    }

    /// Writes as much of the input as the pipe takes, then closes it.
    fn feed(&mut self) {
        while let Some(stdin) = &mut self.stdin {
            let rest = self.input.get(self.fed..).unwrap_or_default();
            match stdin.write(rest) {
                Ok(count) if count > 0 => self.fed += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // All is written, or nobody reads any more.
                Ok(_) | Err(_) => {
                    self.stdin = None;
                    child::wipe_bytes(&mut std::mem::take(&mut self.input));
                }
            }
        }
    }

    /// Takes what the command has printed; `true`: something was there.
    fn drain(&mut self) -> bool {
        let mut found = false;
        for (stream, output) in &mut self.outputs {
            for _ in 0..READS_A_TURN {
                let Some(pipe) = output else { break };
                match pipe.read(&mut self.buffer) {
                    Ok(count) if count > 0 => {
                        found = true;
                        self.spool.append(*stream, self.buffer.get(..count).unwrap_or_default());
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(_) | Err(_) => *output = None,
                }
            }
        }
        found
    }

    /// Nothing of the command is left, so what is in the pipes is all there will be. Somebody else
    /// who got hold of a pipe does not keep us: one second.
    fn drain_rest(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.drain() && Instant::now() < deadline {}
    }

    fn wait(&self, timeout: Option<Duration>) {
        let input = |fd| PollFd { fd, events: sys::POLLIN, revents: 0 };
        let mut fds: Vec<PollFd> = self.control.descriptors().map(input).to_vec();
        fds.extend(self.outputs.iter().flat_map(|(_, file)| file).map(|f| input(f.as_raw_fd())));
        if let Some(stdin) = &self.stdin {
            fds.push(PollFd { fd: stdin.as_raw_fd(), events: sys::POLLOUT, revents: 0 });
        }
        sys::poll(&mut fds, timeout);
    }
}

impl Ended {
    /// Adds what is known to the exit record.
    pub(crate) fn describe(&self, record: Object) -> Object {
        let signal = self.status & 0x7f;
        let outcome = if signal == 0 {
            format!("{{\"exited\":{}}}", (self.status >> 8) & 0xff)
        } else {
            format!("{{\"signaled\":{signal}}}")
        };
        record
            .with("outcome", outcome)
            .with("cause", &self.cause)
            .with("out_of_memory", self.out_of_memory)
            .with("leftovers_killed", self.leftovers)
            .with("survivors", self.survivors)
    }

    /// The code with which the shim itself exits.
    pub(crate) fn exit_code(&self) -> i32 {
        let signal = self.status & 0x7f;
        if signal == 0 { (self.status >> 8) & 0xff } else { 128 + signal }
    }
}

/// That long from now; none for 0, and for times that no clock will reach.
fn deadline(millis: u64) -> Option<Instant> {
    let time = (millis > 0).then(|| Duration::from_millis(millis))?;
    Instant::now().checked_add(time)
}

/// The time until the earliest deadline.
fn until<const N: usize>(deadlines: [Option<Instant>; N], now: Instant) -> Option<Duration> {
    deadlines.into_iter().flatten().min().map(|deadline| deadline.saturating_duration_since(now))
}
