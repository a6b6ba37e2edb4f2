//! The OpenAPI document, made from the handlers themselves.

use std::collections::BTreeMap;

use axum::Json;
use utoipa::{
    IntoResponses, OpenApi,
    openapi::{
        Content, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder, ResponsesBuilder,
    },
};

use crate::{
    access::routes::describe,
    error::{ErrorBody, FieldFault},
    path_ids,
    router::routes,
};

/// What the document says of the API as a whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "openTiger",
        description = "Queues coding tasks, lets agents do them, and shows what came of it.\n\nEvery answer that is no success is a JSON object with `error` (for people), `code` (for programs), and `details` where fields are at fault.\n\nEach operation's `x-right` says what a caller needs: `open` nothing; `read` and `work` a key, or a program or page on the server's own machine; `control` the same unless `OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL` is `false`; `host` a key always.",
    ),
    components(schemas(ErrorBody, FieldFault)),
    tags(
        (name = "tasks", description = "What shall be done."),
        (name = "runs", description = "Attempts at tasks, and what happens in them."),
        (name = "system", description = "Who works, how it is set up, and whether it is well."),
    )
)]
pub(crate) struct About;

/// The OpenAPI document of every route.
#[must_use]
pub fn document() -> Document {
    let mut document = bare_document();
    describe(&mut document);
    path_ids::describe(&mut document);
    document
}

/// The document as the handlers give it: nothing in it says who may ask.
pub(crate) fn bare_document() -> Document {
    routes().split_for_parts().1
}

/// The text of `docs/openapi.json`.
///
/// # Errors
/// The document cannot be written as JSON, which a test rules out.
pub fn render_json() -> Result<String, serde_json::Error> {
    Ok(format!("{}\n", serde_json::to_string_pretty(&document())?))
}

/// Shows this document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "system", operation_id = "openapi",
    responses((status = 200, description = "The OpenAPI 3.1 document.", body = Object), Always)
)]
pub(crate) async fn serve() -> Json<Document> {
    Json(document())
}

/// Errors of every request.
pub(crate) struct Always;

/// Errors of requests that name something by its id.
pub(crate) struct AboutId;

/// Errors of requests that name a managed process.
pub(crate) struct AboutProcess;

/// Errors of requests with a query.
pub(crate) struct AboutQuery;

/// Errors of requests with a body.
pub(crate) struct AboutBody;

impl IntoResponses for Always {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors(&[
            (
                "403",
                "The request is not for this server, a web page of another site asks, or the caller may not do this.",
            ),
            ("500", "A fault of the server; its log has more under the request's id."),
            (
                "503",
                "The database does not answer, the request took too long, or a setting that limits what it asks for is faulty.",
            ),
        ])
    }
}

impl IntoResponses for AboutId {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors(&[
            ("400", "The id or the query is not allowed."),
            ("404", "There is nothing under this id."),
        ])
    }
}

impl IntoResponses for AboutProcess {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors(&[(
            "404",
            "There can be no process of this name; `error` tells which there can be.",
        )])
    }
}

impl IntoResponses for AboutQuery {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors(&[("400", "The query is not allowed.")])
    }
}

impl IntoResponses for AboutBody {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors(&[
            ("400", "The body is not JSON, is not UTF-8 or is nested too deeply."),
            ("408", "The body did not arrive within 15 seconds."),
            (
                "413",
                "The body is longer than 2 MiB; refused at once where `Content-Length` says so.",
            ),
            ("415", "The body's `Content-Type` is not `application/json`."),
            ("422", "A field is missing, unknown or not allowed; `details` names each one."),
        ])
    }
}

/// Errors of requests that change settings.
pub(crate) struct AboutSettings;

impl IntoResponses for AboutSettings {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let refused = errors(&[(
            "400",
            "The body is not JSON, or a key or value is not allowed; `details` names each one.",
        )]);
        AboutBody::responses().into_iter().chain(refused).collect()
    }
}

fn errors(errors: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let responses = errors.iter().fold(ResponsesBuilder::new(), |responses, (status, text)| {
        let body = Content::new(Some(RefOr::<utoipa::openapi::Schema>::Ref(
            Ref::from_schema_name("ErrorBody"),
        )));
        let response = ResponseBuilder::new().description(*text).content("application/json", body);
        responses.response(*status, response.build())
    });
    responses.build().responses.into_iter().collect()
}
