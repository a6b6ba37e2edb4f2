//! `worker resident`: settings, database and launcher made into a resident agent.

use std::sync::Arc;

use agent::{
    resident::{Resident, ring},
    run::Workshop,
    sessions::Sessions,
};
use agent_queue::inbox::Inbox;
use anyhow::Context as _;
use checkout::{checkouts::Checkouts, git::GitCommand};
use core_types::{ids::AgentId, task::Role};
use executor::environment::DEFAULT_PATH;
use store::agents::NewAgent;
use tokio::{sync::watch, task::JoinSet};

/// Arguments of `worker resident`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Name people know this agent by, e.g. `worker-1`.
    #[arg(long)]
    name: String,
    /// Which tasks it takes.
    #[arg(long, default_value = "worker")]
    role: Role,
}

/// Serves until a signal asks it to stop.
pub(crate) async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let started = bootstrap::start::start("worker").await?;
    let agent = NewAgent {
        id: AgentId::generate(),
        name: arguments.name,
        role: arguments.role,
        host: started.host.clone(),
        process: bootstrap::start::own_process().context("read own process identity")?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let parent_env = bootstrap::environment::environment();
    let search_path = parent_env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let git = GitCommand::find(search_path).context("find git")?;
    let checkouts = Checkouts::new(started.state_dir.join("checkouts"), git)
        .with_mirrors(started.state_dir.join("mirrors"));
    let (alarm, rings) = watch::channel(0);
    let mut bells = JoinSet::from_iter([ring(started.store.clone(), alarm.clone())]);
    if let Some(queue) = &started.queue {
        bells.spawn(ring_by_inbox(queue.inbox(agent.id), alarm));
    }
    let launcher = Arc::clone(&started.launcher);
    let shop = Workshop {
        store: started.store.clone(),
        launcher,
        checkouts: Arc::new(checkouts),
        sessions: Sessions::new(started.state_dir.join("sessions")),
        alarm: rings,
        parent_env: Arc::new(parent_env),
    };
    let settings = started.watch_settings();
    let stop = started.stop_token().context("listen for signals")?;
    Resident { shop, agent, settings }.serve(stop).await;
    Ok(started.outcome()?)
}

/// Turns what comes into the agent's inbox into the same alarm: the agent looks into the database, and an entry that is
/// stale or doubled costs one look.
async fn ring_by_inbox(mut inbox: Inbox, alarm: watch::Sender<u64>) {
    loop {
        inbox.next().await;
        alarm.send_modify(|rung| *rung = rung.wrapping_add(1));
    }
}
