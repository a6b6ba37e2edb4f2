//! Signing in with a key, and out again.

use std::{sync::Arc, time::Instant};

use askama::Template;
use axum::{
    Extension,
    response::{IntoResponse as _, Redirect, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ORIGIN, SET_COOKIE},
};

use crate::{
    access::{
        Ends, Gate,
        refusal::Refusal,
        sessions::{LIFE, SESSION_COOKIE},
    },
    error::ApiError,
    pages::{
        form::{PageForm, PageQuery},
        frame::{Frame, Html, local_address},
    },
};

/// The page that asks for a key.
#[derive(Debug, Template)]
#[template(path = "login.html")]
struct Login {
    frame: Frame,
    next: String,
    fault: Option<&'static str>,
}

/// Asks for a key.
pub(crate) async fn show(frame: Frame, PageQuery(query): PageQuery) -> Response {
    let next = local_address(query.text("next")).to_owned();
    Html(Login { frame, next, fault: None }).into_response()
}

/// Begins a session.
pub(crate) async fn sign_in(
    frame: Frame,
    Extension(gate): Extension<Arc<Gate>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
    PageForm(form): PageForm,
) -> Result<Response, ApiError> {
    let next = local_address(form.text("next")).to_owned();
    match gate.sign_in(form.text("key").trim(), ends, Instant::now()) {
        Ok(token) => {
            let cookie = cookie(token.expose(), LIFE.as_secs(), &headers)?;
            Ok(([(SET_COOKIE, cookie)], Redirect::to(&next)).into_response())
        }
        Err(refusal) => {
            let (status, fault) = match refusal {
                Refusal::TooManyWrongKeys(_) => {
                    (StatusCode::TOO_MANY_REQUESTS, frame.t.login_too_many)
                }
                _ => (StatusCode::UNAUTHORIZED, frame.t.login_wrong),
            };
            let page = Html(Login { frame, next, fault: Some(fault) });
            Ok((status, page).into_response())
        }
    }
}

/// Ends the session.
pub(crate) async fn sign_out(
    Extension(gate): Extension<Arc<Gate>>,
    headers: HeaderMap,
    _form: PageForm,
) -> Result<Response, ApiError> {
    gate.sign_out(&headers);
    let cookie = cookie("", 0, &headers)?;
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/ui/login")).into_response())
}

/// The session's cookie: no script reads it, no page of another site sends it, and where the page came over TLS it goes
/// over nothing else.
fn cookie(token: &str, seconds: u64, headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let secure = origin.is_some_and(|origin| origin.starts_with("https://"));
    let secure = if secure { "; Secure" } else { "" };
    let text = format!(
        "{SESSION_COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    );
    HeaderValue::from_str(&text).map_err(|_| ApiError::internal())
}
