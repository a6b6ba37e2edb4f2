//! Old records of the database, which the server removes: it says first what would go, and takes just that as a wish.

use client::client::Client;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// How much of each kind was removed, or would be.
pub(crate) async fn remove(
    client: &Client,
    days: u32,
    dry_run: bool,
) -> Result<Map<String, Value>, Failure> {
    let mut removed = Map::new();
    loop {
        let what = "tasks,events,agents,notices";
        let path = format!("/system/cleanup?older_than_days={days}&what={what}");
        let plan = client.get(&path).await?;
        if dry_run {
            add(&mut removed, plan.get("would_remove"));
            return Ok(removed);
        }
        let request = json!({
            "older_than_days": days, "what": plan.get("what"), "confirm": plan.get("confirm"),
        });
        let answer = client.post("/system/cleanup", &request).await?;
        add(&mut removed, answer.get("removed"));
        // The time for one request was over: what is left is another wish.
        if answer.get("finished") != Some(&Value::Bool(false)) {
            return Ok(removed);
        }
    }
}

fn add(sum: &mut Map<String, Value>, counts: Option<&Value>) {
    for (kind, count) in counts.and_then(Value::as_object).into_iter().flatten() {
        let so_far = sum.get(kind).and_then(Value::as_u64).unwrap_or(0);
        sum.insert(kind.clone(), (so_far + count.as_u64().unwrap_or(0)).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_several_requests_are_one_sum() {
        let mut sum = Map::new();
        add(&mut sum, Some(&json!({ "tasks": 2, "runs": 3 })));
        add(&mut sum, Some(&json!({ "tasks": 1 })));
        add(&mut sum, None);
        assert_eq!(Value::Object(sum), json!({ "tasks": 3, "runs": 3 }));
    }
}
