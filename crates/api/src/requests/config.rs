//! The body, the condition and the query of requests about settings.

use std::{collections::BTreeMap, fmt};

use axum::extract::FromRequestParts;
use core_config::{
    kind::Kind,
    table::{Layers, SETTINGS, Setting},
};
use http::{header::IF_MATCH, request::Parts};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::Value;
use store::page::Cursor;
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{
            AdditionalProperties, AnyOfBuilder, ArrayBuilder, Object, ObjectBuilder, SchemaType,
            Type,
        },
    },
};

use crate::{
    error::{ApiError, FieldFault},
    requests::{
        cursor,
        paging::{PAGE_DEFAULT, PAGE_MAX, limit},
    },
};

/// The body of `PATCH /config`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigPatch {
    /// The new value of each key; `null` removes the row from the database, whatever is in it. All are made or none.
    #[schema(schema_with = updates_schema)]
    pub(crate) updates: Updates,
}

/// New values by key; no key is there twice.
#[derive(Debug, Default)]
pub(crate) struct Updates(pub(crate) BTreeMap<String, Option<Value>>);

impl<'de> Deserialize<'de> for Updates {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(UpdatesVisitor)
    }
}

struct UpdatesVisitor;

impl<'de> Visitor<'de> for UpdatesVisitor {
    type Value = Updates;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Updates, A::Error> {
        let mut updates = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if updates.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
            }
            let value: Value = map.next_value()?;
            updates.insert(key, Some(value).filter(|value| !value.is_null()));
        }
        Ok(Updates(updates))
    }
}

/// Which revision the settings must have for a change to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Any.
    Any,
    /// One of these. Revisions are all an entity tag can name here; any other tag names none that ever was.
    OneOf(Vec<i64>),
}

impl Condition {
    /// Whether a revision will do.
    pub(crate) fn holds_for(&self, revision: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(revisions) => revisions.contains(&revision),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Condition {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let mut given = parts.headers.get_all(IF_MATCH).iter().peekable();
        if given.peek().is_none() {
            return Ok(Self::Any);
        }
        let texts: Vec<&str> = given
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .map(str::trim)
            .collect();
        if texts == ["*"] {
            return Ok(Self::Any);
        }
        let revision = |text: &&str| text.strip_prefix('"')?.strip_suffix('"')?.parse().ok();
        Ok(Self::OneOf(texts.iter().filter_map(revision).collect()))
    }
}

/// The query of `GET /config/history`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// Only changes of this key.
    #[param(schema_with = crate::schema::plain_text)]
    key: Option<String>,
    /// The length of the page, 1 to 200; 50 where left out.
    #[param(schema_with = crate::schema::page_limit)]
    limit: Option<String>,
    /// The `next_cursor` of the page before, with the same key.
    cursor: Option<String>,
}

impl HistoryQuery {
    /// Key, place and length of the page.
    pub(crate) fn page(&self) -> Result<(Option<&str>, Option<Cursor>, u32), ApiError> {
        let mut faults = Vec::new();
        if self.key.as_deref().is_some_and(|key| key.is_empty() || key.contains('\0')) {
            let allowed = "a text of at least one character, without the character NUL";
            faults.push(FieldFault::new("key", "is not allowed", allowed));
        }
        let before = cursor::parse(self.cursor.as_deref(), &self.key, &mut faults);
        let limit = limit(self.limit.as_deref(), PAGE_DEFAULT, PAGE_MAX, &mut faults);
        if faults.is_empty() {
            Ok((self.key.as_deref(), before, limit))
        } else {
            Err(ApiError::parameters(faults))
        }
    }

    /// The text of a cursor for the next page.
    pub(crate) fn cursor(&self, next: Cursor) -> String {
        cursor::text(next, &self.key)
    }
}

/// What the table of settings allows for each key. Rows under other keys can only be removed.
fn updates_schema() -> Object {
    let of_database = SETTINGS.iter().filter(|s| s.layers == Layers::EnvironmentOrDatabase);
    let object = of_database.fold(ObjectBuilder::new(), |object, setting| {
        object.property(setting.key, value_schema(setting))
    });
    let nothing = RefOr::T(Schema::Object(of_type(Type::Null).build()));
    let others = AdditionalProperties::RefOr(nothing);
    object.schema_type(SchemaType::Type(Type::Object)).additional_properties(Some(others)).build()
}

fn value_schema(setting: &Setting) -> RefOr<Schema> {
    let text = || of_type(Type::String);
    let any = AnyOfBuilder::new().description(Some(setting.doc)).item(of_type(Type::Null));
    let any = match setting.kind {
        Kind::Integer { min, max } => any
            .item(of_type(Type::Integer).minimum(Some(min)).maximum(Some(max)))
            .item(text().pattern(Some("^[0-9]+$"))),
        Kind::Usd => any
            .item(of_type(Type::Integer).minimum(Some(0)).maximum(Some(1_000_000)))
            .item(text().pattern(Some(r"^([0-9]{1,6}(\.[0-9]{1,6})?|1000000)$"))),
        Kind::Boolean => {
            any.item(of_type(Type::Boolean)).item(text().enum_values(Some(["true", "false"])))
        }
        Kind::Choice(words) => any.item(text().enum_values(Some(words.iter().copied()))),
        Kind::Words(_) | Kind::List | Kind::PathList | Kind::HostList | Kind::AccessKeys => {
            any.item(text()).item(ArrayBuilder::new().items(text().build()))
        }
        Kind::Text
        | Kind::Secret
        | Kind::SecretUrl
        | Kind::RedisUrl
        | Kind::SecretHttpUrl
        | Kind::AccessKey
        | Kind::HostTokens
        | Kind::Path { .. }
        | Kind::Program
        | Kind::Model { .. }
        | Kind::Branch
        | Kind::HttpUrl
        | Kind::Image
        | Kind::Network
        | Kind::Engine
        | Kind::Address => any.item(text()),
    };
    RefOr::T(Schema::AnyOf(any.build()))
}

fn of_type(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn condition(headers: &[&'static str]) -> Condition {
        let mut request = http::Request::new(());
        for value in headers {
            request.headers_mut().append(IF_MATCH, http::HeaderValue::from_static(value));
        }
        Condition::from_request_parts(&mut request.into_parts().0, &()).await.unwrap()
    }

    #[tokio::test]
    async fn a_condition_names_revisions_and_a_strange_tag_names_none() {
        assert_eq!(condition(&[]).await, Condition::Any);
        assert_eq!(condition(&["*"]).await, Condition::Any);
        assert_eq!(condition(&["\"7\", \"8\"", "\"9\""]).await, Condition::OneOf(vec![7, 8, 9]));
        for strange in ["W/\"7\"", "7", "", "\"x\"", "\"7", "*, \"x\""] {
            let condition = condition(&[strange]).await;
            assert!(!condition.holds_for(7), "{strange}");
        }
    }
}
