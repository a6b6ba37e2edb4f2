//! The switch between languages: a cookie that only this server's pages read.

use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderValue, header::SET_COOKIE};

use crate::pages::{form::PageForm, frame::local_address};

/// The cookie with the chosen language.
pub(crate) const LANGUAGE_COOKIE: &str = "opentiger_language";

/// Keeps the choice, and goes back.
pub(crate) async fn choose(PageForm(form): PageForm) -> Response {
    let word = if form.text("language") == "ja" { "ja" } else { "en" };
    let cookie =
        format!("{LANGUAGE_COOKIE}={word}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax");
    let back = Redirect::to(local_address(form.text("next")));
    let cookie = HeaderValue::from_str(&cookie).ok().map(|cookie| [(SET_COOKIE, cookie)]);
    (cookie.into_iter().flatten().collect::<http::HeaderMap>(), back).into_response()
}
