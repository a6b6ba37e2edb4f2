//! The stream that tells pages to look again. It says that something happened and never what: pages ask for themselves.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt as _, stream};
use tokio::time::{sleep, timeout};

use crate::state::ApiState;

/// The least time between two words to a page.
const SPACING: Duration = Duration::from_secs(1);
/// How long a page hears nothing at most: wake-ups may be lost, and some things change with time alone.
const ANYWAY: Duration = Duration::from_secs(20);
/// How often a stream that has nothing to say shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Tells as long as somebody listens.
pub(crate) async fn follow(State(state): State<ApiState>) -> Response {
    let stopped = state.stop.clone().cancelled_owned();
    let told = stream::unfold(state.hub.changes(), |mut changes| async move {
        // Nothing to be told of any more, and silence for long, are both a reason to look.
        timeout(ANYWAY, changes.changed()).await.ok();
        sleep(SPACING).await;
        changes.mark_unchanged();
        Some((Ok::<_, Infallible>(Event::default().event("changed").data("")), changes))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(told.take_until(stopped)).keep_alive(keep_alive).into_response()
}
