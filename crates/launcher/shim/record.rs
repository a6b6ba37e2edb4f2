//! The shim's files in the launch directory: how they are written, and the little JSON in them.
//!
//! The working directory is the launch directory, so names are bare.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::format::VERSION;

/// Room for an exit record, taken in advance so that a full disk does not cost the exit code.
const EXIT_ROOM: usize = 16 << 10;

/// Whether others than the owner may read what is written here; a directory above guards it then.
static OPEN_MODE: OnceLock<bool> = OnceLock::new();

/// Makes files as open as the launch directory. In a container the shim is root without the right
/// to pass by modes, and the host's side may be another user: then the directory is open to all,
/// and its parent on the host and the mount above it in the container keep others out.
pub(crate) fn adopt_mode() -> io::Result<()> {
    let is_open = fs::metadata(".")?.mode() & 0o002 != 0;
    OPEN_MODE.get_or_init(|| is_open);
    Ok(())
}

/// The mode of a file of ours.
pub(crate) fn file_mode() -> u32 {
    if OPEN_MODE.get() == Some(&true) { 0o644 } else { 0o600 }
}

/// Lets the host's side write into a fifo.
pub(crate) fn open_fifo(name: &str) -> io::Result<()> {
    if OPEN_MODE.get() == Some(&true) {
        fs::set_permissions(name, fs::Permissions::from_mode(0o666))?;
    }
    Ok(())
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Writes a whole file under its name or not at all.
pub(crate) fn write(name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
    let tmp = format!("{name}.tmp");
    let mut file = create(&tmp)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&tmp, name)?;
    if durable { sync_directory() } else { Ok(()) }
}

/// The place of the exit record.
pub(crate) struct ExitFile(File);

impl ExitFile {
    const TMP: &str = "exit.json.tmp";

    /// Takes the room.
    pub(crate) fn reserve() -> io::Result<Self> {
        let mut file = create(Self::TMP)?;
        file.write_all(&[b' '; EXIT_ROOM])?;
        Ok(Self(file))
    }

    /// Writes the record durably under its name, and with it the intent that tells whose it is.
    ///
    /// Where syncing fails the record is still there for everybody until the power fails.
    pub(crate) fn commit(&self, json: &str) -> io::Result<()> {
        self.0.write_all_at(json.as_bytes(), 0)?;
        self.0.set_len(json.len() as u64)?;
        let intent = File::open("intent.json").and_then(|intent| intent.sync_all());
        let synced = self.0.sync_all().and(intent);
        fs::rename(Self::TMP, "exit.json")?;
        synced.and_then(|()| sync_directory())
    }
}

/// A JSON object under construction. Names are our own and need no escaping.
pub(crate) struct Object(String);

impl Object {
    /// An object that begins with its version.
    pub(crate) fn versioned() -> Self {
        Self(format!("{{\"version\":{VERSION}"))
    }

    /// Adds a value that is JSON already.
    pub(crate) fn with(mut self, name: &str, json: impl std::fmt::Display) -> Self {
        self.0.push_str(&format!(",\"{name}\":{json}"));
        self
    }

    pub(crate) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if u32::from(c) < 0x20 => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

/// Bytes that should be text as a JSON string, cut to keep records small.
pub(crate) fn quoted_bytes(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    quoted(&text.chars().take(1000).collect::<String>())
}

fn create(name: &str) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(file_mode()).open(name)
}

fn sync_directory() -> io::Result<()> {
    File::open(".")?.sync_all()
}
