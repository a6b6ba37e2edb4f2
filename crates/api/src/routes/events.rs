//! `/runs/{id}/events`: a page of a run's events, and the same as a stream that goes on while the run lives.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use core_types::{ids::RunId, task::RunStatus};
use futures_util::{Stream, StreamExt as _, stream};
use http::StatusCode;
use serde_json::Value;
use store::{error::StoreError, pool::Store, runs::StoredEvent};
use telemetry::chain::error_chain;

use crate::{
    error::ApiError,
    extract::{LastEventId, PathId, QueryTexts},
    hub::Ear,
    openapi::{AboutId, Always},
    requests::paging::{EventsQuery, StreamQuery},
    state::ApiState,
    views::run::{EventPage, EventView},
};

/// How many events a stream reads at once.
const BATCH: i64 = 200;
/// How often a stream that has nothing to say shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Shows a page of a run's events, oldest first.
#[utoipa::path(
    get, path = "/runs/{id}/events", tag = "runs", operation_id = "listEvents",
    params(("id" = String, Path, description = "The run."), EventsQuery),
    responses((status = 200, description = "A page of events.", body = EventPage), AboutId, Always)
)]
pub(crate) async fn page(
    State(state): State<ApiState>,
    PathId(id): PathId<RunId>,
    QueryTexts(query): QueryTexts<EventsQuery>,
) -> Result<Json<EventPage>, ApiError> {
    let (after, limit) = query.page()?;
    // The status is read before the events: a run that has ended by then gets no further ones.
    let run = state.store.run(id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    let events = state.store.stored_events(id, after, i64::from(limit)).await?;
    let next_after = events.last().map_or(after, |event| event.seq);
    let whole = usize::try_from(limit).is_ok_and(|limit| events.len() < limit);
    Ok(Json(EventPage {
        ended: whole && run.status == RunStatus::Ended,
        next_after,
        items: events.into_iter().map(EventView::from).collect(),
    }))
}

/// Streams a run's events as server-sent events, from any place on, until the run has ended.
///
/// The id of each is its number, its name is the event's kind, its data is the event. A client that comes back sends
/// `Last-Event-ID` and misses nothing. Where no event follows for good, the answer is 204, so that browsers stop asking.
#[utoipa::path(
    get, path = "/runs/{id}/events/stream", tag = "runs", operation_id = "followEvents",
    params(
        ("id" = String, Path, description = "The run."),
        ("Last-Event-ID" = Option<i64>, Header, description = "The number of the last event that arrived."),
        StreamQuery,
    ),
    responses(
        (status = 200, description = "The events.", body = String, content_type = "text/event-stream"),
        (status = 204, description = "The run has ended and no event follows."),
        AboutId, Always,
    )
)]
pub(crate) async fn follow(
    State(state): State<ApiState>,
    PathId(id): PathId<RunId>,
    QueryTexts(query): QueryTexts<StreamQuery>,
    last: Option<LastEventId>,
) -> Result<Response, ApiError> {
    let asked = query.after()?;
    let after = last.map_or(asked, |LastEventId(seq)| seq);
    let run = state.store.run(id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    let mut follow = Follow::new(&state, id, after);
    follow.ear.clear();
    follow.look().await?;
    if follow.read.is_empty() && run.status == RunStatus::Ended {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let stopped = state.stop.clone().cancelled_owned();
    let events = follow.events().map(|event| Ok::<_, Infallible>(wire(event))).take_until(stopped);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn wire(event: StoredEvent) -> Event {
    let named = Event::default().id(event.seq.to_string()).event(kind(&event));
    let data = serde_json::to_string(&EventView::from(event)).unwrap_or_else(|_| "{}".to_owned());
    named.data(data)
}

/// What happened, in one word; `unknown` where the stored event does not say.
fn kind(event: &StoredEvent) -> &str {
    let word = |kind: &&str| kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    event.event.get("kind").and_then(Value::as_str).filter(word).unwrap_or("unknown")
}

/// The place of one stream in its run.
pub(crate) struct Follow {
    store: Store,
    run: RunId,
    after: i64,
    ear: Ear,
    read: VecDeque<StoredEvent>,
    over: bool,
}

impl Follow {
    /// Begins behind the event `after`.
    pub(crate) fn new(state: &ApiState, run: RunId, after: i64) -> Self {
        let (store, ear) = (state.store.clone(), state.hub.ear(run));
        Self { store, run, after, ear, read: VecDeque::new(), over: false }
    }

    /// All events from here on.
    pub(crate) fn events(self) -> impl Stream<Item = StoredEvent> + Send {
        stream::unfold(self, |mut follow| async move {
            let event = follow.next().await?;
            Some((event, follow))
        })
    }

    /// Waits for the next event; none after the last one.
    async fn next(&mut self) -> Option<StoredEvent> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.after = event.seq;
                self.over = kind(&event) == "ended";
                return Some(event);
            }
            if self.over {
                return None;
            }
            self.ear.clear();
            match self.look_or_end().await {
                Ok(()) if self.read.is_empty() && !self.over => self.ear.wait().await,
                Ok(()) => {}
                Err(error) if error.is_transient() => self.ear.wait().await,
                Err(error) => {
                    tracing::error!(run.id = %self.run, error = %error_chain(&error), "stream of events ended");
                    return None;
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        self.read = self.store.stored_events(self.run, self.after, BATCH).await?.into();
        Ok(())
    }

    /// Reads what is new; where nothing is, and the run is over without a word, the stream is over too.
    async fn look_or_end(&mut self) -> Result<(), StoreError> {
        self.look().await?;
        if self.read.is_empty() {
            let status = self.store.run(self.run).await?.map(|run| run.status);
            if status.is_none_or(|status| status == RunStatus::Ended) {
                // Events may have come between the two looks; after the end none come any more.
                self.look().await?;
                self.over = self.read.is_empty();
            }
        }
        Ok(())
    }
}
