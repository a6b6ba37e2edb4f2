//! The form for a new task. What it sends is made into the body that the API takes, and goes the same way.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use core_types::task::{ExecutorKind, RiskLevel, Role};
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::{
    access::caller::Caller,
    error::{ApiError, FieldFault},
    extract::parse,
    pages::{
        form::{Fields, PageForm, PageQuery},
        frame::{Frame, Html},
        tasks::{Choice, choices},
        texts::tasks::NewTaskTexts,
    },
    requests::new_task::NewTaskRequest,
    routes::creation::{Naming, make},
    state::ApiState,
};

/// The form, with what was sent and what is wrong with it.
#[derive(Debug, Template)]
#[template(path = "new_task.html")]
struct NewTask {
    frame: Frame,
    t: &'static NewTaskTexts,
    given: Fields,
    git: bool,
    roles: Vec<Choice>,
    risks: Vec<Choice>,
    executors: Vec<Choice>,
    fault: Option<String>,
    faults: Vec<FieldFault>,
    /// Whether one of the fields that are folded away was filled.
    unfolded: bool,
}

impl NewTask {
    fn new(frame: Frame, given: Fields, error: Option<&ApiError>) -> Self {
        let word = |field: &str, otherwise: &'static str| {
            given.filled(field).unwrap_or(otherwise).to_owned()
        };
        let folded = [
            "model",
            "target_area",
            "dependencies",
            "timebox",
            "max_attempts",
            "token_limit",
            "cost_limit_usd",
            "executor",
        ];
        Self {
            t: NewTaskTexts::of(frame.language),
            git: given.text("mode") == "git",
            roles: choices(Role::ALL, &word("role", "worker"), |one| {
                (one.as_str(), frame.t.role(one))
            }),
            risks: choices(RiskLevel::ALL, &word("risk", "medium"), |one| {
                (one.as_str(), frame.t.risk(one))
            }),
            executors: choices(ExecutorKind::ALL, given.text("executor"), |one| {
                (one.as_str(), one.as_str())
            }),
            unfolded: error.is_some() || folded.iter().any(|field| given.filled(field).is_some()),
            fault: error.map(|error| error.text().to_owned()),
            faults: error.map(|error| error.faults().to_vec()).unwrap_or_default(),
            given,
            frame,
        }
    }

    /// Marks a field whose content is at fault.
    fn invalid(&self, field: &str) -> bool {
        self.faults.iter().any(|fault| {
            fault
                .field
                .strip_prefix(field)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }
}

/// Shows the form; a query may fill it.
pub(crate) async fn show(frame: Frame, PageQuery(given): PageQuery) -> Response {
    Html(NewTask::new(frame, given, None)).into_response()
}

/// Makes the task, or shows the form again with what is wrong.
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    frame: Frame,
    PageForm(form): PageForm,
) -> Result<Response, ApiError> {
    match made(&state, caller, &form).await {
        Ok(id) => Ok(Redirect::to(&format!("/ui/tasks/{id}?said=made")).into_response()),
        Err(error) if error.status().is_client_error() => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Ok((status, Html(NewTask::new(frame, form, Some(&error)))).into_response())
        }
        Err(error) => Err(error),
    }
}

async fn made(state: &ApiState, caller: Caller, form: &Fields) -> Result<String, ApiError> {
    let body = body(form)?;
    let request: NewTaskRequest = parse(body.to_string().as_bytes())?;
    let making = make(state.clone(), caller, vec![request], Naming::Single);
    let made = state.to_the_end(making).await?;
    let task = made.tasks.first().ok_or_else(ApiError::internal)?;
    Ok(task.new.id.to_string())
}

/// The body of `POST /tasks` that a form means.
fn body(form: &Fields) -> Result<Value, ApiError> {
    let git = form.text("mode") == "git";
    let (mode, place) = if git { ("git", "url") } else { ("local", "path") };
    let mut body = Map::new();
    body.insert("title".into(), form.text("title").trim().into());
    body.insert("goal".into(), form.text("goal").trim().into());
    body.insert("repository".into(), json!({ "mode": mode, place: form.text("place").trim() }));
    for field in ["role", "risk", "executor", "model", "target_area", "base_branch"] {
        if let Some(text) = form.filled(field) {
            body.insert(field.into(), text.into());
        }
    }
    for field in ["priority", "max_attempts", "token_limit", "cost_limit_usd"] {
        if let Some(text) = form.filled(field) {
            body.insert(field.into(), number(text));
        }
    }
    if let Some(text) = form.filled("timebox") {
        let seconds = text.parse::<u64>().ok().and_then(|minutes| minutes.checked_mul(60));
        body.insert("timebox_s".into(), seconds.map_or_else(|| text.into(), Value::from));
    }
    let dependencies: Vec<&str> = form.text("dependencies").split_whitespace().collect();
    body.insert("dependencies".into(), dependencies.into());
    body.insert("verification".into(), json!(commands(form.text("verification"))?));
    Ok(Value::Object(body))
}

/// A number as JSON has it; what is none stays a text, and is refused where a number is expected.
fn number(text: &str) -> Value {
    serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Value::Number)
}

/// Commands, one a line, each split into words as a shell would, and nothing else that a shell does.
fn commands(text: &str) -> Result<Vec<Vec<String>>, ApiError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let commands: Result<Vec<_>, _> = lines.map(shell_words::split).collect();
    commands.map_err(|_| {
        let fault =
            FieldFault::new("verification", "has a quote that does not end", "whole commands");
        ApiError::fields(vec![fault])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_becomes_the_body_that_the_api_takes() {
        let form = Fields::of(&[
            ("title", " t "),
            ("goal", "g"),
            ("mode", "git"),
            ("place", "https://e.example/a.git"),
            ("role", "tester"),
            ("priority", "5"),
            ("timebox", "2"),
            ("cost_limit_usd", "1.5"),
            ("dependencies", " a  b "),
            ("verification", "cargo test\n\nsh -c 'exit 0'\n"),
            ("model", ""),
        ]);
        let expected = json!({
            "title": "t", "goal": "g", "repository": { "mode": "git", "url": "https://e.example/a.git" },
            "role": "tester", "priority": 5, "timebox_s": 120, "cost_limit_usd": 1.5,
            "dependencies": ["a", "b"], "verification": [["cargo", "test"], ["sh", "-c", "exit 0"]],
        });
        assert_eq!(body(&form).unwrap(), expected);
        let odd = Fields::of(&[("priority", "high"), ("timebox", "1h"), ("verification", "'")]);
        assert_eq!(body(&odd).unwrap_err().faults()[0].field, "verification");
        assert_eq!(number("high"), json!("high"));
    }
}
