//! Errors and refusals as pages, for people who look with a browser; and what the headers of every page say.

use askama::Template;
use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE},
};

use crate::{
    error::ApiError,
    pages::{
        form::encoded,
        frame::{Frame, Html},
        is_page,
    },
};

/// What browsers may do with a page: nothing that does not come from this server, and no script or style within it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 4] = [
    ("content-security-policy", POLICY),
    // Not `no-referrer`: browsers would then hide where a form comes from.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// An error as a page.
#[derive(Debug, Template)]
#[template(path = "failure.html")]
struct Failure {
    frame: Frame,
    title: &'static str,
    error: ApiError,
    sign_in: Option<String>,
}

/// A page that opens itself again: the browser then sends what it keeps from pages of other sites.
#[derive(Debug, Template)]
#[template(path = "again.html")]
struct Again {
    frame: Frame,
    to: String,
}

/// Shows errors of pages as pages, and gives every page its headers. Answers of the API stay as they are.
pub(crate) async fn dress(request: Request, next: Next) -> Response {
    let asked = Asked::of(&request);
    if !asked.page && !asked.browser {
        return next.run(request).await;
    }
    let response = next.run(request).await;
    let error = response.extensions().get::<ApiError>().cloned();
    let nowhere = error.as_ref().is_some_and(|error| error.code() == "no_such_route");
    if !asked.page && !nowhere {
        return response;
    }
    let mut response = match error {
        Some(error) => asked.answer(error, response),
        None => response,
    };
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What of a request decides how its error is shown.
struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    page: bool,
    /// Whether a browser asks for something to show.
    browser: bool,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let headers = request.headers().clone();
        let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            page: is_page(request.uri().path()),
            browser: accepts.is_some_and(|accept| accept.contains("text/html")),
            headers,
        }
    }

    fn answer(&self, error: ApiError, response: Response) -> Response {
        let frame = Frame::new(&self.headers, &self.uri, None);
        let here = frame.back();
        let refused = matches!(error.code(), "authentication_required" | "wrong_key");
        let outside = error.code() == "origin_not_allowed" || refused;
        if self.method.is_safe() && outside && self.comes_from_elsewhere() {
            return Html(Again { frame, to: here }).into_response();
        }
        let to_sign_in = format!("/ui/login?next={}", encoded(&here));
        if refused && self.method.is_safe() {
            return Redirect::to(&to_sign_in).into_response();
        }
        let needs_key = refused || matches!(error.code(), "control_not_allowed" | "key_required");
        let title = frame.t.failure_title(error.status());
        let sign_in = needs_key.then_some(to_sign_in);
        let page = Html(Failure { frame, title, error, sign_in }).into_response();
        dressed(response, page)
    }

    /// Whether a link on a page of another site leads here: what this server keeps in cookies is not sent then.
    fn comes_from_elsewhere(&self) -> bool {
        let is = |name: &str, words: &[&str]| {
            let value = self.headers.get(name).and_then(|value| value.to_str().ok());
            value.is_some_and(|value| words.contains(&value))
        };
        is("sec-fetch-site", &["cross-site", "same-site"]) && is("sec-fetch-mode", &["navigate"])
    }
}

/// The first answer's status and headers with the second one's body.
fn dressed(response: Response, page: Response) -> Response {
    let (mut head, _) = response.into_parts();
    let (of_page, body) = page.into_parts();
    if of_page.status != StatusCode::OK {
        return Response::from_parts(of_page, body);
    }
    head.headers.remove(CONTENT_LENGTH);
    if let Some(kind) = of_page.headers.get(CONTENT_TYPE) {
        head.headers.insert(CONTENT_TYPE, kind.clone());
    }
    Response::from_parts(head, body)
}
