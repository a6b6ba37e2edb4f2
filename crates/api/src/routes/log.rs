//! `/runs/{id}/log`: a run's events as text for people, whole, from its end, or while it lives.

use std::convert::Infallible;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use core_types::{ids::RunId, task::RunStatus};
use futures_util::{StreamExt as _, stream};
use http::{HeaderName, HeaderValue, header};
use store::{pool::Store, runs::StoredEvent};

use crate::{
    error::ApiError,
    extract::{PathId, QueryTexts},
    openapi::{AboutId, Always},
    requests::log::{LogPart, LogQuery},
    routes::events::Follow,
    state::ApiState,
    views::log::lines,
};

/// The most bytes of one answer that does not go on; one event may go beyond.
const LIMIT: usize = 1 << 20;
/// How many events are read at once.
const BATCH: i64 = 200;
/// The number of the last event in the answer.
const NEXT_AFTER: HeaderName = HeaderName::from_static("x-next-after");
/// Whether no event follows.
const ENDED: HeaderName = HeaderName::from_static("x-log-ended");

/// Shows a run's log: its events as lines with times, for people.
///
/// An answer holds about 1 MiB at most; `X-Next-After` says with which `after` it goes on, and `X-Log-Ended` whether
/// anything may follow. With `follow=true` the answer goes on until the run has ended, and has neither header.
#[utoipa::path(
    get, path = "/runs/{id}/log", tag = "runs", operation_id = "showLog",
    params(("id" = String, Path, description = "The run."), LogQuery),
    responses(
        (status = 200, description = "The log.", body = String, content_type = "text/plain",
            headers(
                ("X-Next-After" = i64, description = "The value of `after` that goes on from here."),
                ("X-Log-Ended" = bool, description = "Whether no event follows."),
            )),
        AboutId, Always,
    )
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    PathId(id): PathId<RunId>,
    QueryTexts(query): QueryTexts<LogQuery>,
) -> Result<Response, ApiError> {
    let part = query.part()?;
    // The status is read before the events: a run that has ended by then gets no further ones.
    let run = state.store.run(id).await?.ok_or_else(|| ApiError::not_found("run"))?;
    let ended = run.status == RunStatus::Ended;
    if part.follow {
        return follow(&state, id, part).await;
    }
    let read = match part.tail {
        None => from(&state.store, id, part.after).await?,
        Some(wanted) => tail(&state.store, id, part.after, wanted).await?,
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (NEXT_AFTER, HeaderValue::from(read.next_after)),
        (ENDED, HeaderValue::from_static(if ended && read.whole { "true" } else { "false" })),
    ];
    Ok((headers, read.text).into_response())
}

/// A part of a log.
pub(crate) struct Read {
    pub(crate) text: String,
    pub(crate) next_after: i64,
    /// Whether it goes up to the present end.
    whole: bool,
}

/// From a place on, as much as one answer holds.
async fn from(store: &Store, run: RunId, after: i64) -> Result<Read, ApiError> {
    let mut read = Read { text: String::new(), next_after: after, whole: false };
    while read.text.len() < LIMIT && !read.whole {
        let events = store.stored_events(run, read.next_after, BATCH).await?;
        read.whole = is_last(&events);
        for event in &events {
            if read.text.len() >= LIMIT {
                read.whole = false;
                break;
            }
            read.text.push_str(&lines(event));
            read.next_after = event.seq;
        }
    }
    Ok(read)
}

/// The last lines, read from the end.
pub(crate) async fn tail(
    store: &Store,
    run: RunId,
    after: i64,
    wanted: usize,
) -> Result<Read, ApiError> {
    let mut kept: Vec<String> = Vec::new();
    let (mut before, mut next_after, mut bytes) = (i64::MAX, after, 0);
    loop {
        let mut events = store.last_events(run, before, BATCH).await?;
        let first_batch = before == i64::MAX;
        let more = !is_last(&events);
        events.retain(|event| event.seq > after);
        if first_batch {
            next_after = events.last().map_or(after, |event| event.seq);
        }
        before = events.first().map_or(0, |event| event.seq);
        for event in events.iter().rev() {
            let text = lines(event);
            bytes += text.len();
            kept.extend(text.split_inclusive('\n').rev().map(str::to_owned));
        }
        if !more || before <= after + 1 || kept.len() >= wanted || bytes >= LIMIT {
            kept.truncate(wanted);
            return Ok(Read { text: kept.into_iter().rev().collect(), next_after, whole: true });
        }
    }
}

fn is_last(events: &[StoredEvent]) -> bool {
    i64::try_from(events.len()).is_ok_and(|count| count < BATCH)
}

/// What there is, and then what comes.
async fn follow(state: &ApiState, run: RunId, part: LogPart) -> Result<Response, ApiError> {
    let begin = match part.tail {
        None => Read { text: String::new(), next_after: part.after, whole: false },
        Some(wanted) => tail(&state.store, run, part.after, wanted).await?,
    };
    let follow = Follow::new(state, run, begin.next_after);
    let stopped = state.stop.clone().cancelled_owned();
    let coming = follow.events().map(|event| Bytes::from(lines(&event)));
    let text = stream::iter([Bytes::from(begin.text)]).chain(coming).take_until(stopped);
    let body = Body::from_stream(text.map(Ok::<_, Infallible>));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}
