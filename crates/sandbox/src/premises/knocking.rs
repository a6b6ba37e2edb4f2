//! Relays are ensured, and what they lead to is asked now and then whether it refuses strangers.

use std::{sync::PoisonError, time::Duration};

use tokio::time::Instant;

use super::{Obstacle, Premises, Surroundings};
use crate::relay::{
    Relay,
    strangers::{Callers, Reception, knock},
};

/// How often it is asked whether a relayed service lets strangers in.
const KNOCK_EVERY: Duration = Duration::from_secs(60);

impl Premises {
    /// Makes sure that relays run and that what they lead to refuses strangers.
    ///
    /// # Errors
    /// [`Obstacle::Relay`] and [`Obstacle::Open`].
    pub async fn ensure_relays(&self, around: &Surroundings) -> Result<(), Obstacle> {
        let Surroundings { relays, callers, .. } = around;
        self.relays.ensure(&*self.host, relays).await?;
        if !self.is_knock_due(relays, callers) {
            return Ok(());
        }
        let mut all_refuse = true;
        for relay in relays {
            let said = knock(relay, callers).await.map_err(Obstacle::Open)?;
            all_refuse &= said == Reception::Refused;
        }
        // One that said nothing is asked again before long.
        *self.knocked() = all_refuse.then(|| (relays.clone(), callers.clone(), Instant::now()));
        Ok(())
    }

    fn is_knock_due(&self, relays: &[Relay], callers: &Callers) -> bool {
        let knocked = self.knocked();
        !knocked.as_ref().is_some_and(|(known, under, at)| {
            (&**known, under) == (relays, callers) && at.elapsed() < KNOCK_EVERY
        })
    }

    fn knocked(&self) -> std::sync::MutexGuard<'_, Option<(Vec<Relay>, Callers, Instant)>> {
        self.knocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
