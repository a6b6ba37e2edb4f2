//! Forms that pages post: only those that this server gave to whoever posts them.

use std::convert::Infallible;

use axum::{
    extract::{FromRequest, FromRequestParts, RawForm, Request},
    response::IntoResponse as _,
};
use http::{StatusCode, request::Parts};
use subtle::ConstantTimeEq as _;

use crate::{access::Standing, error::ApiError};

/// The field that proves where a form comes from.
const TOKEN: &str = "form_token";

/// Names and values, of a form or of a query.
#[derive(Debug, Default, Clone)]
pub(crate) struct Fields(Vec<(String, String)>);

/// The fields of a form that this server gave to whoever posts it.
#[derive(Debug)]
pub(crate) struct PageForm(pub(crate) Fields);

/// The query of a page. What no page knows is of no interest.
#[derive(Debug)]
pub(crate) struct PageQuery(pub(crate) Fields);

impl Fields {
    #[cfg(test)]
    pub(crate) fn of(fields: &[(&str, &str)]) -> Self {
        Self(fields.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    /// A field as it was sent; empty where it was not.
    pub(crate) fn text(&self, field: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| name == field);
        found.map(|(_, text)| text.as_str()).unwrap_or_default()
    }

    /// The same without space around it; none where nothing is left.
    pub(crate) fn filled(&self, field: &str) -> Option<&str> {
        Some(self.text(field).trim()).filter(|text| !text.is_empty())
    }
}

impl<S: Send + Sync> FromRequest<S> for PageForm {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let standing = request.extensions().get::<Standing>().cloned();
        let RawForm(bytes) = RawForm::from_request(request, state).await.map_err(|rejection| {
            let status = rejection.into_response().status();
            ApiError::new(
                status,
                "form_unreadable",
                "the form did not arrive whole, or is too long",
            )
        })?;
        let form = Fields(form_urlencoded(&bytes));
        let expected = standing.map(|standing| standing.form_token).unwrap_or_default();
        let given = form.text(TOKEN).as_bytes();
        if expected.is_empty() || !bool::from(given.ct_eq(expected.as_bytes())) {
            let text = "this form is from before the server was started, or from another session; load the page again";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "form_outdated", text));
        }
        Ok(Self(form))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PageQuery {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(Fields(form_urlencoded(parts.uri.query().unwrap_or_default().as_bytes()))))
    }
}

/// Names and values of a form's body, with line ends as Unix has them.
fn form_urlencoded(bytes: &[u8]) -> Vec<(String, String)> {
    let pairs = bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = at.map_or((pair, &[][..]), |at| {
                let (name, rest) = pair.split_at(at);
                (name, rest.get(1..).unwrap_or_default())
            });
            (decoded(name), decoded(value).replace("\r\n", "\n"))
        })
        .collect()
}

fn decoded(text: &[u8]) -> String {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.iter());
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                let hex = digit(ahead.next()).zip(digit(ahead.next()));
                let value = hex.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                match value {
                    Some(value) => {
                        bytes.push(value);
                        rest = ahead;
                    }
                    None => bytes.push(b'%'),
                }
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text as a value in the query of an address.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.extend([format!("%{other:02X}")]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_browsers_write_them() {
        let form = Fields(form_urlencoded(b"a=1+2&b=%E3%81%82%0D%0A%&c&=x&a=3&d=%zz%4"));
        assert_eq!(form.text("a"), "1 2");
        assert_eq!(form.text("b"), "あ\n%");
        assert_eq!((form.text("c"), form.text("d"), form.text("e")), ("", "%zz%4", ""));
        assert_eq!(form.filled("c"), None);
        let text = "a b&c=d/é%";
        let read = form_urlencoded(format!("x={}", encoded(text)).as_bytes());
        assert_eq!(Fields(read).text("x"), text);
    }
}
