//! `task cancel`.

use client::client::Client;
use serde_json::{Value, json};

use super::naming::{resolve, short};
use crate::{code::Code, console::Console, failure::Failure};

/// Calls tasks off: each that can be, whatever becomes of the others.
pub(crate) async fn run(
    texts: &[String],
    client: &Client,
    console: &Console,
) -> Result<Code, Failure> {
    let mut results = Vec::new();
    let mut first_failure = None;
    for text in texts {
        match cancel(client, text).await {
            Ok(answer) => {
                tell(&answer, console)?;
                results.push(answer);
            }
            Err(failure) => {
                let failure = failure.while_doing(format_args!("cancel `{text}`"));
                if let Some(earlier) = first_failure.replace(failure) {
                    console.end(Err(earlier));
                }
            }
        }
    }
    console.value(&json!({ "items": results }))?;
    first_failure.map_or(Ok(Code::Done), Err)
}

async fn cancel(client: &Client, text: &str) -> Result<Value, Failure> {
    let id = resolve(client, text).await?;
    Ok(client.post(&format!("/tasks/{id}/cancel"), &json!({})).await?)
}

fn tell(answer: &Value, console: &Console) -> std::io::Result<()> {
    let word = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
    let text = match word("result") {
        "cancel_requested" => "its run is being stopped",
        _ => "cancelled",
    };
    console.line(format!("{}: {text}", short(word("id"))))
}
