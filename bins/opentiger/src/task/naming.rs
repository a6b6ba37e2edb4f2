//! Which task is meant: a whole id, a beginning or an end of one, or the newest.

use client::{client::Client, error::ClientError};
use core_types::ids::TaskId;

use crate::{
    code::Code,
    failure::Failure,
    shape::{Page, read},
};

/// How many digits of an id tables show: the last ones, since the first ones are the time.
const SHOWN: usize = 8;
/// The fewest digits that name a task.
const FEWEST: usize = 4;
/// How many of the newest tasks are looked through for a part of an id.
const LOOKED_THROUGH: usize = 2000;
/// The name of the newest task.
const LAST: &str = "@last";

/// The part of an id that tables show.
pub(crate) fn short(id: &str) -> &str {
    let digits = id.strip_prefix("task-").unwrap_or(id);
    digits.get(digits.len().saturating_sub(SHOWN)..).unwrap_or(digits)
}

/// The id of the task that is meant.
///
/// # Errors
/// No task has such an id, several have, or the text is none.
pub(crate) async fn resolve(client: &Client, text: &str) -> Result<String, Failure> {
    if text.parse::<TaskId>().is_ok() {
        return Ok(text.to_owned());
    }
    let mut part = text.strip_prefix("task-").unwrap_or(text).to_owned();
    if text != LAST {
        part.make_ascii_lowercase();
        let digits = part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digits || part.len() < FEWEST || part.len() > 32 {
            return Err(Failure::usage(format!("`{text}` names no task")).with_hint(format!(
                "give an id, at least {FEWEST} of its first or last digits, or `{LAST}`"
            )));
        }
    }
    let found = search(client, text, &part).await?;
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::new(Code::NotFound, format!("no task is named `{text}`"))
            .with_hint("`opentiger task list` shows the newest tasks")),
        several => Err(Failure::new(Code::Conflict, format!("`{text}` names several tasks"))
            .with_notes(several.iter().cloned())
            .with_hint("give more digits")),
    }
}

async fn search(client: &Client, text: &str, part: &str) -> Result<Vec<String>, ClientError> {
    let mut found = Vec::new();
    let mut looked = 0;
    let mut cursor: Option<String> = None;
    loop {
        let limit = if text == LAST { 1 } else { 200 };
        let query = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = client.get(&format!("/tasks?limit={limit}{query}")).await?;
        let Ok(Page { items, next_cursor }) = read::<Page>("a page of tasks", &page) else {
            return Ok(found);
        };
        looked += items.len();
        let ids = items.iter().filter_map(|item| item.get("id")?.as_str());
        found.extend(ids.filter(|id| text == LAST || matches(id, part)).map(ToOwned::to_owned));
        cursor = next_cursor;
        if cursor.is_none() || text == LAST || looked >= LOOKED_THROUGH {
            return Ok(found);
        }
    }
}

fn matches(id: &str, part: &str) -> bool {
    let digits = id.strip_prefix("task-").unwrap_or(id);
    digits.starts_with(part) || digits.ends_with(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_show_the_end_of_an_id_and_it_names_the_task() {
        let id = TaskId::generate().to_string();
        assert_eq!(short(&id).len(), SHOWN);
        assert!(matches(&id, short(&id)));
        assert!(!matches(&id, "zzzz"));
    }
}
