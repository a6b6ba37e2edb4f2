//! How PostgreSQL is started, and how it says that it is ready.

use launcher::{
    handle::Handle,
    spec::{LaunchSpec, StopPolicy, StopSignal},
};

use crate::{
    account::Account,
    error::ServerKind,
    options::Durability,
    postgres::{binaries::Binaries, cluster::Cluster},
    server::{self, Program, STOP_GRACE, leader},
};

// Each agent process holds up to six connections; dozens of them shall fit.
const FULL: &[&str] = &["max_connections=500"];
const TEST: &[&str] = &[
    "max_connections=400",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum_naptime=1h",
    // A test that ends while a connection is being made leaves it half open until its process ends, and the removal of
    // its database waits for that. Shorter, and a busy machine does not get through with it.
    "authentication_timeout=5s",
];
const ALWAYS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "logging_collector=off",
    "log_min_messages=warning",
    "log_checkpoints=off",
    "jit=off",
];

/// A PostgreSQL on its data.
#[derive(Debug)]
pub(crate) struct Postgres<'a> {
    pub(crate) cluster: Cluster,
    pub(crate) account: &'a Account,
    pub(crate) durability: Durability,
}

impl Program for Postgres<'_> {
    const KIND: ServerKind = ServerKind::Postgres;
    const LAUNCH_ID: &'static str = "embedded-postgres";

    /// A file that a killed server left says that it is ready, too, but names another process.
    async fn ready(&self, handle: &Handle) -> Option<u16> {
        let postmaster = self.cluster.postmaster().filter(|postmaster| postmaster.ready)?;
        let port = postmaster.port?;
        (leader(handle).await == Some(postmaster.pid)).then_some(port)
    }
}

impl Postgres<'_> {
    pub(crate) fn spec(&self, binaries: &Binaries, port: u16) -> LaunchSpec {
        let data_dir = self.cluster.data_dir.display().to_string();
        let mut args = vec!["-D".to_owned(), data_dir, "-p".to_owned(), port.to_string()];
        let chosen = match self.durability {
            Durability::Full => FULL,
            Durability::Test => TEST,
        };
        for setting in ALWAYS.iter().chain(chosen) {
            args.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        let mut spec = server::spec(&binaries.postgres, args, self.account);
        // The default signal would wait for every client to leave; this one ends them and shuts down cleanly.
        spec.stop = StopPolicy { grace: STOP_GRACE, signal: StopSignal::Interrupt };
        spec
    }
}
