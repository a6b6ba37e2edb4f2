//! Another way to wake other processes, besides the database: what it is, nobody here knows.
//!
//! It is told what was committed, and only then. What it brings from others is heard here, by the same listeners and in
//! the same words as what the database says.

use std::sync::Arc;

use core_types::ids::{AgentId, RunId, RunKey};

use crate::{error::StoreError, pool::Store, row::get, wake::Channel};

/// Another way to other processes, besides the database: hears what this store has committed, and must not wait.
///
/// It may lose anything. Whatever it brings to other processes goes into [`Store::hear`] there.
pub trait Bell: std::fmt::Debug + Send + Sync {
    /// Listeners of this channel should look.
    fn wake(&self, channel: Channel);
    /// A run has events up to this number.
    fn events(&self, run: RunId, seq: i64);
    /// A run was handed to an agent.
    fn assigned(&self, agent: AgentId, key: RunKey);
}

const INSTANCE: &str = "
    SELECT (SELECT system_identifier FROM pg_control_system())::text || 'd' || oid::text AS instance
    FROM pg_database WHERE datname = current_database()";

impl Store {
    /// Gives this store another way to tell other processes; the first one stays.
    pub fn also_ring(&self, bell: Arc<dyn Bell>) {
        self.bell().set(bell).ok();
    }

    /// Wakes the listeners of this process alone, on behalf of somebody who rang another way.
    pub fn hear(&self, channel: Channel) {
        self.rings().send_modify(|rings| {
            let place = Channel::ALL.iter().position(|one| *one == channel);
            if let Some(count) = place.and_then(|place| rings.get_mut(place)) {
                *count = count.wrapping_add(1);
            }
        });
    }

    /// A text that is the same for all processes of this database, and another one for every other database.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn instance(&self) -> Result<String, StoreError> {
        let row = self.connection().await?.query_one(INSTANCE, &[]).await?;
        get(&row, "instance")
    }

    /// Tells that a run has events up to this number.
    pub(crate) fn wake_events(&self, run: RunId, seq: i64) {
        self.raise(Channel::Events);
        if let Some(bell) = self.bell().get() {
            bell.events(run, seq);
        }
    }

    /// Tells an agent that a run was handed to it.
    pub(crate) fn wake_agent(&self, agent: AgentId, key: RunKey) {
        if let Some(bell) = self.bell().get() {
            bell.assigned(agent, key);
        }
    }
}
