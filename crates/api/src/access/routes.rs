//! Which operation and right a request asks for, and what the OpenAPI document says of rights.

use std::{collections::HashMap, iter};

use http::Method;
use serde_json::json;
use utoipa::openapi::{
    Components, Content, HeaderBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Schema,
    extensions::ExtensionsBuilder,
    header::Header,
    path::Operation,
    security::{
        ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
    },
};

use crate::access::rights::{Right, right_for};

/// The one operation that is never counted: what asks whether this process lives must not be turned away.
const UNCOUNTED: &str = "health";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) right: Right,
    /// Whether it counts towards the limit of requests.
    pub(crate) counted: bool,
    /// Whether it is a page for people: nothing is changed there for a page of another origin, whoever asks.
    pub(crate) page: bool,
}

/// What is asked for where no route is: strangers learn nothing of which routes there are.
const NOWHERE: Asked = Asked { right: Right::Read, counted: true, page: false };

/// Every route with what it asks for.
#[derive(Debug)]
pub(crate) struct Routes(HashMap<(String, Method), Asked>);

impl Routes {
    pub(crate) fn of(mut document: OpenApi) -> Self {
        let asked = |(path, method, operation): (String, Method, &mut Operation)| {
            let id = operation.operation_id.as_deref().unwrap_or_default();
            let right = right_for(id);
            ((path, method), Asked { right, counted: id != UNCOUNTED, page: false })
        };
        Self(operations(&mut document).map(asked).collect())
    }

    /// The same with pages, each with the right it asks for.
    pub(crate) fn with_pages(mut self, pages: Vec<(&'static str, Method, Right)>) -> Self {
        let asked = |right| Asked { right, counted: true, page: true };
        self.0.extend(
            pages
                .into_iter()
                .map(|(path, method, right)| ((path.to_owned(), method), asked(right))),
        );
        self
    }

    /// What a request asks for, by the path of the route it comes to, where it comes to one.
    pub(crate) fn asked(&self, path: Option<&str>, method: &Method) -> Asked {
        // Where a handler answers GET it answers HEAD as well.
        let method = if method == Method::HEAD { Method::GET } else { method.clone() };
        let asked = path.and_then(|path| self.0.get(&(path.to_owned(), method)));
        asked.copied().unwrap_or(NOWHERE)
    }
}

/// Every operation of a document with its path and method.
pub(crate) fn operations(
    document: &mut OpenApi,
) -> impl Iterator<Item = (String, Method, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        let methods = [
            (Method::GET, item.get.as_mut()),
            (Method::PUT, item.put.as_mut()),
            (Method::POST, item.post.as_mut()),
            (Method::DELETE, item.delete.as_mut()),
            (Method::PATCH, item.patch.as_mut()),
        ];
        let operations =
            methods.into_iter().filter_map(|(method, operation)| Some((method, operation?)));
        iter::repeat(path.clone())
            .zip(operations)
            .map(|(path, (method, operation))| (path, method, operation))
    })
}

/// Says of each operation which right it needs, by which ways a caller can have it, and how it is refused.
pub(crate) fn describe(document: &mut OpenApi) {
    for (_, _, operation) in operations(document) {
        let id = operation.operation_id.clone().unwrap_or_default();
        let right = right_for(&id);
        let of_right = ExtensionsBuilder::new().add("x-right", json!(right.as_str())).build();
        operation.extensions.get_or_insert_default().merge(of_right);
        operation.security = Some(ways(right));
        let responses = &mut operation.responses.responses;
        if right != Right::Open {
            let text = "The key or token is wrong, or there is none and the caller is not on this machine.";
            responses.insert(
                "401".to_owned(),
                refusal(text, "WWW-Authenticate", "How to prove who one is."),
            );
        }
        if id != UNCOUNTED {
            let text = "The caller's address sent too many requests, or too many wrong keys.";
            responses.insert(
                "429".to_owned(),
                refusal(text, "Retry-After", "After how many seconds to come back."),
            );
        }
    }
    let components = document.components.get_or_insert_with(Components::new);
    let key = ApiKeyValue::with_description("X-API-Key", "One of `API_KEYS`.");
    components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("`API_SECRET`."));
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
}

fn ways(right: Right) -> Vec<SecurityRequirement> {
    let none: [&str; 0] = [];
    let anonymous = SecurityRequirement::default();
    let proved =
        [SecurityRequirement::new("api_key", none), SecurityRequirement::new("bearer", none)];
    match right {
        Right::Open => vec![anonymous],
        Right::Read | Right::Work | Right::Control => iter::once(anonymous).chain(proved).collect(),
        Right::Host => proved.to_vec(),
    }
}

fn refusal(text: &str, header: &str, says: &str) -> RefOr<utoipa::openapi::Response> {
    let body = RefOr::<Schema>::Ref(Ref::from_schema_name("ErrorBody"));
    let header_text: Header = HeaderBuilder::new().description(Some(says)).build();
    let response = ResponseBuilder::new()
        .description(text)
        .content("application/json", Content::new(Some(body)))
        .header(header, header_text);
    RefOr::T(response.build())
}
