//! Which route goes to which handler, and what lies around all of them.

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::{from_fn, from_fn_with_state},
};
use http::{Method, StatusCode};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    access::{Gate, guard, routes::Routes},
    error::ApiError,
    extract::BODY_LIMIT,
    middleware::{observe, panicked},
    openapi::{self, About},
    pages::{self, failure::dress},
    routes::{
        agents, auth, cleanup, config, diff, events, gates, health, log, metrics, notices,
        processes, readiness, runs, self_tests, spend, tasks,
    },
    state::ApiState,
};

/// Every route with its description.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(About::openapi())
        .routes(routes!(tasks::create, tasks::list))
        .routes(routes!(tasks::create_batch))
        .routes(routes!(tasks::summary))
        .routes(routes!(tasks::show))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::retry))
        .routes(routes!(tasks::runs))
        .routes(routes!(diff::of_task))
        .routes(routes!(runs::list))
        .routes(routes!(runs::show))
        .routes(routes!(diff::of_run))
        .routes(routes!(log::show))
        .routes(routes!(events::page))
        .routes(routes!(events::follow))
        .routes(routes!(agents::list))
        .routes(routes!(agents::show))
        .routes(routes!(config::show, config::change))
        .routes(routes!(config::history))
        .routes(routes!(notices::list))
        .routes(routes!(notices::test))
        .routes(routes!(cleanup::plan, cleanup::run))
        .routes(routes!(gates::list))
        .routes(routes!(gates::try_now))
        .routes(routes!(spend::show))
        .routes(routes!(auth::claude))
        .routes(routes!(auth::opencode))
        .routes(routes!(readiness::show))
        .routes(routes!(self_tests::list, self_tests::run))
        .routes(routes!(processes::list))
        .routes(routes!(processes::stop_all))
        .routes(routes!(processes::start_all))
        .routes(routes!(processes::show))
        .routes(routes!(processes::start))
        .routes(routes!(processes::stop))
        .routes(routes!(processes::restart))
        .routes(routes!(processes::log))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::show))
        .routes(routes!(openapi::serve))
}

/// The routes with everything around them.
pub(crate) fn router(state: ApiState) -> Router {
    let (router, document) = routes().split_for_parts();
    let (pages, rights) = pages::routes().into_parts();
    let routes = Routes::of(document).with_pages(rights);
    let gate = Arc::new(Gate::new(routes, state.settings.clone()));
    router
        .merge(pages)
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(gate, guard))
        .layer(from_fn(observe))
        .layer(from_fn(dress))
        .with_state(state)
}

async fn no_route() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no_such_route",
        "there is nothing here; `GET /openapi.json` lists every route",
    )
}

async fn no_method(method: Method) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("`{method}` is not possible here; the header `Allow` lists what is"),
    )
}
