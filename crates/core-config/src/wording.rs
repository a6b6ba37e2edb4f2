//! What people read where the API has words: units, moments, sources and groups, in each language.

use core_types::auth::Language;

use crate::{
    fault::Source,
    groups::Group,
    table::{TakesEffect, Unit},
};

const fn pick(language: Language, english: &'static str, japanese: &'static str) -> &'static str {
    match language {
        Language::English => english,
        Language::Japanese => japanese,
    }
}

impl Unit {
    /// The unit, for readers of a language.
    #[must_use]
    pub const fn told(self, language: Language) -> &'static str {
        let japanese = match self {
            Self::Attempts | Self::Retries => "回",
            Self::Bytes => "バイト",
            Self::Days => "日",
            Self::Files => "個",
            Self::Milliseconds => "ミリ秒",
            Self::Processes => "プロセス",
            Self::RequestsPerMinute => "リクエスト/分",
            Self::Runs => "run",
            Self::Seconds => "秒",
            Self::ThousandthsOfACore => "1000分の1コア",
            Self::Tokens => "token",
            Self::Turns => "turn",
            Self::UsDollars => "米ドル",
        };
        pick(language, self.as_str(), japanese)
    }
}

impl TakesEffect {
    /// When a change is used, for readers of a language.
    #[must_use]
    pub const fn told(self, language: Language) -> &'static str {
        match self {
            Self::Restart => pick(language, "after a restart", "再起動の後"),
            Self::NextClaim => pick(language, "with the next claim", "次の claim から"),
            Self::NextRequest => pick(language, "with the next request", "次のリクエストから"),
            Self::AtOnce => pick(language, "at once", "すぐに"),
        }
    }
}

impl Source {
    /// Where a value comes from, for readers of a language.
    #[must_use]
    pub const fn told(self, language: Language) -> &'static str {
        let japanese = match self {
            Self::Default => "既定値",
            Self::Database => "データベース",
            Self::Environment => "環境変数",
        };
        pick(language, self.as_str(), japanese)
    }
}

impl Group {
    /// What the group is called, for readers of a language.
    #[must_use]
    pub const fn told(self, language: Language) -> &'static str {
        let japanese = match self {
            Self::Access => "アクセス",
            Self::Storage => "データと log",
            Self::Execution => "実行",
            Self::ClaudeCode => "Claude Code",
            Self::Opencode => "OpenCode",
            Self::Sandbox => "sandbox",
            Self::Tasks => "タスク",
            Self::Repositories => "リポジトリ",
            Self::Other => "その他",
        };
        pick(language, self.as_str(), japanese)
    }
}
