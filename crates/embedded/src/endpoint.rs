//! `endpoint.json`: how to reach the server, for the next process and for people. Readable by its owner alone.

use std::{fs, io, path::Path};

use core_types::secret::Secret;
use launcher::handle::HandleRecord;
use serde::{Deserialize, Serialize};

use crate::{
    error::{EmbeddedError, io_error},
    files::{remove_file, write_private},
};

/// Where the server is.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) version: u32,
    pub(crate) port: u16,
    /// The launch that it was started as.
    pub(crate) launch: HandleRecord,
    /// For people; programs read the password beside the data.
    pub(crate) url: String,
}

/// The format that this version writes and reads.
const VERSION: u32 = 1;

impl Endpoint {
    pub(crate) fn new(port: u16, launch: HandleRecord, url: &Secret) -> Self {
        Self { version: VERSION, port, launch, url: url.expose().to_owned() }
    }

    /// Reads the file; one that is missing or of another format counts as none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, EmbeddedError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", path)(error)),
        };
        let endpoint: Option<Self> = serde_json::from_slice(&text).ok();
        Ok(endpoint.filter(|endpoint| endpoint.version == VERSION))
    }

    /// Whether the file says already what this one would.
    pub(crate) fn is_in(&self, path: &Path) -> Result<bool, EmbeddedError> {
        let Self { version: _, port, launch, url } = self;
        let written = Self::read(path)?;
        Ok(written.is_some_and(|it| it.port == *port && it.launch == *launch && it.url == *url))
    }

    /// Removes the file: what it says is true no more.
    pub(crate) fn forget(path: &Path) -> Result<(), EmbeddedError> {
        remove_file(path)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), EmbeddedError> {
        let json = serde_json::to_vec_pretty(self).map_err(|error| {
            io_error("write", path)(io::Error::new(io::ErrorKind::InvalidData, error))
        })?;
        write_private(path, &json, None)
    }
}
