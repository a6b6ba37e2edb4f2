//! `worker relay`: one address of a sandboxes' network that leads to a service on this machine's loopback.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use sandbox::relay::{clients::Clients, serve::Server};
use telemetry::log::{Format, LogOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Arguments of `worker relay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where it listens: an address of the sandboxes' gateway.
    #[arg(long)]
    listen: SocketAddr,
    /// Where it leads; several are tried in their order.
    #[arg(long = "to", required = true)]
    targets: Vec<SocketAddr>,
    /// The directory that says which addresses it serves.
    #[arg(long)]
    clients: PathBuf,
    /// How many connections one of these may have at once.
    #[arg(long)]
    per_client: usize,
}

/// Serves until a signal ends it.
pub(crate) async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let options = LogOptions { filter: "info".to_owned(), format: Format::Text };
    telemetry::log::init(&options).context("start logging")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let Arguments { listen, targets, clients, per_client } = arguments;
    let server = Server::listen(listen, targets, Clients::at(clients), per_client).await;
    let server = server.context("relay")?;
    tracing::info!(relay.address = %listen, "relay serves");
    let stop = CancellationToken::new();
    // The relay keeps nothing that an end in the middle could damage, so whichever comes first is fine.
    tokio::select! {
        () = server.serve(stop.clone()) => {}
        _ = terminate.recv() => stop.cancel(),
    }
    Ok(())
}
