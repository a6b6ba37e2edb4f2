//! Uses the private PostgreSQL of a state directory until it is killed: `hold_postgres <state directory> [lease in ms]`.
//!
//! Prints the URL once the server is ready. Any number of these share one server; start two and kill the first.

use std::{io::Write as _, path::PathBuf, time::Duration};

use embedded::{
    options::{Durability, EmbeddedOptions},
    postgres::ensure_postgres,
};
use launcher::process::ProcessLauncher;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let state_dir = PathBuf::from(arguments.next().ok_or("name a state directory")?);
    let launcher = ProcessLauncher::new(state_dir.clone())?;
    let search_path = "/usr/local/bin:/usr/bin:/bin".to_owned();
    let mut options = EmbeddedOptions::new(state_dir, search_path, launcher);
    options.durability = Durability::Test;
    if let Some(lease) = arguments.next() {
        options.lease = Duration::from_millis(lease.parse()?);
    }
    let postgres = ensure_postgres(options).await?;
    writeln!(std::io::stdout(), "{}", postgres.url.expose())?;
    match postgres.keep_alive().await? {}
}
