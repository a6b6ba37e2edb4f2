//! What is around every page: language, who looks, where they are, and what was done right before.

use askama::Template;
use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use core_types::auth::Language;
use http::{HeaderMap, HeaderValue, Uri, header, request::Parts};

use crate::{
    access::{Standing, caller::Caller, sessions::cookie},
    error::ApiError,
    pages::{
        assets::{ICON, SCRIPT, STYLE},
        is_page,
        language::LANGUAGE_COOKIE,
        texts::{Said, Shared, runs::RunListTexts, system::SystemTexts},
    },
    requests::auth::accepted_language,
};

/// The longest address to come back to, in bytes.
const ADDRESS_MAX: usize = 2000;

/// What is around a page.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) language: Language,
    /// The texts that every page has.
    pub(crate) t: &'static Shared,
    /// Path and query of this page.
    here: String,
    /// Who looks; not known where a request was refused.
    standing: Option<Standing>,
    said: Option<Said>,
}

impl Frame {
    /// A frame for whoever sent these headers.
    pub(crate) fn new(headers: &HeaderMap, uri: &Uri, standing: Option<Standing>) -> Self {
        let language = language_of(headers);
        let here = uri.path_and_query().map_or("/", |here| here.as_str()).to_owned();
        let word =
            uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("said="));
        let said = word.and_then(|word| word.parse().ok());
        Self { language, t: Shared::of(language), here, standing, said }
    }

    /// The texts of what pages show of processes.
    pub(crate) const fn system(&self) -> &'static SystemTexts {
        SystemTexts::of(self.language)
    }

    /// The texts of tables of runs.
    pub(crate) const fn run_list(&self) -> &'static RunListTexts {
        RunListTexts::of(self.language)
    }

    /// The language as HTML names it.
    pub(crate) const fn lang(&self) -> &'static str {
        match self.language {
            Language::English => "en",
            Language::Japanese => "ja",
        }
    }

    pub(crate) fn style(&self) -> String {
        STYLE.url()
    }

    pub(crate) fn script(&self) -> String {
        SCRIPT.url()
    }

    pub(crate) fn icon(&self) -> String {
        ICON.url()
    }

    /// Whether this page belongs to a part of the dashboard.
    pub(crate) fn is_at(&self, part: &str) -> bool {
        let path = self.here.split('?').next().unwrap_or_default();
        path == part
            || (part != "/" && path.strip_prefix(part).is_some_and(|rest| rest.starts_with('/')))
    }

    /// Where to come back to after something small: this page, without what was said on it.
    pub(crate) fn back(&self) -> String {
        let (path, query) = self.here.split_once('?').unwrap_or((&self.here, ""));
        if !is_page(path) {
            return "/".to_owned();
        }
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.starts_with("said="))
            .collect();
        if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
    }

    /// What was done right before.
    pub(crate) fn said(&self) -> Option<&'static str> {
        self.said.map(|said| said.text(self.t))
    }

    /// Whether it is known who looks: only then there is something to go to.
    pub(crate) fn knows_who(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.caller != Caller::Stranger)
    }

    /// Whether somebody is signed in with a key.
    pub(crate) fn is_signed_in(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.caller.has_key())
    }

    /// Whether there is a key to sign in with, and nobody did.
    pub(crate) fn may_sign_in(&self) -> bool {
        !self.is_signed_in() && self.standing.as_ref().is_some_and(|standing| standing.keys_exist)
    }

    /// Whether who looks may change how the system runs.
    pub(crate) fn may_control(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.may_control)
    }

    /// Who looks, as the history of settings names them.
    pub(crate) fn who(&self) -> String {
        self.standing.as_ref().map(|standing| standing.caller.who()).unwrap_or_default()
    }

    /// What forms have to carry.
    pub(crate) fn form_token(&self) -> &str {
        self.standing.as_ref().map(|standing| standing.form_token.as_str()).unwrap_or_default()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Frame {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let standing = parts.extensions.get::<Standing>().cloned();
        Ok(Self::new(&parts.headers, &parts.uri, standing))
    }
}

/// The language that was chosen on a page, else the one that the browser asks for.
fn language_of(headers: &HeaderMap) -> Language {
    match cookie(headers, LANGUAGE_COOKIE) {
        Some("ja") => Language::Japanese,
        Some("en") => Language::English,
        _ => accepted_language(headers),
    }
}

/// An address to go to after a form, where it is one of pages; else the first page.
pub(crate) fn local_address(wanted: &str) -> &str {
    let path = wanted.split('?').next().unwrap_or_default();
    let plain = wanted.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let fits = wanted.len() <= ADDRESS_MAX && plain && is_page(path) && !wanted.starts_with("//");
    if fits { wanted } else { "/" }
}

/// A page as an answer.
#[derive(Debug)]
pub(crate) struct Html<T>(pub(crate) T);

impl<T: Template> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(text) => {
                let kind = HeaderValue::from_static("text/html; charset=utf-8");
                ([(header::CONTENT_TYPE, kind)], text).into_response()
            }
            Err(error) => {
                tracing::error!(error = %error, "page not rendered");
                ApiError::internal().into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_server_are_gone_to() {
        for page in ["/", "/ui/tasks", "/ui/tasks?status=failed&q=a%20b", "/ui/system"] {
            assert_eq!(local_address(page), page);
        }
        for other in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example/",
            "/tasks",
            "ui/tasks",
            "/ui/../tasks\n",
            "/ui/tasks\r\nset-cookie: a=b",
            "javascript:alert(1)",
        ] {
            assert_eq!(local_address(other), "/", "{other}");
        }
        assert_eq!(local_address(&format!("/ui/{}", "a".repeat(ADDRESS_MAX))), "/");
    }

    #[test]
    fn a_page_knows_its_part_and_where_to_come_back_to() {
        let frame = |uri: &'static str| Frame::new(&HeaderMap::new(), &Uri::from_static(uri), None);
        assert!(frame("/").is_at("/") && !frame("/ui/tasks").is_at("/"));
        assert!(
            frame("/ui/tasks/task-1?a=b").is_at("/ui/tasks")
                && !frame("/ui/tasksx").is_at("/ui/tasks")
        );
        assert_eq!(frame("/ui/tasks?said=saved&q=x").back(), "/ui/tasks?q=x");
        assert_eq!(frame("/ui/tasks?said=saved").back(), "/ui/tasks");
        assert_eq!(frame("/nowhere").back(), "/");
        assert_eq!(frame("/?said=evil").said(), None);
        assert!(!frame("/").knows_who());
    }
}
