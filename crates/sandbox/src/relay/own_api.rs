//! Where openTiger's own API listens, which no relay leads to. It reads what the server says of itself and asks nobody.

use std::{fs, net::SocketAddr, path::Path};

use launcher::identity::ProcessIdentity;
use serde::Deserialize;

/// What a server writes into the state directory while it listens, as far as it matters here. It may listen elsewhere than
/// this process's settings say: on another port, or on one that the system chose.
#[derive(Debug, Deserialize)]
struct Announced {
    address: SocketAddr,
    #[serde(flatten)]
    process: ProcessIdentity,
}

/// Where the API of a state directory listens, and where it would by the settings.
#[must_use]
pub fn addresses(state_dir: &Path, by_settings: SocketAddr) -> Vec<SocketAddr> {
    let announced = fs::read(state_dir.join("api.json")).ok();
    let announced = announced.and_then(|text| serde_json::from_slice::<Announced>(&text).ok());
    // A server that was killed leaves the file behind, and somebody else may have its port by now.
    let running = announced.filter(|announced| announced.process.is_alive());
    let running = running.map(|announced| announced.address);
    [by_settings].into_iter().chain(running).collect()
}
