//! The dashboard: pages for people, made here as whole HTML, with one style sheet and one script.
//!
//! Every page works without the script: forms post and are answered with the page to look at next. The script keeps
//! pages up to date, follows logs and loads what takes long. What pages show and do is what the API shows and does; they
//! ask the same functions and have no rules of their own. Nothing is loaded from anywhere else.

use axum::{
    Router,
    handler::Handler,
    routing::{get, post},
};
use http::Method;

use crate::{access::rights::Right, state::ApiState};

pub(crate) mod assets;
pub(crate) mod failure;

mod agents;
mod charts;
mod form;
mod frame;
mod gates;
mod language;
mod live;
mod login;
mod new_task;
mod overview;
mod patch;
mod process;
mod run;
mod runs;
mod scale;
mod self_tests;
mod settings;
mod shown;
mod switching;
mod system;
mod task;
mod tasks;
mod texts;

/// Pages, each with the right that it asks for: neither can be added without the other.
pub(crate) struct Pages {
    router: Router<ApiState>,
    rights: Vec<(&'static str, Method, Right)>,
}

impl Pages {
    fn get<T: 'static>(
        mut self,
        path: &'static str,
        right: Right,
        handler: impl Handler<T, ApiState>,
    ) -> Self {
        self.rights.push((path, Method::GET, right));
        Self { router: self.router.route(path, get(handler)), ..self }
    }

    fn post<T: 'static>(
        mut self,
        path: &'static str,
        right: Right,
        handler: impl Handler<T, ApiState>,
    ) -> Self {
        self.rights.push((path, Method::POST, right));
        Self { router: self.router.route(path, post(handler)), ..self }
    }

    /// The routes, and what each asks for.
    pub(crate) fn into_parts(self) -> (Router<ApiState>, Vec<(&'static str, Method, Right)>) {
        (self.router, self.rights)
    }
}

/// Every page.
pub(crate) fn routes() -> Pages {
    Pages { router: Router::new(), rights: Vec::new() }
        .get("/", Right::Read, overview::show)
        .get("/ui/tasks", Right::Read, tasks::list)
        .get("/ui/tasks/new", Right::Read, new_task::show)
        .post("/ui/tasks/new", Right::Work, new_task::create)
        .get("/ui/tasks/{id}", Right::Read, task::show)
        .post("/ui/tasks/{id}/cancel", Right::Work, task::cancel)
        .post("/ui/tasks/{id}/retry", Right::Work, task::retry)
        .get("/ui/runs", Right::Read, runs::list)
        .get("/ui/runs/{id}", Right::Read, run::show)
        .get("/ui/runs/{id}/log", Right::Read, run::log)
        .get("/ui/runs/{id}/changes", Right::Read, run::changes)
        .get("/ui/agents", Right::Read, agents::list)
        .get("/ui/agents/{id}", Right::Read, agents::show)
        .get("/ui/system", Right::Read, system::show)
        .get("/ui/system/readiness", Right::Control, system::readiness)
        .post("/ui/system/gates/{executor}", Right::Control, gates::try_now)
        .post("/ui/system/self-test", Right::Control, self_tests::ask)
        .post("/ui/system/stop-all", Right::Control, process::stop_all)
        .post("/ui/system/start-all", Right::Control, process::start_all)
        .get("/ui/system/processes/{name}", Right::Read, process::show)
        .post("/ui/system/processes/{name}", Right::Control, process::ask)
        .get("/ui/system/switch", Right::Read, switching::preview)
        .post("/ui/system/switch", Right::Control, switching::switch)
        .get("/ui/system/settings", Right::Read, settings::list)
        .get("/ui/system/settings/{key}", Right::Read, settings::show)
        .post("/ui/system/settings/{key}", Right::Control, settings::change)
        .get("/ui/live", Right::Read, live::follow)
        .get("/ui/login", Right::Open, login::show)
        .post("/ui/login", Right::Open, login::sign_in)
        .post("/ui/logout", Right::Open, login::sign_out)
        .post("/ui/language", Right::Open, language::choose)
        .get("/ui/assets/{name}", Right::Open, assets::serve)
}

/// Whether a path is one of pages, and not of the API.
pub(crate) fn is_page(path: &str) -> bool {
    path == "/" || path == "/ui" || path.starts_with("/ui/")
}
