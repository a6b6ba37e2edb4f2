//! Lists of tasks, and how many there are.

use core_types::{
    ids::TaskId,
    task::{ExecutorKind, Role, TaskStatus},
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    connections::Statements as _,
    error::StoreError,
    listing::Listing,
    page::{Cursor, Order, Page},
    pool::Store,
    row::{get, number, word},
    tasks::{COLUMNS, Task, from_row},
};

/// Which tasks a list shows; what is left out is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only those of one of these statuses; none is any.
    pub statuses: Vec<TaskStatus>,
    /// Only those of this role.
    pub role: Option<Role>,
    /// Only those for this agent command line.
    pub executor: Option<ExecutorKind>,
    /// Only those of this area.
    pub target_area: Option<String>,
    /// Only those of the repository with this path or URL.
    pub repository: Option<String>,
    /// Only those whose title holds this text, upper and lower case alike.
    pub title: Option<String>,
    /// Only those made then or later.
    pub since: Option<Timestamp>,
    /// Only those made earlier.
    pub until: Option<Timestamp>,
    /// Which come first.
    pub order: Order,
    /// Only those behind this place, in that order.
    pub before: Option<Cursor>,
    /// Longest page; 1 to [`crate::page::PAGE_LIMIT`].
    pub limit: u32,
}

/// How many tasks there are.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskCounts {
    /// For each role and status that any task has, how many.
    pub counts: Vec<(Role, TaskStatus, u64)>,
    /// The queued task that was made first, and for how many seconds it has been there.
    pub oldest_queued: Option<(TaskId, f64)>,
}

/// The path or URL of a task's repository.
const REPOSITORY: &str = "coalesce(t.repository ->> 'path', t.repository ->> 'url')";
/// Its beginning, spelled as in the index `tasks_by_repository`.
const REPOSITORY_HEAD: &str =
    "left(coalesce(t.repository ->> 'path', t.repository ->> 'url'), 600)";
/// How many characters that is.
const HEAD_CHARS: usize = 600;

impl TaskFilter {
    /// The index that leaves most out, and everything else row by row.
    fn listing(&self) -> Listing {
        let mut list = Listing::new(("tasks", "t"), COLUMNS, self.order, self.before, self.limit);
        let mut statuses: Vec<&'static str> =
            self.statuses.iter().map(|status| status.as_str()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        let (mut area, mut repository) = (self.target_area.clone(), self.repository.clone());
        let is_short = |text: &String| text.chars().nth(HEAD_CHARS).is_none();
        let mut role = self.role.map(Role::as_str);
        if let Some(area) = area.take() {
            list.indexed("t.target_area", area);
        } else if let Some(whole) = &repository {
            list.indexed(REPOSITORY_HEAD, whole.chars().take(HEAD_CHARS).collect::<String>());
            // What the index compares is all of it.
            repository = repository.filter(|whole| !is_short(whole));
        } else {
            if let Some(role) = role.take() {
                list.indexed("t.role", role);
            }
            if !statuses.is_empty() {
                list.any_of("status", std::mem::take(&mut statuses));
            }
        }
        if let Some(repository) = repository {
            list.also(&format!("{REPOSITORY} = ?"), repository);
        }
        if let Some(role) = role {
            list.also("t.role = ?", role);
        }
        if !statuses.is_empty() {
            list.also("t.status = ANY(?)", statuses);
        }
        if let Some(executor) = self.executor {
            list.also("t.executor = ?", executor.as_str());
        }
        if let Some(title) = &self.title {
            list.also("strpos(lower(t.title), lower(?)) > 0", title.clone());
        }
        list.made_within(self.since, self.until);
        list
    }
}

impl Store {
    /// Tasks, by when they were made. A page with a next one may be short or empty: it looked at enough rows.
    ///
    /// Served by `tasks_by_area`, `tasks_by_repository`, `tasks_by_status_and_role`, `tasks_by_status`, `tasks_by_role`
    /// or the index on `seq`; moments by `tasks_by_creation`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn list_tasks(&self, filter: &TaskFilter) -> Result<Page<Task>, StoreError> {
        let connection = self.connection().await?;
        filter.listing().page(&connection, from_row).await
    }

    /// How the database serves [`Store::list_tasks`], for people who wonder why it is slow.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn explain_list_tasks(&self, filter: &TaskFilter) -> Result<Vec<String>, StoreError> {
        let connection = self.connection().await?;
        filter.listing().explain(&connection).await
    }

    /// How many tasks there are. Served by `tasks_by_status_and_role` alone and by `tasks_by_status`.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn count_tasks(&self) -> Result<TaskCounts, StoreError> {
        let connection = self.connection().await?;
        let (counts, oldest) = futures_util::try_join!(
            connection.query_cached(COUNT, &[]),
            connection.query_cached(OLDEST_QUEUED, &[]),
        )?;
        let counts: Result<Vec<_>, StoreError> = counts
            .iter()
            .map(|row| {
                Ok((word(row, "role")?, word(row, "status")?, number::<i64, u64>(row, "count")?))
            })
            .collect();
        let oldest_queued = oldest
            .first()
            .map(|row| {
                let id = TaskId::from_uuid(get::<Uuid>(row, "id")?);
                Ok::<_, StoreError>((id, get(row, "age_s")?))
            })
            .transpose()?;
        Ok(TaskCounts { counts: counts?, oldest_queued })
    }
}

const COUNT: &str = "SELECT status, role, count(*) AS count FROM tasks GROUP BY status, role";
const OLDEST_QUEUED: &str = "
    SELECT id, greatest(extract(epoch FROM clock_timestamp() - created_at), 0)::float8 AS age_s
    FROM tasks WHERE status = 'queued' ORDER BY seq LIMIT 1";
