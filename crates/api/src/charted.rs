//! What charts are drawn from, read once for everybody who looks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use core_types::words;
use store::{
    flow::{Slot, Slots},
    spend::SpendOfDay,
};
use telemetry::chain::error_chain;
use tokio::sync::Mutex;

use crate::state::ApiState;

words! {
    /// The time that charts show.
    Window, "time of charts" {
        Day = "day",
        Week = "week",
        Month = "month",
    }
}

impl Window {
    /// How the time is cut.
    pub(crate) const fn slots(self) -> Slots {
        match self {
            Self::Day => Slots { count: 24, seconds: 3600 },
            Self::Week => Slots { count: 28, seconds: 6 * 3600 },
            Self::Month => Slots { count: 30, seconds: 24 * 3600 },
        }
    }

    /// How many days of use are shown beside it: of use only days are known.
    pub(crate) const fn days(self) -> u32 {
        match self {
            Self::Day | Self::Week => 14,
            Self::Month => 30,
        }
    }

    /// For how long an answer is shown again: what takes longer to read changes less.
    const fn fresh(self) -> Duration {
        match self {
            Self::Day => Duration::from_secs(10),
            Self::Week => Duration::from_secs(60),
            Self::Month => Duration::from_secs(300),
        }
    }
}

/// What is shown; a part that the database did not tell is absent.
#[derive(Debug, Default)]
pub(crate) struct Charted {
    pub(crate) flow: Option<Vec<Slot>>,
    pub(crate) days: Option<Vec<SpendOfDay>>,
}

/// What was read last, for each time.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastCharts(Arc<[Kept; Window::ALL.len()]>);

type Kept = Mutex<Option<(Instant, Arc<Charted>)>>;

impl LastCharts {
    fn of(&self, window: Window) -> &Kept {
        let [day, week, month] = &*self.0;
        match window {
            Window::Day => day,
            Window::Week => week,
            Window::Month => month,
        }
    }
}

impl ApiState {
    /// What charts show of this time. Who asks while another one reads waits for what that one gets; what could not be
    /// read is not asked for again at once.
    pub(crate) async fn charted(&self, window: Window) -> Arc<Charted> {
        let mut kept = self.charts.of(window).lock().await;
        if let Some((at, charted)) = &*kept
            && at.elapsed() < window.fresh()
        {
            return Arc::clone(charted);
        }
        let flow = self.store.flow(window.slots()).await;
        let days = self.store.spend_of_days(window.days()).await;
        for error in [flow.as_ref().err(), days.as_ref().err()].into_iter().flatten() {
            tracing::warn!(error = %error_chain(error), "charts not known");
        }
        let charted = Arc::new(Charted { flow: flow.ok(), days: days.ok() });
        *kept = Some((Instant::now(), Arc::clone(&charted)));
        charted
    }
}
