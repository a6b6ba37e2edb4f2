//! Managing, for as long as this process holds the lock.

use std::{sync::Arc, time::Duration};

use core_config::load::Loaded;
use launcher::launcher::Launcher;
use store::{agents::HostId, pool::Store};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{programs::Programs, reign::Reign};

/// A rest before the lock is tried again, so that others have their turn.
const REST: Duration = Duration::from_millis(200);

/// Manages the processes of a system whenever nobody else does.
#[derive(Debug, Clone)]
pub struct Manager {
    /// The database.
    pub store: Store,
    /// Launches the processes and finds them again.
    pub launcher: Arc<dyn Launcher>,
    /// The host of that launcher.
    pub host: HostId,
    /// What is launched.
    pub programs: Programs,
    /// The settings in force.
    pub settings: watch::Receiver<Arc<Loaded>>,
}

impl Manager {
    /// Waits for the lock and manages, again and again, until it is told to stop. Processes go on when it stops.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let taking = self.store.manage_processes(&self.host);
            let Some(mut managership) = stop.run_until_cancelled(taking).await else {
                return;
            };
            tracing::info!(manager.epoch = managership.epoch(), "managing processes");
            let reign =
                Reign::new(self.clone(), managership.epoch(), managership.instance().to_owned());
            // Dropping a reign at any point is fine: what it was about to do stands in the rows, from which the next
            // one goes on, and launches need nobody.
            tokio::select! {
                () = stop.cancelled() => return,
                () = managership.lost() => {
                    tracing::warn!("the lock of the process manager is lost, processes go on unmanaged");
                }
                _over = reign.run() => {
                    tracing::warn!("another one manages processes by now");
                }
            }
            drop(managership);
            stop.run_until_cancelled(sleep(REST)).await;
        }
    }
}
