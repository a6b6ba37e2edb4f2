//! The agents' command lines: which one, what they may do, and what they are told.

use super::{DAY_S, Fallback, Setting, TakesEffect, Unit, integer};
use crate::kind::Kind;

/// The settings of this group, in the order in which documents and the API show them.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::database(
        "LLM_EXECUTOR",
        Kind::Choice(core_types::task::ExecutorKind::WORDS),
        Fallback::Text("claude_code"),
        "The agent command line that does a task which names none.",
        "task が指定しない場合に、その task を行うエージェントの CLI。",
    )
    .effective(TakesEffect::NextRequest),
    Setting::database(
        "CLAUDE_CODE_COMMAND",
        Kind::Program,
        Fallback::Text("claude"),
        "The program of the executor `claude_code`; in a sandbox its name alone counts, looked up in the image's `PATH`.",
        "executor `claude_code` のプログラム。sandbox では名前の部分だけを使い、image の `PATH` から探します。",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_MODEL",
        Kind::Model { with_provider: false },
        Fallback::Empty,
        "The model that `claude_code` uses for a task which names none; when empty, the command line's own default.",
        "task が指定しない場合に `claude_code` が使う model。空の場合は CLI 自身の既定値です。",
    ),
    Setting::database(
        "CLAUDE_CODE_PERMISSION_MODE",
        Kind::Choice(crate::settings::PermissionMode::WORDS),
        Fallback::Text("dontAsk"),
        "What `claude_code` may do without asking; `dontAsk` allows exactly the allowed tools, `bypassPermissions` is refused by the command line when it runs as root.",
        "`claude_code` が確認なしで行えること。`dontAsk` は許可した tool だけを使えます。`bypassPermissions` は、root で動く場合に CLI が拒否します。",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_ALLOWED_TOOLS",
        Kind::List,
        Fallback::Text("Bash,Edit,Write,Read,Glob,Grep"),
        "The tools that `claude_code` may use.",
        "`claude_code` が使える tool。",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_DISALLOWED_TOOLS",
        Kind::List,
        Fallback::Empty,
        "The tools that `claude_code` may not use, whatever else allows them.",
        "`claude_code` が使えない tool。ほかの設定で許可されていても使えません。",
    )
    .reaching_host(),
    Setting::database(
        "CLAUDE_CODE_MAX_TURNS",
        integer(0, 10_000),
        Fallback::Integer(0),
        "After how many turns `claude_code` is ended; 0 is unlimited.",
        "`claude_code` を終了させるまでの turn の数。0 は無制限です。",
    )
    .unit(Unit::Turns),
    Setting::database(
        "CLAUDE_CODE_APPEND_SYSTEM_PROMPT",
        Kind::Text,
        Fallback::Empty,
        "A text that is added to the system prompt of `claude_code`.",
        "`claude_code` の system prompt に追加する文章。",
    ),
    Setting::database(
        "CLAUDE_CODE_MAX_RETRIES",
        integer(0, 100),
        Fallback::Integer(2),
        "How often `claude_code` repeats a failed model call; with many, a refused key takes minutes to show.",
        "失敗した model の呼び出しを `claude_code` が繰り返す回数。多くすると、拒否された key が判明するまでに数分かかります。",
    )
    .unit(Unit::Retries),
    Setting::database(
        "ANTHROPIC_API_KEY",
        Kind::Secret,
        Fallback::Empty,
        "The key for the Anthropic API; when empty, the command line's own login is used.",
        "Anthropic API の key。空の場合は CLI 自身の login を使います。",
    ),
    Setting::database(
        "ANTHROPIC_BASE_URL",
        Kind::HttpUrl,
        Fallback::Empty,
        "The address of the Anthropic API or of a gateway to it; when empty, the command line's own default.",
        "Anthropic API、またはその gateway のアドレス。空の場合は CLI 自身の既定値です。",
    )
    .reaching_host(),
    Setting::database(
        "OPENAI_API_KEY",
        Kind::Secret,
        Fallback::Empty,
        "The key for the OpenAI API, for `opencode`; when empty, its own login is used.",
        "`opencode` が使う OpenAI API の key。空の場合は `opencode` 自身の login を使います。",
    ),
    Setting::database(
        "GEMINI_API_KEY",
        Kind::Secret,
        Fallback::Empty,
        "The key for the Gemini API, for `opencode`; when empty, its own login is used.",
        "`opencode` が使う Gemini API の key。空の場合は `opencode` 自身の login を使います。",
    ),
    Setting::database(
        "OPENCODE_COMMAND",
        Kind::Program,
        Fallback::Text("opencode"),
        "The program of the executor `opencode`; in a sandbox its name alone counts, looked up in the image's `PATH`.",
        "executor `opencode` のプログラム。sandbox では名前の部分だけを使い、image の `PATH` から探します。",
    )
    .reaching_host(),
    Setting::database(
        "OPENCODE_MODEL",
        Kind::Model { with_provider: true },
        Fallback::Empty,
        "The model that `opencode` uses for a task which names none, as `provider/model`; when empty, the command line's own default.",
        "task が指定しない場合に `opencode` が使う model。`provider/model` の形で指定します。空の場合は CLI 自身の既定値です。",
    ),
    Setting::database(
        "OPENCODE_ALLOWED_TOOLS",
        Kind::List,
        Fallback::Text("bash,edit,read,glob,grep,list,todowrite,external_directory"),
        "What `opencode` may do without asking, as it names its permissions, such as `bash(git *)`; all else is denied.",
        "`opencode` が確認なしで行えること。`bash(git *)` のように、`opencode` の permission の名前で指定します。それ以外はすべて拒否されます。",
    )
    .reaching_host(),
    Setting::database(
        "OPENCODE_IDLE_TIMEOUT_S",
        integer(1, DAY_S),
        Fallback::Integer(300),
        "How long an agent of `opencode` may be silent before it is stopped; it repeats failed model calls for ever, which counts as silence.",
        "`opencode` のエージェントが沈黙したとき、停止するまでの時間。失敗した model の呼び出しを `opencode` は際限なく繰り返しますが、それも沈黙とみなします。",
    )
    .unit(Unit::Seconds),
    Setting::database(
        "AGENT_IDLE_TIMEOUT_S",
        integer(1, DAY_S),
        Fallback::Integer(600),
        "How long an agent of `claude_code` may be silent before it is stopped.",
        "`claude_code` のエージェントが沈黙したとき、停止するまでの時間。",
    )
    .unit(Unit::Seconds),
    Setting::database(
        "WORKER_INSTRUCTIONS",
        Kind::Text,
        Fallback::Empty,
        "What an agent of the role `worker` is told to be, in the place of the built-in text.",
        "role `worker` のエージェントに与える役割の説明。組み込みの文章の代わりに使います。",
    ),
    Setting::database(
        "WORKER_VERIFICATION",
        Kind::List,
        Fallback::Empty,
        "The commands that verify a task of the role `worker` which names none; the words of each are separated by blanks, and no shell reads them.",
        "検証を指定しない role `worker` の task を検証するコマンド。語は空白で区切り、shell は通しません。",
    )
    .reaching_host(),
    Setting::database(
        "TESTER_INSTRUCTIONS",
        Kind::Text,
        Fallback::Empty,
        "What an agent of the role `tester` is told to be, in the place of the built-in text.",
        "role `tester` のエージェントに与える役割の説明。組み込みの文章の代わりに使います。",
    ),
    Setting::database(
        "TESTER_VERIFICATION",
        Kind::List,
        Fallback::Empty,
        "The commands that verify a task of the role `tester` which names none; the words of each are separated by blanks, and no shell reads them.",
        "検証を指定しない role `tester` の task を検証するコマンド。語は空白で区切り、shell は通しません。",
    )
    .reaching_host(),
    Setting::database(
        "DOCSER_INSTRUCTIONS",
        Kind::Text,
        Fallback::Empty,
        "What an agent of the role `docser` is told to be, in the place of the built-in text.",
        "role `docser` のエージェントに与える役割の説明。組み込みの文章の代わりに使います。",
    ),
    Setting::database(
        "DOCSER_VERIFICATION",
        Kind::List,
        Fallback::Empty,
        "The commands that verify a task of the role `docser` which names none; the words of each are separated by blanks, and no shell reads them.",
        "検証を指定しない role `docser` の task を検証するコマンド。語は空白で区切り、shell は通しません。",
    )
    .reaching_host(),
];
