//! Hands a token to git without a file, an argument or a variable that holds it.
//!
//! Git ships a helper, `git credential-cache`, that asks a Unix socket for a login. For the time of one call this module
//! is what answers on that socket, in a directory of its own that only this user may enter; and it answers nobody but
//! the processes of that call. Where git stores or forgets the login, nothing happens.

use std::{
    fs,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use core_types::credential::HostToken;
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    process::{Pid, getsid},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::timeout,
};
use uuid::Uuid;

use crate::{
    error::CheckoutError,
    files::{io_error, remove_tree},
};

/// Most bytes of a request.
const REQUEST_BYTES: u64 = 16 << 10;
/// How long a caller may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket that answers with one token; gone with this value.
#[derive(Debug)]
pub(crate) struct TokenSocket {
    listener: UnixListener,
    directory: PathBuf,
    token: HostToken,
    /// Locked for as long as somebody answers here: the kernel gives the lock back when this process dies.
    _held: OwnedFd,
}

impl TokenSocket {
    /// Opens the socket in a new directory below the given one, and removes what killed processes left there.
    pub(crate) fn open(below: &Path, token: HostToken) -> Result<Self, CheckoutError> {
        sweep(below);
        let name = format!("ask-{}", Uuid::new_v4().simple());
        let (making, directory) = (below.join(format!(".{name}")), below.join(name));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&making)
            .map_err(io_error("make directory", &making))?;
        let opened = hold(&making).and_then(|held| {
            fs::rename(&making, &directory)?;
            Ok((bind(&held)?, held))
        });
        match opened {
            Ok((listener, held)) => Ok(Self { listener, directory, token, _held: held }),
            Err(error) => {
                drop(remove_tree(&making));
                drop(remove_tree(&directory));
                Err(io_error("open a socket in", &directory)(error))
            }
        }
    }

    /// The value of `credential.helper` that makes git ask here.
    pub(crate) fn helper(&self) -> String {
        let path = self.directory.join(SOCKET).to_string_lossy().replace('\'', r"'\''");
        format!("cache --socket='{path}'")
    }

    /// Answers the processes of a call, of which `leader` is one, for as long as it is polled.
    ///
    /// # Cancel safety
    /// Cancel safe: a caller that is cut off gets no answer.
    pub(crate) async fn serve(&self, leader: Pid) {
        let Ok(session) = getsid(Some(leader)) else {
            return;
        };
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if is_of(&stream, session) => {
                    drop(timeout(PATIENCE, self.answer(stream)).await);
                }
                Ok(_) => tracing::warn!("a process that is not git asked for a repository's login"),
                Err(error) => {
                    tracing::debug!(error = %error, "no caller accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn answer(&self, mut stream: UnixStream) -> std::io::Result<()> {
        let mut request = String::new();
        (&mut stream).take(REQUEST_BYTES).read_to_string(&mut request).await?;
        if let Some(answer) = answer_to(&request, &self.token) {
            stream.write_all(answer.as_bytes()).await?;
        }
        stream.shutdown().await
    }
}

impl Drop for TokenSocket {
    fn drop(&mut self) {
        drop(remove_tree(&self.directory));
    }
}

const SOCKET: &str = "socket";

/// Opens and locks a directory; an error where somebody has the lock.
fn hold(directory: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = rustix::fs::open(directory, flags, Mode::empty())?;
    rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive)?;
    Ok(held)
}

/// Removes the directories whose holder is dead. A new one gets its name only once it is locked.
fn sweep(below: &Path) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("ask-")
            && let Ok(_held) = hold(&entry.path())
        {
            drop(remove_tree(&entry.path()));
        }
    }
}

/// Binds through the directory's descriptor: a socket's address may be no longer than 108 bytes, a path may.
fn bind(directory: &OwnedFd) -> std::io::Result<UnixListener> {
    UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}

/// Whether the caller belongs to a session: no process can enter one that it was not born into, so that an agent of the
/// same user is none of them.
fn is_of(stream: &UnixStream, session: Pid) -> bool {
    let caller = stream.peer_cred().ok().and_then(|caller| Pid::from_raw(caller.pid()?));
    caller.is_some_and(|caller| getsid(Some(caller)).is_ok_and(|of| of == session))
}

/// The lines of `git credential` that answer a request; none where it is not for the token's host, or asks for
/// something else than the login.
fn answer_to(request: &str, token: &HostToken) -> Option<String> {
    let value =
        |key: &str| request.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let is_ours = value("action") == Some("get")
        && matches!(value("protocol"), Some("https" | "http"))
        && value("host").is_some_and(|host| host.eq_ignore_ascii_case(&token.host));
    is_ours.then(|| format!("username={}\npassword={}\n", token.user, token.token.expose()))
}

#[cfg(test)]
mod tests {
    use core_types::secret::Secret;

    use super::*;

    fn token() -> HostToken {
        HostToken { host: "h".to_owned(), user: "me".to_owned(), token: Secret::new("t0ken") }
    }

    #[tokio::test]
    async fn what_the_dead_left_is_swept_and_what_the_living_have_is_not() {
        let below = tempfile::tempdir().unwrap();
        let living = TokenSocket::open(below.path(), token()).unwrap();
        fs::create_dir(below.path().join("ask-dead")).unwrap();
        let other = TokenSocket::open(below.path(), token()).unwrap();
        let names = || fs::read_dir(below.path()).unwrap().count();
        assert!(living.directory.is_dir() && names() == 2);
        drop((living, other));
        assert_eq!(names(), 0);
    }

    #[test]
    fn only_the_tokens_own_host_gets_it() {
        let token = HostToken {
            host: "h:8443".to_owned(),
            user: "me".to_owned(),
            token: Secret::new("t0ken"),
        };
        let ask = |action: &str, host: &str| {
            let request = format!("action={action}\ntimeout=900\nprotocol=https\nhost={host}\n");
            answer_to(&request, &token)
        };
        assert_eq!(ask("get", "H:8443").as_deref(), Some("username=me\npassword=t0ken\n"));
        assert_eq!(ask("get", "h"), None);
        assert_eq!(ask("get", "evil"), None);
        assert_eq!(ask("store", "h:8443"), None);
        assert_eq!(answer_to("", &token), None);
    }
}
