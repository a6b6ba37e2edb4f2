//! What to launch: program, environment, place, limits; and the input that no file ever sees.
//!
//! It owns the words and their plain checks. What a launcher can do of it is the launcher's answer.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{container::ContainerSpec, error::LaunchError};

/// The most that a launch spec may take as JSON; it travels in one frame and lies in one file.
const MAX_SPEC_BYTES: usize = 4 << 20;

/// The most that a command gets on its standard input; it travels in the same frame.
const MAX_STDIN_BYTES: usize = 128 << 20;

/// A command to launch. All of it is stored and hashed, so no secret belongs here: see [`Input`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchSpec {
    /// An absolute path, or a bare name that is looked up in the `PATH` of [`env`](Self::env).
    pub program: PathBuf,
    /// The arguments after the program's name.
    pub args: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// The absolute directory in which the command starts.
    pub cwd: PathBuf,
    /// The user to run as (needs root); `None` is the launcher's own.
    pub user: Option<UserId>,
    /// What the command and its descendants may use together.
    pub limits: Limits,
    /// How much of the output is kept.
    pub output: OutputLimits,
    /// How the command is ended when nobody asked with a grace of their own.
    pub stop: StopPolicy,
    /// When set, the launch ends by itself after nobody renewed it for that long.
    pub lease: Option<Duration>,
    /// Names by which a launch is found again, such as `opentiger.run`.
    pub labels: BTreeMap<String, String>,
    /// The container to run in; paths above are paths in it then. `None` is the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerSpec>,
}

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserId {
    /// The numeric user.
    pub uid: u32,
    /// The numeric group; supplementary groups are dropped.
    pub gid: u32,
}

/// Upper bounds; `None` is no bound. A launcher honours each or refuses the launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes, swap included where the kernel can count it.
    pub memory_bytes: Option<u64>,
    /// Processor time in thousandths of a core; 1000 is one core.
    pub cpu_millis: Option<u32>,
    /// Processes and threads alive at once.
    pub processes: Option<u32>,
    /// Time from the start to the stop.
    pub wall: Option<Duration>,
}

/// Bytes kept on disk, frame headers included; the middle of a longer output is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputLimits {
    /// The first bytes, kept for good.
    pub head_bytes: u64,
    /// The last bytes, kept after the head is full. Up to an eighth less may be there.
    pub tail_bytes: u64,
}

/// How a command is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPolicy {
    /// The time between asking and killing.
    pub grace: Duration,
    /// The signal that asks.
    pub signal: StopSignal,
}

/// A signal that asks a command to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopSignal {
    /// `SIGTERM`.
    #[default]
    Terminate,
    /// `SIGINT`, which servers such as Postgres take for a fast and clean end.
    Interrupt,
}

/// What the command gets once and nobody can read later: not in a file, an argument, or a hash.
///
/// Only the assignment is written down, because it says what the launch is for.
#[derive(Default, Clone)]
pub struct Input {
    /// Written to the command's standard input, which is then closed.
    pub stdin: Vec<u8>,
    /// Set in the command's environment at exec, over the same names of the spec.
    pub secret_env: BTreeMap<String, SecretValue>,
    /// Written to `assignment` in the launch directory before the command starts. No secrets.
    pub assignment: Option<serde_json::Value>,
}

/// A text that must not be shown; wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretValue(SecretString);

impl LaunchSpec {
    /// A spec without arguments, environment, limits or labels.
    pub fn new(program: impl Into<PathBuf>, cwd: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: cwd.into(),
            user: None,
            limits: Limits::default(),
            output: OutputLimits::default(),
            stop: StopPolicy::default(),
            lease: None,
            labels: BTreeMap::new(),
            container: None,
        }
    }

    /// The SHA-256 of the spec in lower-case hex. Equal specs have equal hashes.
    #[must_use]
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        hex(&Sha256::digest(&json))
    }

    /// Checks what every launcher needs, whatever it can do.
    ///
    /// # Errors
    /// [`LaunchError::InvalidSpec`] names the field.
    pub fn validate(&self) -> Result<(), LaunchError> {
        let Self {
            program,
            args,
            env,
            cwd,
            user: _,
            limits,
            output,
            stop: _,
            lease,
            labels: _,
            container,
        } = self;
        check_program(program)?;
        check_no_nul("args", args.iter())?;
        check_names("env", env.keys())?;
        check_no_nul("env", env.values())?;
        if !cwd.is_absolute() {
            return Err(invalid("cwd", format!("`{}` is not absolute", cwd.display())));
        }
        check_no_nul("cwd", std::iter::once(&cwd.to_string_lossy().into_owned()))?;
        check_limits(limits)?;
        if let Some(container) = container {
            container.validate()?;
        }
        if output.head_bytes.checked_add(output.tail_bytes).is_none() {
            return Err(invalid("output", "head and tail together overflow".to_owned()));
        }
        if lease.is_some_and(|lease| lease.is_zero()) {
            return Err(invalid("lease", "a lease of zero ends at once".to_owned()));
        }
        match serde_json::to_vec(self) {
            Ok(json) if json.len() <= MAX_SPEC_BYTES => Ok(()),
            Ok(json) => Err(invalid(
                "args",
                format!("the spec has {} bytes, at most {MAX_SPEC_BYTES} are allowed", json.len()),
            )),
            Err(_) => Err(invalid("program", "a path is not UTF-8".to_owned())),
        }
    }
}

impl Default for OutputLimits {
    /// 64 MiB of head and 16 MiB of tail.
    fn default() -> Self {
        Self { head_bytes: 64 << 20, tail_bytes: 16 << 20 }
    }
}

impl Default for StopPolicy {
    /// `SIGTERM` and ten seconds.
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), signal: StopSignal::Terminate }
    }
}

impl Input {
    /// Checks names and values that could not be set.
    ///
    /// # Errors
    /// [`LaunchError::InvalidSpec`] names the field, never a value.
    pub fn validate(&self) -> Result<(), LaunchError> {
        if self.stdin.len() > MAX_STDIN_BYTES {
            let why = format!(
                "it has {} bytes, at most {MAX_STDIN_BYTES} are allowed; give a file's path",
                self.stdin.len()
            );
            return Err(invalid("stdin", why));
        }
        check_names("secret_env", self.secret_env.keys())?;
        if self.secret_env.values().any(|value| value.expose().contains('\0')) {
            return Err(invalid("secret_env", "a value contains a NUL byte".to_owned()));
        }
        Ok(())
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stdin, secret_env, assignment } = self;
        f.debug_struct("Input")
            .field("stdin", &format_args!("{} bytes", stdin.len()))
            .field("secret_env", secret_env)
            .field("assignment", assignment)
            .finish()
    }
}

impl SecretValue {
    /// Wraps a text that must not be shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself. Call it only where the text is used, never to log or to format it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(***)")
    }
}

impl From<String> for SecretValue {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

fn check_program(program: &std::path::Path) -> Result<(), LaunchError> {
    let text = program.to_string_lossy();
    if text.is_empty() || text.contains('\0') {
        return Err(invalid("program", "it is empty or contains a NUL byte".to_owned()));
    }
    if !program.is_absolute() && text.contains('/') {
        let why = format!("`{text}` is neither an absolute path nor a bare name");
        return Err(invalid("program", why));
    }
    Ok(())
}

fn check_limits(limits: &Limits) -> Result<(), LaunchError> {
    let Limits { memory_bytes, cpu_millis, processes, wall } = *limits;
    let zero = [
        ("limits.memory_bytes", memory_bytes == Some(0)),
        ("limits.cpu_millis", cpu_millis == Some(0)),
        ("limits.processes", processes == Some(0)),
        ("limits.wall", wall.is_some_and(|wall| wall.is_zero())),
    ];
    match zero.iter().find(|(_, is_zero)| *is_zero) {
        Some((field, _)) => Err(invalid(field, "zero allows nothing; leave it out".to_owned())),
        None => Ok(()),
    }
}

fn check_names<'a>(
    field: &'static str,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), LaunchError> {
    let bad = names.find(|name| name.is_empty() || name.contains(['=', '\0']));
    match bad {
        Some(name) => Err(invalid(field, format!("{name:?} cannot be a variable's name"))),
        None => Ok(()),
    }
}

fn check_no_nul<'a>(
    field: &'static str,
    mut texts: impl Iterator<Item = &'a String>,
) -> Result<(), LaunchError> {
    if texts.any(|text| text.contains('\0')) {
        return Err(invalid(field, "a text contains a NUL byte".to_owned()));
    }
    Ok(())
}

fn invalid(field: &'static str, why: String) -> LaunchError {
    LaunchError::InvalidSpec { field, why }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_refused(change: impl FnOnce(&mut LaunchSpec)) -> &'static str {
        let mut spec = LaunchSpec::new("/bin/true", "/");
        change(&mut spec);
        match spec.validate() {
            Err(LaunchError::InvalidSpec { field, .. }) => field,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_plain_spec_is_valid() {
        LaunchSpec::new("/bin/true", "/").validate().unwrap();
        LaunchSpec::new("true", "/").validate().unwrap();
    }

    #[test]
    fn faults_name_their_field() {
        assert_eq!(field_refused(|s| s.program = "bin/true".into()), "program");
        assert_eq!(field_refused(|s| s.program = PathBuf::new()), "program");
        assert_eq!(field_refused(|s| s.args.push("a\0b".to_owned())), "args");
        assert_eq!(field_refused(|s| drop(s.env.insert("A=B".into(), String::new()))), "env");
        assert_eq!(field_refused(|s| s.cwd = "tmp".into()), "cwd");
        assert_eq!(field_refused(|s| s.limits.processes = Some(0)), "limits.processes");
        assert_eq!(field_refused(|s| s.lease = Some(Duration::ZERO)), "lease");
        assert_eq!(field_refused(|s| s.output.head_bytes = u64::MAX), "output");
        assert_eq!(field_refused(|s| s.args.push("x".repeat(5 << 20))), "args");
    }

    #[test]
    fn the_hash_tells_specs_apart() {
        let one = LaunchSpec::new("/bin/true", "/");
        let mut other = one.clone();
        assert_eq!(one.hash(), other.hash());
        other.env.insert("A".to_owned(), "1".to_owned());
        assert_ne!(one.hash(), other.hash());
    }

    #[test]
    fn debug_of_input_shows_no_secret() {
        let secret_env = [("KEY".to_owned(), SecretValue::new("hunter2"))].into();
        let input = Input { secret_env, stdin: b"hunter3".to_vec(), ..Input::default() };
        let text = format!("{input:?}");
        assert!(!text.contains("hunter2"), "{text}");
        // Neither as text nor as the numbers of its bytes.
        assert!(text.contains("7 bytes") && !text.contains("104, 117"), "{text}");
    }
}
