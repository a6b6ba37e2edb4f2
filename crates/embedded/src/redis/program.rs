//! How Redis is started, and how it says that it is ready.

use std::path::PathBuf;

use core_types::secret::Secret;
use launcher::{
    handle::Handle,
    spec::{LaunchSpec, StopPolicy, StopSignal},
};

use crate::{
    account::Account,
    error::{EmbeddedError, ServerKind},
    files::{read_plain, write_private},
    options::Durability,
    redis::{binary::Binary, question::process_at},
    server::{self, Program, STOP_GRACE, leader},
};

/// A Redis in its directory.
#[derive(Debug)]
pub(crate) struct Redis<'a> {
    pub(crate) directory: PathBuf,
    pub(crate) account: &'a Account,
    pub(crate) durability: Durability,
    pub(crate) password: Secret,
}

impl Program for Redis<'_> {
    const KIND: ServerKind = ServerKind::Redis;
    const LAUNCH_ID: &'static str = "embedded-redis";

    /// Only who starts a server writes its settings, so they name the port of the one that runs; whoever answers there
    /// must be the process of the launch.
    async fn ready(&self, handle: &Handle) -> Option<u16> {
        let port = self.port()?;
        let process = process_at(port, &self.password).await?;
        (leader(handle).await == Some(process)).then_some(port)
    }
}

impl Redis<'_> {
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Writes the settings for a start on this port, and says how to start.
    pub(crate) fn spec(&self, binary: &Binary, port: u16) -> Result<LaunchSpec, EmbeddedError> {
        let file = self.settings_file();
        write_private(&file, self.settings(port).as_bytes(), self.account.user)?;
        let args = vec![file.display().to_string()];
        let mut spec = server::spec(&binary.program, args, self.account);
        spec.stop = StopPolicy { grace: STOP_GRACE, signal: StopSignal::Terminate };
        Ok(spec)
    }

    fn settings_file(&self) -> PathBuf {
        self.directory.join("redis.conf")
    }

    fn settings(&self, port: u16) -> String {
        let (data, password) = (self.data_dir(), self.password.expose());
        let append_only = match self.durability {
            Durability::Full => "yes",
            Durability::Test => "no",
        };
        format!(
            "port {port}\nbind 127.0.0.1\nprotected-mode yes\nrequirepass {password}\ndir \"{}\"\n\
             appendonly {append_only}\nappendfsync everysec\nsave \"\"\ndaemonize no\nlogfile \"\"\n",
            data.display()
        )
    }

    fn port(&self) -> Option<u16> {
        let settings = read_plain(&self.settings_file()).ok()?;
        settings.lines().find_map(|line| line.strip_prefix("port "))?.parse().ok()
    }
}
