//! The system calls that the standard library does not offer, declared by hand.
//!
//! It owns every `unsafe` of the shim but the fork. 64-bit Linux only.

pub(crate) mod child;

use std::{ffi::CStr, io, time::Duration};

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("the shim runs on 64-bit linux only");

pub(crate) type Pid = i32;

pub(crate) const SIGHUP: i32 = 1;
pub(crate) const SIGINT: i32 = 2;
pub(crate) const SIGQUIT: i32 = 3;
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGUSR1: i32 = 10;
pub(crate) const SIGUSR2: i32 = 12;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGCHLD: i32 = 17;
pub(crate) const SIGCONT: i32 = 18;
pub(crate) const SIGXFSZ: i32 = 25;

pub(crate) const ENOENT: i32 = 2;
pub(crate) const EPERM: i32 = 1;
pub(crate) const ENOEXEC: i32 = 8;
pub(crate) const EAGAIN: i32 = 11;
pub(crate) const ENOMEM: i32 = 12;
pub(crate) const EACCES: i32 = 13;
pub(crate) const ENOTDIR: i32 = 20;
pub(crate) const ENFILE: i32 = 23;
pub(crate) const EMFILE: i32 = 24;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EDQUOT: i32 = 122;

pub(crate) const O_NONBLOCK: i32 = 0o4000;
pub(crate) const O_PATH: i32 = 0o10_000_000;

pub(crate) const POLLIN: i16 = 1;
pub(crate) const POLLOUT: i16 = 4;

pub(crate) const F_OK: i32 = 0;
pub(crate) const X_OK: i32 = 1;

/// One descriptor to wait for, as the kernel wants it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PollFd {
    pub(crate) fd: i32,
    pub(crate) events: i16,
    pub(crate) revents: i16,
}

#[repr(C)]
struct FileLock {
    kind: i16,
    whence: i16,
    start: i64,
    length: i64,
    pid: i32,
}

#[repr(C)]
struct SigSet([u64; 16]);

mod c {
    use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};

    unsafe extern "C" {
        pub(super) fn fork() -> c_int;
        pub(super) fn _exit(code: c_int) -> !;
        pub(super) fn execve(
            path: *const c_char,
            argv: *const *const c_char,
            envp: *const *const c_char,
        ) -> c_int;
        pub(super) fn setsid() -> c_int;
        pub(super) fn setpgid(pid: c_int, group: c_int) -> c_int;
        pub(super) fn getppid() -> c_int;
        pub(super) fn geteuid() -> c_uint;
        pub(super) fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong)
        -> c_int;
        pub(super) fn poll(fds: *mut super::PollFd, count: c_ulong, timeout: c_int) -> c_int;
        pub(super) fn signalfd(fd: c_int, set: *const super::SigSet, flags: c_int) -> c_int;
        pub(super) fn sigemptyset(set: *mut super::SigSet) -> c_int;
        pub(super) fn sigaddset(set: *mut super::SigSet, signal: c_int) -> c_int;
        pub(super) fn sigprocmask(
            how: c_int,
            set: *const super::SigSet,
            old: *mut super::SigSet,
        ) -> c_int;
        pub(super) fn signal(signal: c_int, handler: usize) -> usize;
        pub(super) fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
        pub(super) fn waitid(
            kind: c_int,
            id: c_uint,
            info: *mut [u64; 16],
            options: c_int,
        ) -> c_int;
        pub(super) fn kill(pid: c_int, signal: c_int) -> c_int;
        pub(super) fn setgroups(count: usize, list: *const c_uint) -> c_int;
        pub(super) fn setresgid(r: c_uint, e: c_uint, s: c_uint) -> c_int;
        pub(super) fn setresuid(r: c_uint, e: c_uint, s: c_uint) -> c_int;
        pub(super) fn mkfifo(path: *const c_char, mode: c_uint) -> c_int;
        pub(super) fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
        pub(super) fn chdir(path: *const c_char) -> c_int;
        pub(super) fn access(path: *const c_char, mode: c_int) -> c_int;
        pub(super) fn dup2(from: c_int, to: c_int) -> c_int;
        pub(super) fn close(fd: c_int) -> c_int;
        pub(super) fn open(path: *const c_char, flags: c_int, ...) -> c_int;
        pub(super) fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize;
        pub(super) fn read(fd: c_int, bytes: *mut c_void, count: usize) -> isize;
        pub(super) fn syscall(number: c_long, ...) -> c_long;
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The last call's error number.
pub(crate) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Makes this process the leader of a session of its own.
pub(crate) fn setsid() -> io::Result<i32> {
    // SAFETY: takes no memory.
    check(unsafe { c::setsid() })
}

/// Makes orphaned descendants children of this process, and this process unreadable to others.
pub(crate) fn become_subreaper() -> io::Result<()> {
    const SET_DUMPABLE: i32 = 4;
    const SET_CHILD_SUBREAPER: i32 = 36;
    // SAFETY: takes no memory.
    check(unsafe { c::prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0) })?;
    // SAFETY: takes no memory.
    check(unsafe { c::prctl(SET_DUMPABLE, 0, 0, 0, 0) })?;
    Ok(())
}

/// Asks the kernel to kill this process when its parent ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    const SET_PDEATHSIG: i32 = 1;
    // SAFETY: takes no memory.
    check(unsafe { c::prctl(SET_PDEATHSIG, SIGKILL as u64, 0, 0, 0) })?;
    Ok(())
}

/// Closes everything but the three standard descriptors.
pub(crate) fn close_inherited() {
    const CLOSE_RANGE: i64 = 436;
    // SAFETY: nothing is open beyond the three yet that this program knows of.
    if unsafe { c::syscall(CLOSE_RANGE, 3u32, u32::MAX, 0u32) } < 0 {
        for fd in 3..1024 {
            // SAFETY: as above; an error means that it was not open.
            unsafe { c::close(fd) };
        }
    }
}

/// Blocks these signals and returns a descriptor from which they are read.
pub(crate) fn signal_descriptor(signals: &[i32]) -> io::Result<i32> {
    const BLOCK: i32 = 0;
    const CLOEXEC_NONBLOCK: i32 = 0o2_004_000;
    let mut set = SigSet([0; 16]);
    // SAFETY: `set` is ours and as large as the library's type.
    unsafe { c::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: as above.
        unsafe { c::sigaddset(&raw mut set, *signal) };
        // An ignored `SIGCHLD`, which is inherited, would make the kernel drop exit codes.
        // SAFETY: 0 is the default action.
        unsafe { c::signal(*signal, 0) };
    }
    // SAFETY: as above; the old mask is not asked for.
    check(unsafe { c::sigprocmask(BLOCK, &raw const set, std::ptr::null_mut()) })?;
    // SAFETY: as above.
    check(unsafe { c::signalfd(-1, &raw const set, CLOEXEC_NONBLOCK) })
}

/// Sets every signal back to its default and blocks none: what a program expects at its start.
pub(crate) fn default_signals() {
    const SET: i32 = 2;
    for signal in 1..=64 {
        // SAFETY: 0 is the default action; numbers that cannot be set give an error.
        unsafe { c::signal(signal, 0) };
    }
    let mut none = SigSet([0; 16]);
    // SAFETY: `none` is ours and as large as the library's type.
    unsafe { c::sigemptyset(&raw mut none) };
    // SAFETY: as above.
    unsafe { c::sigprocmask(SET, &raw const none, std::ptr::null_mut()) };
}

/// Waits until one of the descriptors is ready or the time is over; an interruption is a return.
pub(crate) fn poll(fds: &mut [PollFd], timeout: Option<Duration>) {
    let millis = timeout
        .map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    // SAFETY: pointer and length are those of one slice.
    unsafe { c::poll(fds.as_mut_ptr(), fds.len() as u64, millis) };
}

/// What is known of this process's children.
pub(crate) enum Children {
    /// This one has ended and is not reaped yet.
    Ended(Pid),
    /// There are some, and none has ended.
    Alive,
    /// There are none at all, hence no descendants: orphans become our children.
    None,
}

/// Looks for a child that has ended, without reaping it.
pub(crate) fn look_at_children() -> Children {
    const ALL: i32 = 0;
    const ENDED_NOHANG_NOWAIT: i32 = 0x4 | 0x1 | 0x0100_0000;
    let mut info = [0u64; 16];
    // SAFETY: `info` is as large (128 bytes) and as aligned as the library's type.
    let result = unsafe { c::waitid(ALL, 0, &raw mut info, ENDED_NOHANG_NOWAIT) };
    if result < 0 {
        return Children::None;
    }
    // The process id is the first field after three integers and padding.
    match (info[2] & 0xffff_ffff) as i32 {
        0 => Children::Alive,
        pid => Children::Ended(pid),
    }
}

/// Reaps one ended child and returns its raw status.
pub(crate) fn reap(pid: Pid) -> i32 {
    const NOHANG: i32 = 1;
    let mut status = 0;
    // SAFETY: `status` is ours.
    unsafe { c::waitpid(pid, &raw mut status, NOHANG) };
    status
}

/// Waits for one child and reaps it.
pub(crate) fn reap_blocking(pid: Pid) {
    // SAFETY: the status is not asked for.
    unsafe { c::waitpid(pid, std::ptr::null_mut(), 0) };
}

/// Signals a process group whose leader this process has not reaped.
pub(crate) fn signal_group(leader: Pid, signal: i32) {
    // SAFETY: takes no memory. An error means that nobody is left in it.
    unsafe { c::kill(-leader, signal) };
}

/// A process that cannot be mistaken for a later one of the same number.
pub(crate) struct PidFd(i32);

impl PidFd {
    pub(crate) fn open(pid: Pid) -> Option<Self> {
        const PIDFD_OPEN: i64 = 434;
        // SAFETY: takes no memory.
        let fd = unsafe { c::syscall(PIDFD_OPEN, pid, 0u32) };
        (fd >= 0).then_some(Self(fd as i32))
    }

    pub(crate) fn signal(&self, signal: i32) -> bool {
        const PIDFD_SEND_SIGNAL: i64 = 424;
        // SAFETY: the info pointer may be null.
        unsafe { c::syscall(PIDFD_SEND_SIGNAL, self.0, signal, 0usize, 0u32) == 0 }
    }
}

impl Drop for PidFd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours.
        unsafe { c::close(self.0) };
    }
}

/// Signals a process by number: only for kernels without pidfd, right after its identity was read.
pub(crate) fn signal_process(pid: Pid, signal: i32) -> bool {
    // SAFETY: takes no memory.
    unsafe { c::kill(pid, signal) == 0 }
}

/// Takes the launch lock for the life of this process; `false`: another process holds it.
///
/// A record lock, not `flock`: children do not inherit it, others can ask who holds it without
/// taking it, and it is released when this process is gone, however it ends.
pub(crate) fn lock(fd: i32) -> bool {
    const SET_LOCK: i32 = 6;
    let lock = FileLock { kind: 1, whence: 0, start: 0, length: 0, pid: 0 };
    // SAFETY: `lock` is laid out as the kernel's.
    unsafe { c::fcntl(fd, SET_LOCK, &raw const lock) == 0 }
}

/// Who holds the lock on a file.
pub(crate) fn lock_holder(fd: i32) -> Option<Pid> {
    const GET_LOCK: i32 = 5;
    const UNLOCKED: i16 = 2;
    let mut lock = FileLock { kind: 1, whence: 0, start: 0, length: 0, pid: 0 };
    // SAFETY: `lock` is ours and laid out as the kernel's.
    let result = unsafe { c::fcntl(fd, GET_LOCK, &raw mut lock) };
    (result == 0 && lock.kind != UNLOCKED).then_some(lock.pid)
}

pub(crate) fn set_nonblocking(fd: i32) {
    const SET_FLAGS: i32 = 4;
    // SAFETY: takes no memory. Pipes have no other flag that would be lost.
    unsafe { c::fcntl(fd, SET_FLAGS, O_NONBLOCK) };
}

pub(crate) fn mkfifo(path: &CStr) -> io::Result<()> {
    // SAFETY: the path ends in NUL.
    check(unsafe { c::mkfifo(path.as_ptr(), 0o600) }).map(drop)
}

pub(crate) fn effective_user() -> u32 {
    // SAFETY: takes no memory.
    unsafe { c::geteuid() }
}

/// Reads what is there; 0 is the end.
pub(crate) fn read(fd: i32, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are those of one slice.
    let count = unsafe { c::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

pub(crate) fn write(fd: i32, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are those of one slice.
    let count = unsafe { c::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Puts `/dev/null` in the place of the three standard descriptors.
pub(crate) fn detach_standard() {
    const READ_WRITE: i32 = 2;
    // SAFETY: the path ends in NUL.
    let null = unsafe { c::open(c"/dev/null".as_ptr(), READ_WRITE) };
    for fd in 0..3 {
        // SAFETY: takes no memory; without `/dev/null` the old ones stay.
        unsafe { c::dup2(null, fd) };
    }
    if null > 2 {
        // SAFETY: the descriptor is ours.
        unsafe { c::close(null) };
    }
}
