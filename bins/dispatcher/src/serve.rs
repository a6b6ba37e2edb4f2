//! Settings, database and launcher made into a dispatcher.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use bootstrap::start::Started;
use checkout::{checkouts::Checkouts, git::GitCommand};
use core_config::load::Loaded;
use dispatch::{
    gates::try_new_logins,
    reconciler::Dispatcher,
    sandboxed::{
        containers::Containers,
        demand::{Demand, KEPT_IDLE},
        readiness::Readiness,
        tenders::{Sandboxes, UNTENDED},
    },
};
use executor::environment::DEFAULT_PATH;
use launcher::{docker::DockerLauncher, process::ProcessLauncher};
use notices::deliverer::{self, Deliverer};
use sandbox::{
    premises::{Opening, Premises},
    view::{Logins, Sources},
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use traces::exporter::{Exporter, SETTLED};

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
        launcher: Arc::<ProcessLauncher>::clone(&started.launcher),
        settings: settings.clone(),
        env: command_environment(),
        lease: deliverer::LEASE,
        patience: deliverer::Patience::default(),
    };
    let checkouts = Checkouts::new(started.state_dir.join("checkouts"), git)
        .with_mirrors(started.state_dir.join("mirrors"));
    let containers = Arc::new(containers(&started, settings.clone(), checkouts.clone())?);
    let dispatcher = Dispatcher {
        store: started.store.clone(),
        launcher,
        checkouts: Arc::new(checkouts),
        beat: started.dispatcher_beat().context("describe this dispatcher")?,
        host: started.host.clone(),
        settings: settings.clone(),
        sandboxes: Some(Sandboxes {
            launcher: Arc::<DockerLauncher>::clone(&containers.premises.launcher),
            outfitter: Arc::<Containers>::clone(&containers),
            readiness: Arc::new(Readiness::new()),
            untended: UNTENDED,
        }),
    };
    let mut delivering = JoinSet::new();
    let no_more_notices = stop.child_token();
    delivering.spawn(deliverer.run(no_more_notices.clone()));
    let exporter =
        Exporter { store: started.store.clone(), settings: settings.clone(), settled: SETTLED };
    delivering.spawn(exporter.run(no_more_notices.clone()));
    let logins = watch::Sender::new(None);
    let tried = try_new_logins(started.store.clone(), logins.subscribe(), no_more_notices.clone());
    delivering.spawn(tried);
    delivering.spawn(keep_view(containers, settings, logins, no_more_notices.clone()));
    let dispatched = dispatcher.run(stop).await.context("dispatch");
    no_more_notices.cancel();
    while let Some(ended) = delivering.join_next().await {
        ended.context("deliver notices, tell traces, keep the view of logins")?;
    }
    dispatched?;
    Ok(started.outcome()?)
}

/// Sandboxes on the Docker engine, which need not be there yet.
fn containers(
    started: &Started,
    settings: watch::Receiver<Arc<Loaded>>,
    checkouts: Checkouts,
) -> anyhow::Result<Containers> {
    let first = &started.settings.settings;
    let own = std::env::current_exe().context("find own program")?;
    let premises = Premises::open(Opening {
        docker_host: first.docker_host.clone(),
        state_dir: &started.state_dir,
        programs: own.parent().context("find the directory of the own program")?,
        host: Arc::<ProcessLauncher>::clone(&started.launcher),
        environment: bootstrap::environment::environment(),
    })?;
    let url = started.embedded.as_ref().map(|embedded| &embedded.url);
    let url = url.or(first.database_url.as_ref()).context("find the database's address")?;
    Ok(Containers {
        premises,
        host: Arc::<ProcessLauncher>::clone(&started.launcher),
        store: started.store.clone(),
        database_url: url.clone(),
        settings,
        checkouts,
        remotes: agent::policy::remote_access,
        demand: Demand::lasting(KEPT_IDLE),
        warned: Mutex::default(),
    })
}

/// Keeps the view of the host's logins up to date, whoever uses it.
async fn keep_view(
    containers: Arc<Containers>,
    settings: watch::Receiver<Arc<Loaded>>,
    logins: watch::Sender<Option<Logins>>,
    stop: CancellationToken,
) {
    let home = containers.premises.environment.get("HOME").map(PathBuf::from);
    let sources = move || Sources::of(&settings.borrow().settings, home.as_deref()).ok();
    containers.premises.view.clone().keep(sources, logins, stop).await;
}

/// What the command that takes notices sees of this process's environment.
fn command_environment() -> BTreeMap<String, String> {
    let mut own = bootstrap::environment::environment();
    let path = own.remove("PATH").unwrap_or_else(|| DEFAULT_PATH.to_owned());
    let seen = ["HOME", "LANG", "LC_ALL", "TZ"].into_iter();
    let kept = seen.filter_map(|name| Some((name.to_owned(), own.remove(name)?)));
    kept.chain([("PATH".to_owned(), path)]).collect()
}
