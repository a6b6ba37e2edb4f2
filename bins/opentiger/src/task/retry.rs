//! `task retry`.

use client::client::Client;
use serde_json::{Map, Value};

use super::{
    follow,
    naming::{resolve, short},
    text_or_input,
};
use crate::{cli::task::RetryArgs, code::Code, console::Console, failure::Failure};

/// Queues a task again.
pub(crate) async fn run(
    args: &RetryArgs,
    client: &Client,
    console: &Console,
) -> Result<Code, Failure> {
    let id = resolve(client, &args.id).await?;
    let mut request = Map::new();
    if let Some(feedback) = &args.feedback {
        request.insert("feedback".to_owned(), text_or_input(feedback)?.into());
    }
    if args.continue_session {
        request.insert("continue_session".to_owned(), true.into());
    }
    let answer = client.post(&format!("/tasks/{id}/retry"), &Value::Object(request)).await?;
    if args.follow {
        return follow::task(client, &id, console).await;
    }
    console.value(&answer)?;
    console.line(format!("{}: queued again", short(&id)))?;
    Ok(Code::Done)
}
