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
/// The same where one said nothing of that.
const KNOCK_SOON: Duration = Duration::from_secs(15);

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
        let pause = if all_refuse { KNOCK_EVERY } else { KNOCK_SOON };
        *self.knocked() = Some((relays.clone(), callers.clone(), Instant::now() + pause));
        Ok(())
    }

    fn is_knock_due(&self, relays: &[Relay], callers: &Callers) -> bool {
        let knocked = self.knocked();
        !knocked.as_ref().is_some_and(|(known, under, until)| {
            (&**known, under) == (relays, callers) && Instant::now() < *until
        })
    }

    fn knocked(&self) -> std::sync::MutexGuard<'_, Option<(Vec<Relay>, Callers, Instant)>> {
        self.knocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
