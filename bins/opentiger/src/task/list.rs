//! `task list`.

use client::{client::Client, telling::cut};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::naming::short;
use crate::{
    cli::task::ListArgs,
    code::Code,
    console::Console,
    failure::Failure,
    shape::{Page, Task, read},
    table::Columns,
    units::age,
};

/// The longest page that the server gives.
const PAGE: usize = 200;
/// The longest title and reason in a table.
const TITLE: usize = 50;
const WHY: usize = 60;

/// Lists tasks.
pub(crate) async fn run(
    args: &ListArgs,
    client: &Client,
    console: &Console,
) -> Result<Code, Failure> {
    let items = collect(args, client).await?;
    console.value(&json!({ "items": items }))?;
    if items.is_empty() {
        console.line("no tasks")?;
        return Ok(Code::Done);
    }
    let now = Timestamp::now();
    let mut table = Columns::new(console, &["ID", "STATUS", "ROLE", "AGE", "TITLE", "WHY"]);
    for item in &items {
        let task: Task = read("a task", item)?;
        table.row([
            short(&task.id).to_owned(),
            task.status.clone(),
            task.role.clone().unwrap_or_default(),
            age(task.created_at, now),
            cut(&task.title, TITLE),
            cut(&task.why(now), WHY),
        ]);
    }
    table.print(console)?;
    Ok(Code::Done)
}

async fn collect(args: &ListArgs, client: &Client) -> Result<Vec<Value>, Failure> {
    let limit = if args.all { usize::MAX } else { args.limit };
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    while items.len() < limit {
        let page = client.get(&path(args, limit - items.len(), cursor.as_deref())).await?;
        let page: Page = read("a page of tasks", &page)?;
        items.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(items)
}

fn path(args: &ListArgs, left: usize, cursor: Option<&str>) -> String {
    let mut path = format!("/tasks?limit={}", left.clamp(1, PAGE));
    let statuses = args.status.join(",");
    for (name, value) in [
        ("status", statuses.as_str()),
        ("role", args.role.as_deref().unwrap_or_default()),
        ("cursor", cursor.unwrap_or_default()),
    ] {
        if !value.is_empty() {
            path.extend(["&", name, "=", value]);
        }
    }
    path
}
