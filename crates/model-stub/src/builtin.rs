//! The built-in scripts.

use std::collections::BTreeMap;

use serde_json::json;

use crate::script::{Answer, Failure, Limit, Script, Turn};

/// All of them by name.
pub(crate) fn scripts() -> BTreeMap<String, Script> {
    let named: [(&str, Script); 18] = [
        ("demo", demo()),
        ("nothing", Script::of([Turn::text("There was nothing to do.")])),
        ("bash", bash()),
        ("endless", endless()),
        ("slow", slow()),
        ("hang", Script::of([Turn::Hang])),
        ("hang-later", Script::of([write_file(), Turn::Hang])),
        ("refused-key", failing(401, "authentication_error", "invalid x-api-key")),
        ("revoked", failing(403, "permission_error", "OAuth token revoked")),
        ("no-credit", failing(400, "invalid_request_error", NO_CREDIT)),
        ("no-model", failing(404, "not_found_error", "model: no-such-model")),
        ("limit-reached", limit_reached("five_hour", 3_600)),
        ("weekly-limit-reached", limit_reached("seven_day", 4 * 24 * 3_600)),
        ("busy", busy()),
        ("broken", failing(500, "api_error", "Internal server error")),
        ("overloaded", failing(529, "overloaded_error", "Overloaded")),
        ("overloaded-once", overloaded_once()),
        ("costly", costly()),
    ];
    named.map(|(name, script)| (name.to_owned(), script)).into()
}

const NO_CREDIT: &str = "Your credit balance is too low to access the Anthropic API. Please go to Plans & \
                         Billing to upgrade or purchase credits.";

/// Writes a file and looks at it with a command that is more than reading, so that both have to be allowed.
pub(crate) fn demo() -> Script {
    let look = "git add --intent-to-add -- '{file}' && git diff --stat && grep -n tiger '{file}'";
    Script::of([
        write_file(),
        Turn::call("Bash", json!({"command": look, "description": "Look at the change"})),
        Turn::text("I wrote {file} with a greeting for the tiger and checked that it is there."),
    ])
}

fn write_file() -> Turn {
    let content = "# Hello, tiger\n\nA small greeting, written by an agent that follows a script: hello, tiger!\n";
    let Turn::Answer(call) =
        Turn::call("Write", json!({"file_path": "{cwd}/{file}", "content": content}))
    else {
        return Turn::Hang;
    };
    let text = "I will write {file} and then look at what changed.".to_owned();
    Turn::Answer(Answer { text: Some(text), ..call })
}

/// Runs one command, ends.
fn bash() -> Script {
    Script::of([
        Turn::call(
            "Bash",
            json!({"command": "echo made > bash.txt", "description": "Write a file"}),
        ),
        Turn::text("Done."),
    ])
}

/// Calls tools for ever.
fn endless() -> Script {
    let turn =
        Turn::call("Bash", json!({"command": "echo again >> again.txt", "description": "Go on"}));
    Script { turns: vec![turn], repeat_last: true }
}

fn slow() -> Script {
    let text = "I say this slowly, word by word, until it is said.".to_owned();
    Script::of([
        write_file(),
        Turn::Answer(Answer { text: Some(text), part_delay_ms: 100, ..Answer::default() }),
    ])
}

fn failing(status: u16, kind: &str, message: &str) -> Script {
    Script::of([Turn::fail(status, kind, message)])
}

fn limit_reached(claim: &str, resets_in_s: u64) -> Script {
    let limit = Limit {
        status: "rejected".to_owned(),
        claim: claim.to_owned(),
        resets_in_s,
        utilization: Some(1.0),
    };
    let message = "This request would exceed your account's rate limit. Please try again later.";
    with_failure(429, "rate_limit_error", message, |failure| failure.limit = Some(limit))
}

fn busy() -> Script {
    with_failure(429, "rate_limit_error", "Rate limited", |failure| failure.retry_after_s = Some(1))
}

fn overloaded_once() -> Script {
    let mut script =
        with_failure(529, "overloaded_error", "Overloaded", |failure| failure.times = Some(1));
    script.turns.extend(demo().turns);
    script
}

/// Says little and claims to have read much.
fn costly() -> Script {
    let mut script = bash();
    for turn in &mut script.turns {
        if let Turn::Answer(answer) = turn {
            answer.usage.input = 2_000_000;
        }
    }
    script
}

fn with_failure(
    status: u16,
    kind: &str,
    message: &str,
    change: impl FnOnce(&mut Failure),
) -> Script {
    let mut turn = Turn::fail(status, kind, message);
    if let Turn::Fail(failure) = &mut turn {
        change(failure);
    }
    Script::of([turn])
}
