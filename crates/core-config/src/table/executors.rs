//! The agents' command lines: which one, what they may do, and what they are told.

use super::{DAY_S, Fallback, Setting, TakesEffect, integer};
use crate::kind::Kind;

/// The settings of this group, in the order in which documents and the API show them.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::database(
        "LLM_EXECUTOR",
        Kind::Choice(core_types::task::ExecutorKind::WORDS),
        Fallback::Text("claude_code"),
        "The agent command line that does a task which names none.",
    )
    .effective(TakesEffect::NextRequest),
    Setting::database(
        "CLAUDE_CODE_COMMAND",
        Kind::Program,
        Fallback::Text("claude"),
        "The program of the executor `claude_code`; in a sandbox its name alone counts, looked up in the image's `PATH`.",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_MODEL",
        Kind::Model { with_provider: false },
        Fallback::Empty,
        "The model that `claude_code` uses for a task which names none; when empty, the command line's own default.",
    ),
    Setting::database(
        "CLAUDE_CODE_PERMISSION_MODE",
        Kind::Choice(crate::settings::PermissionMode::WORDS),
        Fallback::Text("dontAsk"),
        "What `claude_code` may do without asking; `dontAsk` allows exactly the allowed tools, `bypassPermissions` is refused by the command line when it runs as root.",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_ALLOWED_TOOLS",
        Kind::List,
        Fallback::Text("Bash,Edit,Write,Read,Glob,Grep"),
        "The tools that `claude_code` may use.",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_DISALLOWED_TOOLS",
        Kind::List,
        Fallback::Empty,
        "The tools that `claude_code` may not use, whatever else allows them.",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_MAX_TURNS",
        integer(0, 10_000),
        Fallback::Integer(0),
        "After how many turns `claude_code` is ended; 0 is unlimited.",
    )
    .unit("turns"),
    Setting::database(
        "CLAUDE_CODE_APPEND_SYSTEM_PROMPT",
        Kind::Text,
        Fallback::Empty,
        "A text that is added to the system prompt of `claude_code`.",
    ),
    Setting::database(
        "CLAUDE_CODE_MAX_RETRIES",
        integer(0, 100),
        Fallback::Integer(2),
        "How often `claude_code` repeats a failed model call; with many, a refused key takes minutes to show.",
    )
    .unit("retries"),
    Setting::database(
        "ANTHROPIC_API_KEY",
        Kind::Secret,
        Fallback::Empty,
        "The key for the Anthropic API; when empty, the command line's own login is used.",
    ),
    Setting::database(
        "ANTHROPIC_BASE_URL",
        Kind::HttpUrl,
        Fallback::Empty,
        "The address of the Anthropic API or of a gateway to it; when empty, the command line's own default.",
    )
    .reaching_host(),
    Setting::database(
        "OPENAI_API_KEY",
        Kind::Secret,
        Fallback::Empty,
        "The key for the OpenAI API, for `opencode`; when empty, its own login is used.",
    ),
    Setting::database(
        "GEMINI_API_KEY",
        Kind::Secret,
        Fallback::Empty,
        "The key for the Gemini API, for `opencode`; when empty, its own login is used.",
    ),
    Setting::database(
        "OPENCODE_COMMAND",
        Kind::Program,
        Fallback::Text("opencode"),
        "The program of the executor `opencode`; in a sandbox its name alone counts, looked up in the image's `PATH`.",
    )
    .reaching_host(),
    Setting::database(
        "OPENCODE_MODEL",
        Kind::Model { with_provider: true },
        Fallback::Empty,
        "The model that `opencode` uses for a task which names none, as `provider/model`; when empty, the command line's own default.",
    ),
    Setting::database(
        "OPENCODE_ALLOWED_TOOLS",
        Kind::List,
        Fallback::Text("bash,edit,read,glob,grep,list,todowrite,external_directory"),
        "What `opencode` may do without asking, as it names its permissions, such as `bash(git *)`; all else is denied.",
    )
    .reaching_host(),
    Setting::database(
        "OPENCODE_IDLE_TIMEOUT_S",
        integer(1, DAY_S),
        Fallback::Integer(300),
        "How long an agent of `opencode` may be silent before it is stopped; it repeats failed model calls for ever, which counts as silence.",
    )
    .unit("seconds"),
    Setting::database(
        "AGENT_IDLE_TIMEOUT_S",
        integer(1, DAY_S),
        Fallback::Integer(600),
        "How long an agent of `claude_code` may be silent before it is stopped.",
    )
    .unit("seconds"),
    Setting::database(
        "WORKER_INSTRUCTIONS",
        Kind::Text,
        Fallback::Empty,
        "What an agent of the role `worker` is told to be, in the place of the built-in text.",
    ),
    Setting::database(
        "WORKER_VERIFICATION",
        Kind::List,
        Fallback::Empty,
        "The commands that verify a task of the role `worker` which names none; the words of each are separated by blanks, and no shell reads them.",
    )
    .reaching_host(),
    Setting::database(
        "TESTER_INSTRUCTIONS",
        Kind::Text,
        Fallback::Empty,
        "What an agent of the role `tester` is told to be, in the place of the built-in text.",
    ),
    Setting::database(
        "TESTER_VERIFICATION",
        Kind::List,
        Fallback::Empty,
        "The commands that verify a task of the role `tester` which names none; the words of each are separated by blanks, and no shell reads them.",
    )
    .reaching_host(),
    Setting::database(
        "DOCSER_INSTRUCTIONS",
        Kind::Text,
        Fallback::Empty,
        "What an agent of the role `docser` is told to be, in the place of the built-in text.",
    ),
    Setting::database(
        "DOCSER_VERIFICATION",
        Kind::List,
        Fallback::Empty,
        "The commands that verify a task of the role `docser` which names none; the words of each are separated by blanks, and no shell reads them.",
    )
    .reaching_host(),
];
