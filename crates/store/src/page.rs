//! Pages of a list, continued by a cursor that stays right while rows are added.

use std::{fmt, num::ParseIntError, str::FromStr};

/// The longest page of any list.
pub const PAGE_LIMIT: u32 = 500;

/// The direction of a list, by when its rows were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest first.
    #[default]
    Newest,
    /// The oldest first.
    Oldest,
}

/// Where a page ended; the next page starts behind it. Its text is opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cursor(pub(crate) i64);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor; use `next_cursor` of the page before")]
pub struct InvalidCursor(#[source] ParseIntError);

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(InvalidCursor)
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows, in the order that was asked for.
    pub items: Vec<T>,
    /// Where the next page starts; absent on the last one. A page with a next one may be short or empty.
    pub next_cursor: Option<Cursor>,
}

impl<T> Page<T> {
    /// Makes a page of rows that were asked for with one more than `limit`.
    pub(crate) fn from_one_more(mut rows: Vec<(i64, T)>, limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|(seq, _)| Cursor(*seq));
        Self { items: rows.into_iter().map(|(_, item)| item).collect(), next_cursor }
    }
}

/// The page length that is used when `limit` was asked for.
pub(crate) fn clamp(limit: u32) -> u32 {
    limit.clamp(1, PAGE_LIMIT)
}
