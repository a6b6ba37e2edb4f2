//! Reading columns: numbers, words and JSON into the types they stand for, and texts the database accepts.

use std::{fmt::Display, str::FromStr, time::Duration};

use core_types::choice::UnknownWord;
use serde::de::DeserializeOwned;
use tokio_postgres::{
    Row,
    types::{FromSql, Json},
};

use crate::error::StoreError;

/// The column as the type the driver reads.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &'static str) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| StoreError::corrupt(column, error))
}

/// The column as one of a closed set of words.
pub(crate) fn word<T>(row: &Row, column: &'static str) -> Result<T, StoreError>
where
    T: FromStr<Err = UnknownWord>,
{
    get::<&str>(row, column)?.parse().map_err(|error| StoreError::corrupt(column, error))
}

/// The column as one of a closed set of words, or nothing.
pub(crate) fn word_opt<T>(row: &Row, column: &'static str) -> Result<Option<T>, StoreError>
where
    T: FromStr<Err = UnknownWord>,
{
    get::<Option<&str>>(row, column)?
        .map(|word| word.parse().map_err(|error| StoreError::corrupt(column, error)))
        .transpose()
}

/// An `integer` or `bigint` column as a number that cannot be negative.
pub(crate) fn number<'a, S, T>(row: &'a Row, column: &'static str) -> Result<T, StoreError>
where
    S: FromSql<'a> + Display + Copy,
    T: TryFrom<S>,
{
    let value = get::<S>(row, column)?;
    T::try_from(value)
        .map_err(|_| StoreError::corrupt(column, format!("`{value}` is out of range")))
}

/// Like [`number`], or nothing.
pub(crate) fn number_opt<'a, S, T>(
    row: &'a Row,
    column: &'static str,
) -> Result<Option<T>, StoreError>
where
    S: FromSql<'a> + Display + Copy,
    T: TryFrom<S>,
{
    let Some(value) = get::<Option<S>>(row, column)? else {
        return Ok(None);
    };
    T::try_from(value)
        .map(Some)
        .map_err(|_| StoreError::corrupt(column, format!("`{value}` is out of range")))
}

/// A `json` column.
pub(crate) fn json<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<T, StoreError> {
    get::<Json<T>>(row, column).map(|Json(value)| value)
}

/// A span in whole milliseconds, for a `bigint`.
pub(crate) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A count for a `bigint`; more than fits is cut.
pub(crate) fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A text the database accepts: it refuses the character NUL, which agents do print.
pub(crate) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Like [`clean`], or nothing.
pub(crate) fn clean_opt(text: Option<&str>) -> Option<String> {
    text.map(clean)
}
