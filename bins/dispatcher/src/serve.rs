//! Settings, database and launcher made into a dispatcher.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use checkout::{checkouts::Checkouts, git::GitCommand};
use dispatch::reconciler::Dispatcher;
use executor::environment::DEFAULT_PATH;
use notices::deliverer::{self, Deliverer};
use tokio::task::JoinSet;

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
    let settings = started.watch_settings();
    let deliverer = Deliverer {
        store: started.store.clone(),
        launcher: Arc::<launcher::process::ProcessLauncher>::clone(&started.launcher),
        settings: settings.clone(),
        env: command_environment(),
        lease: deliverer::LEASE,
    };
    let dispatcher = Dispatcher {
        store: started.store.clone(),
        launcher,
        checkouts: Arc::new(
            Checkouts::new(started.state_dir.join("checkouts"), git)
                .with_mirrors(started.state_dir.join("mirrors")),
        ),
        beat: started.dispatcher_beat().context("describe this dispatcher")?,
        host: started.host.clone(),
        settings,
        sandboxes: None,
    };
    let mut delivering = JoinSet::new();
    let no_more_notices = stop.child_token();
    delivering.spawn(deliverer.run(no_more_notices.clone()));
    let dispatched = dispatcher.run(stop).await.context("dispatch");
    no_more_notices.cancel();
    while let Some(ended) = delivering.join_next().await {
        ended.context("deliver notices")?;
    }
    dispatched?;
    Ok(started.outcome()?)
}

/// What the command that takes notices sees of this process's environment.
fn command_environment() -> BTreeMap<String, String> {
    let mut own = bootstrap::environment::environment();
    let path = own.remove("PATH").unwrap_or_else(|| DEFAULT_PATH.to_owned());
    let seen = ["HOME", "LANG", "LC_ALL", "TZ"].into_iter();
    let kept = seen.filter_map(|name| Some((name.to_owned(), own.remove(name)?)));
    kept.chain([("PATH".to_owned(), path)]).collect()
}
