//! Lists of rows by `seq`: filters, an index that serves them, and a bound on what is looked at.
//!
//! A filter may leave out nearly everything, and no index serves all combinations. So each list has conditions that one
//! index holds ([`Listing::indexed`]) and others that are looked at row by row ([`Listing::also`]). Where there are such
//! others, a page looks at [`SCAN`] rows of the index at most; it may then be short or empty and still have a next one.
//!
//! It knows no table; [`crate::tasks::list`] and [`crate::runs::list`] say which.

use jiff::Timestamp;
use tokio_postgres::{Row, types::ToSql};

use crate::{
    connections::{Connection, Statements as _},
    error::StoreError,
    page::{Cursor, Order, Page, clamp},
    row::get,
};

/// The most rows that one page looks at where its conditions are not all in the index: some 50 ms.
const SCAN: u64 = 20_000;
/// `created_at` and `seq` rise together but for transactions at the same time and a clock that is set back; so many rows
/// around a moment are taken to find the `seq` that goes with it.
const SLACK: u32 = 1_000;

type Param = Box<dyn ToSql + Sync + Send>;

/// A list that is being asked for.
pub(crate) struct Listing {
    table: &'static str,
    /// What conditions and columns call the table.
    alias: &'static str,
    columns: &'static str,
    order: Order,
    cursor: Option<Cursor>,
    limit: u32,
    indexed: Vec<(String, String)>,
    indexed_params: Vec<Param>,
    /// Alternatives of the first column of the index: each is a scan of its own.
    any_of: Option<(&'static str, Vec<&'static str>)>,
    also: String,
    also_params: Vec<Param>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// The part of a list's `seq` in which a page lies; both ends are outside.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    above: i64,
    below: i64,
}

impl Listing {
    pub(crate) fn new(
        (table, alias): (&'static str, &'static str),
        columns: &'static str,
        order: Order,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> Self {
        Self {
            table,
            alias,
            columns,
            order,
            cursor,
            limit: clamp(limit),
            indexed: Vec::new(),
            indexed_params: Vec::new(),
            any_of: None,
            also: String::new(),
            also_params: Vec::new(),
            since: None,
            until: None,
        }
    }

    /// A column, or an expression, of the index that has this value. All of these come before the first
    /// [`Self::also`], in the index's own order.
    pub(crate) fn indexed(&mut self, column: &str, value: impl ToSql + Sync + Send + 'static) {
        self.indexed_params.push(Box::new(value));
        let placeholder = format!("${}", self.indexed_params.len() + 2);
        self.indexed.push((column.to_owned(), placeholder));
    }

    /// A condition that is looked at row by row; `?` is its value.
    pub(crate) fn also(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static) {
        self.also_params.push(Box::new(value));
        let placeholder = format!("${}", self.indexed_params.len() + self.also_params.len() + 2);
        self.also.push_str(" AND ");
        self.also.push_str(&condition.replace('?', &placeholder));
    }

    /// One of several words of the index's first column, before those of [`Self::indexed`].
    pub(crate) fn any_of(&mut self, column: &'static str, words: Vec<&'static str>) {
        self.any_of = Some((column, words));
    }

    /// Only what was made at or after the one moment and before the other. Served by an index on `created_at`.
    pub(crate) fn made_within(&mut self, since: Option<Timestamp>, until: Option<Timestamp>) {
        (self.since, self.until) = (since, until);
        if let Some(since) = since {
            self.also(&format!("{}.created_at >= ?", self.alias), since);
        }
        if let Some(until) = until {
            self.also(&format!("{}.created_at < ?", self.alias), until);
        }
    }

    /// Reads the page.
    pub(crate) async fn page<T>(
        &self,
        connection: &Connection,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Page<T>, StoreError> {
        let Some((stretch, more)) = self.stretch(connection).await? else {
            return Ok(Page { items: Vec::new(), next_cursor: None });
        };
        let rows = connection.query(&self.select(), &self.params(&stretch, true)).await?;
        let items: Result<Vec<_>, StoreError> =
            rows.iter().map(|row| Ok((get(row, "seq")?, read(row)?))).collect();
        let mut page = Page::from_one_more(items?, self.limit);
        if page.next_cursor.is_none() {
            page.next_cursor = more;
        }
        Ok(page)
    }

    /// How the database serves the page, as its `EXPLAIN ANALYZE` says.
    pub(crate) async fn explain(&self, connection: &Connection) -> Result<Vec<String>, StoreError> {
        let mut lines = Vec::new();
        let Some((stretch, _)) = self.stretch(connection).await? else {
            return Ok(lines);
        };
        for (sql, whole) in [(self.select(), true), (self.scan_end(), false)] {
            let sql = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {sql}");
            for row in connection.query(&sql, &self.params(&stretch, whole)).await? {
                lines.push(row.try_get(0).map_err(|error| StoreError::corrupt("plan", error))?);
            }
        }
        Ok(lines)
    }

    /// Where the page lies, and where the next one begins if this one finds little; none where nothing can be found.
    async fn stretch(
        &self,
        connection: &Connection,
    ) -> Result<Option<(Stretch, Option<Cursor>)>, StoreError> {
        let Some(mut stretch) = self.window(connection).await? else {
            return Ok(None);
        };
        if self.also.is_empty() {
            return Ok(Some((stretch, None)));
        }
        // The end is found first, and everything before it is looked at: what comes and goes in between is not missed.
        let rows = connection.query(&self.scan_end(), &self.params(&stretch, false)).await?;
        let end = rows.first().map(|row| get::<Option<i64>>(row, "seq")).transpose()?.flatten();
        let Some(end) = end else {
            return Ok(Some((stretch, None)));
        };
        match self.order {
            Order::Newest => stretch.above = end - 1,
            Order::Oldest => stretch.below = end + 1,
        }
        Ok(Some((stretch, Some(Cursor(end)))))
    }

    /// What cursor and moments leave of the list.
    async fn window(&self, connection: &Connection) -> Result<Option<Stretch>, StoreError> {
        let mut stretch = Stretch { above: 0, below: i64::MAX };
        if let Some(since) = self.since {
            let Some(first) = self.seq_at(connection, since, Side::From).await? else {
                return Ok(None);
            };
            stretch.above = first - 1;
        }
        if let Some(until) = self.until {
            let Some(last) = self.seq_at(connection, until, Side::Before).await? else {
                return Ok(None);
            };
            stretch.below = last + 1;
        }
        match (self.order, self.cursor) {
            (Order::Newest, Some(Cursor(seq))) => stretch.below = stretch.below.min(seq),
            (Order::Oldest, Some(Cursor(seq))) => stretch.above = stretch.above.max(seq),
            (Order::Newest | Order::Oldest, None) => {}
        }
        Ok((stretch.above < stretch.below).then_some(stretch))
    }

    /// The first `seq` from a moment on, or the last one before it. Served by the index on `created_at`.
    async fn seq_at(
        &self,
        connection: &Connection,
        at: Timestamp,
        side: Side,
    ) -> Result<Option<i64>, StoreError> {
        let (pick, compare, direction) = match side {
            Side::From => ("min", ">=", "ASC"),
            Side::Before => ("max", "<", "DESC"),
        };
        let sql = format!(
            "SELECT {pick}(seq) AS seq FROM (
                 SELECT seq FROM {} WHERE created_at {compare} $1 ORDER BY created_at {direction} LIMIT {SLACK}
             ) AS around",
            self.table
        );
        let rows = connection.query_cached(&sql, &[&at]).await?;
        Ok(rows.first().map(|row| get::<Option<i64>>(row, "seq")).transpose()?.flatten())
    }

    /// The values of a statement; `whole` with those that are looked at row by row.
    fn params<'a>(&'a self, stretch: &'a Stretch, whole: bool) -> Vec<&'a (dyn ToSql + Sync)> {
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&stretch.above, &stretch.below];
        let also = if whole { self.also_params.as_slice() } else { &[] };
        params.extend(
            self.indexed_params.iter().chain(also).map(|param| &**param as &(dyn ToSql + Sync)),
        );
        params
    }

    /// The rows of the page, and one more that tells whether there is a next one.
    fn select(&self) -> String {
        let rows = self.limit + 1;
        let sql = self.branches(self.columns, &self.also, 0, u64::from(rows));
        format!("{sql} ORDER BY seq {} LIMIT {rows}", self.direction())
    }

    /// The `seq` at which a page that finds little ends.
    fn scan_end(&self) -> String {
        let branches = self.any_of.as_ref().map_or(1, |(_, words)| words.len().max(1));
        let skip = SCAN / u64::try_from(branches).unwrap_or(1);
        let nearest = match self.order {
            Order::Newest => "max",
            Order::Oldest => "min",
        };
        format!("SELECT {nearest}(seq) AS seq FROM ({}) AS ends", self.branches("seq", "", skip, 1))
    }

    /// A scan of the index, or one for each alternative.
    fn branches(&self, columns: &str, also: &str, skip: u64, limit: u64) -> String {
        let slice = format!("OFFSET {skip} LIMIT {limit}");
        let branches = match &self.any_of {
            None => self.branch(columns, None, also, &slice),
            Some((column, words)) => {
                // The words are ours, see `core_types::words`.
                let one = |word: &&str| self.branch(columns, Some((column, word)), also, &slice);
                words.iter().map(one).collect::<Vec<_>>().join(" UNION ALL ")
            }
        };
        format!("SELECT * FROM ({branches}) AS page")
    }

    /// One scan of the index.
    ///
    /// The comparison of whole rows, and the order by all of their columns, is what that one index serves and no other:
    /// were the columns before `seq` said to be equal to something, the planner would take the index on `seq` alone
    /// wherever it believes that the rows wanted are many, and walk past all others where it is wrong.
    fn branch(&self, columns: &str, word: Option<(&str, &str)>, also: &str, slice: &str) -> String {
        let (table, alias, direction) = (self.table, self.alias, self.direction());
        let first = word.map(|(column, word)| (format!("{alias}.{column}"), format!("'{word}'")));
        let seq = format!("{alias}.seq");
        let prefix = || first.iter().chain(&self.indexed);
        let names: Vec<&str> =
            prefix().map(|(name, _)| name.as_str()).chain([seq.as_str()]).collect();
        let values: String = prefix().map(|(_, value)| format!("{value}, ")).collect();
        let there: String = prefix().map(|(name, _)| format!(" AND {name} IS NOT NULL")).collect();
        let order: Vec<String> = names.iter().map(|name| format!("{name} {direction}")).collect();
        let (names, order) = (names.join(", "), order.join(", "));
        format!(
            "(SELECT {columns} FROM {table} {alias}
              WHERE ({names}) > ({values}$1) AND ({names}) < ({values}$2){there}{also} ORDER BY {order} {slice})"
        )
    }

    const fn direction(&self) -> &'static str {
        match self.order {
            Order::Newest => "DESC",
            Order::Oldest => "ASC",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    From,
    Before,
}
