//! `/notices`: what people were told, or will be; and a test of whether it arrives.

use std::time::Duration;

use axum::{Json, extract::State};
use core_types::notice::NoticeState;
use http::StatusCode;
use tokio::time::{Instant, sleep};

use crate::{
    error::ApiError,
    extract::QueryTexts,
    openapi::{AboutQuery, Always},
    requests::filters::{NoticesQuery, next_notice_cursor},
    state::ApiState,
    views::notice::{NoticePage, NoticeView},
};

/// How long a request for a test waits for what comes of it.
const TEST_TIME: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Lists notices, newest first.
#[utoipa::path(
    get, path = "/notices", tag = "system", operation_id = "listNotices", params(NoticesQuery),
    responses((status = 200, description = "A page of notices.", body = NoticePage), AboutQuery, Always)
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    QueryTexts(query): QueryTexts<NoticesQuery>,
) -> Result<Json<NoticePage>, ApiError> {
    let filter = query.filter()?;
    let page = state.store.list_notices(&filter).await?;
    Ok(Json(NoticePage {
        items: page.items.into_iter().map(NoticeView::from).collect(),
        next_cursor: next_notice_cursor(filter, page.next_cursor),
    }))
}

/// Has a dispatcher deliver a notice that only shows whether notices arrive, and says what came of it.
///
/// It is tried once, whatever `NOTIFY_ON` says. Where no dispatcher takes it up soon enough, the answer is 202.
#[utoipa::path(
    post, path = "/system/notices/test", tag = "system", operation_id = "testNotices",
    responses(
        (status = 200, description = "It was tried; `state` and `last_error` say what came of it.", body = NoticeView),
        (status = 202, description = "No dispatcher has come to a result yet; `GET /notices` will show it.", body = NoticeView),
        Always,
    )
)]
pub(crate) async fn test(
    State(state): State<ApiState>,
) -> Result<(StatusCode, Json<NoticeView>), ApiError> {
    let id = state.store.add_test_notice().await?;
    let until = Instant::now() + TEST_TIME;
    loop {
        let notice = state.store.notice(id).await?.ok_or_else(ApiError::internal)?;
        if notice.state != NoticeState::Pending {
            return Ok((StatusCode::OK, Json(notice.into())));
        }
        if Instant::now() >= until || state.stop.is_cancelled() {
            return Ok((StatusCode::ACCEPTED, Json(notice.into())));
        }
        sleep(LOOK_EVERY).await;
    }
}
