//! `task add`.

use std::path::Path;

use client::{client::Client, error::ClientError};
use core_types::ids::TaskId;
use serde_json::{Map, Value, json};

use super::{file_or_input, follow, git, naming::resolve};
use crate::{
    cli::task::AddArgs, code::Code, console::Console, failure::Failure, surroundings::Surroundings,
};

/// Makes a task, and follows it where that is asked for.
pub(crate) async fn run(
    args: AddArgs,
    client: &Client,
    surroundings: &Surroundings,
    console: &Console,
) -> Result<Code, Failure> {
    let follow = args.follow;
    let request = request(args, client, surroundings).await?;
    let task = create(client, &request).await?;
    let id = task.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    if follow {
        console.remark(&id);
        return follow::task(client, &id, console).await;
    }
    console.value(&task)?;
    console.line(&id)?;
    Ok(Code::Done)
}

/// The id is our own, so that a request whose answer was lost can be sent again and makes one task.
async fn create(client: &Client, request: &Value) -> Result<Value, Failure> {
    match client.post("/tasks", request).await {
        Err(ClientError::Lost { .. } | ClientError::TimedOut { .. }) => {
            Ok(client.post("/tasks", request).await?)
        }
        answer => Ok(answer?),
    }
}

async fn request(
    args: AddArgs,
    client: &Client,
    surroundings: &Surroundings,
) -> Result<Value, Failure> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    let goal = match (&args.goal, &args.goal_file) {
        (Some(goal), _) => goal.clone(),
        (None, Some(file)) => file_or_input(file)?,
        (None, None) => args.title.clone(),
    };
    set("id", Some(json!(TaskId::generate())));
    set("goal", Some(json!(goal)));
    set("title", Some(json!(args.title)));
    set("repository", Some(repository(args.repo.as_deref(), &surroundings.directory()?)?));
    set("verification", Some(json!(commands(&args.verify)?)));
    set("role", args.role.map(Value::from));
    set("base_branch", args.base.map(Value::from));
    set("priority", args.priority.map(Value::from));
    set("risk", args.risk.map(Value::from));
    set("executor", args.executor.map(Value::from));
    set("model", args.model.map(Value::from));
    set("target_area", args.area.map(Value::from));
    set("timebox_s", args.timebox.map(|timebox| Value::from(timebox.as_secs())));
    set("max_attempts", args.max_attempts.map(Value::from));
    set("token_limit", args.token_limit.map(Value::from));
    set("cost_limit_usd", args.cost_limit.map(Value::from));
    let mut dependencies = Vec::new();
    for dependency in &args.depends_on {
        dependencies.push(resolve(client, dependency).await?);
    }
    set("dependencies", Some(json!(dependencies)));
    Ok(Value::Object(fields))
}

/// Splits commands as a shell would split them, and lets no shell run them.
fn commands(texts: &[String]) -> Result<Vec<Vec<String>>, Failure> {
    let split = |text: &String| {
        let words = shell_words::split(text).ok().filter(|words| !words.is_empty());
        words.ok_or_else(|| {
            Failure::usage(format!("`--verify {text}` is no command"))
                .with_hint("close its quotes; it is split as a shell would split it")
        })
    };
    texts.iter().map(split).collect()
}

/// What a text for a repository means: a URL, or a directory of this machine.
fn repository(text: Option<&str>, directory: &Path) -> Result<Value, Failure> {
    if let Some(url) = text.filter(|text| is_url(text)) {
        return Ok(json!({ "mode": "git", "url": url }));
    }
    let path = match text {
        Some(path) => std::fs::canonicalize(directory.join(path)).map_err(|error| {
            let failure = Failure::of(format_args!("find the repository `{path}`"), &error);
            Failure { code: Code::Usage, ..failure }
        })?,
        None => git::top_of(directory).ok_or_else(|| {
            Failure::usage(format!("`{}` lies in no git repository", directory.display()))
                .with_hint("change into one, or name it with `--repo`")
        })?,
    };
    let text = path
        .to_str()
        .ok_or_else(|| Failure::usage(format!("the path `{}` is no UTF-8", path.display())))?;
    Ok(json!({ "mode": "local", "path": text }))
}

/// Whether git would reach it over a network: `scheme://…`, or `user@host:path`.
fn is_url(text: &str) -> bool {
    let scp = || {
        let (host, path) = text.split_once(':')?;
        (!host.contains('/') && !host.is_empty() && !path.is_empty()).then_some(())
    };
    text.contains("://") || (!text.starts_with(['/', '.']) && scp().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_like_a_shell_splits_them() {
        let split = commands(&["cargo test -p 'my crate'".to_owned(), "true".to_owned()]).unwrap();
        assert_eq!(split, [vec!["cargo", "test", "-p", "my crate"], vec!["true"]]);
        for text in ["", "  ", "echo 'open"] {
            assert_eq!(commands(&[text.to_owned()]).unwrap_err().code, Code::Usage, "{text}");
        }
    }

    #[test]
    fn urls_and_paths_are_told_apart() {
        for url in ["https://h/r.git", "ssh://git@h/r", "git@h:o/r.git", "h:r"] {
            assert!(is_url(url), "{url}");
        }
        for path in ["/srv/r", ".", "../r", "./a:b", "r", "a/b:c"] {
            assert!(!is_url(path), "{path}");
        }
    }

    #[test]
    fn a_repository_is_found_from_anywhere_within() {
        let scratch = testing::repository::ScratchRepository::with_one_commit();
        let found = repository(None, &scratch.join("src")).unwrap();
        let path = std::fs::canonicalize(scratch.path()).unwrap();
        assert_eq!(found, json!({ "mode": "local", "path": path }));
        let outside = tempfile::tempdir().unwrap();
        assert_eq!(repository(None, outside.path()).unwrap_err().code, Code::Usage);
        assert_eq!(repository(Some("nowhere"), outside.path()).unwrap_err().code, Code::Usage);
    }
}
