//! `model-stub`: the scripted model as a program. Prints one line with its address; ends on SIGTERM or SIGINT.

use std::{io::Write as _, net::SocketAddr};

use anyhow::{Context as _, Result};
use clap::Parser;
use model_stub::{script::Scripts, server::ModelStub};
use tokio::signal::unix::{SignalKind, signal};

/// A scripted Messages API on loopback.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Loopback address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Script for requests that name none: a built-in one by name, or a JSON file.
    #[arg(long, default_value = "demo")]
    script: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let stub = ModelStub::listen(arguments.listen, scripts(&arguments.script)?).await?;
    writeln!(std::io::stdout(), "listening on {}", stub.base_url()).context("print the address")?;
    // Cancel-safe: a signal that came while the other was polled ends the program all the same.
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stub.stop().await;
    Ok(())
}

fn scripts(named: &str) -> Result<Scripts> {
    let builtin = Scripts::builtin();
    if builtin.names().any(|name| name == named) {
        return Ok(builtin.with_default(named)?);
    }
    let known = builtin.names().collect::<Vec<_>>().join(", ");
    let text = std::fs::read_to_string(named)
        .with_context(|| format!("read script `{named}` (no file, and none of {known})"))?;
    Scripts::from_json(&text).with_context(|| format!("understand script `{named}`"))
}
