//! Settings, database and launcher made into a dispatcher.

use std::sync::Arc;

use anyhow::Context as _;
use checkout::{checkouts::Checkouts, git::GitCommand};
use dispatch::reconciler::Dispatcher;
use executor::environment::DEFAULT_PATH;

/// Dispatches until a signal asks it to stop.
pub(crate) async fn run(check_config: bool) -> anyhow::Result<()> {
    if check_config {
        return Ok(bootstrap::check::check_config(false)?);
    }
    let started = bootstrap::start::start("dispatcher").await?;
    let stop = started.stop_token().context("listen for signals")?;
    let search_path = bootstrap::environment::environment().remove("PATH");
    let git =
        GitCommand::find(search_path.as_deref().unwrap_or(DEFAULT_PATH)).context("find git")?;
    let launcher = Arc::clone(&started.launcher);
    let dispatcher = Dispatcher {
        store: started.store.clone(),
        launcher,
        checkouts: Arc::new(Checkouts::new(started.state_dir.join("checkouts"), git)),
        beat: started.dispatcher_beat().context("describe this dispatcher")?,
        host: started.host.clone(),
        settings: started.watch_settings(),
    };
    dispatcher.run(stop).await.context("dispatch")?;
    Ok(started.outcome()?)
}
