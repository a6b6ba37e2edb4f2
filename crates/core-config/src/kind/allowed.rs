//! What each kind of setting allows, in words for people.

use core_types::{
    auth::Language,
    provider::{MODEL_ALLOWED, PROVIDER_MODEL_ALLOWED},
};

use super::{Kind, forms::ACCESS_KEY_LENGTH};

impl Kind {
    /// What is allowed, for readers of a language.
    #[must_use]
    pub fn allowed_in(self, language: Language) -> String {
        match language {
            Language::English => self.allowed(),
            Language::Japanese => self.allowed_in_japanese(),
        }
    }

    /// What is allowed, in English.
    #[must_use]
    pub fn allowed(self) -> String {
        match self {
            Self::Text => "any text".to_owned(),
            Self::Secret => "a text on one line".to_owned(),
            Self::SecretUrl => "`postgres://user:password@host:port/database`".to_owned(),
            Self::RedisUrl => "`redis://user:password@host:port/0`, also `rediss`, `redis-cluster`, `redis-sentinel`, `redis+unix`; or empty".to_owned(),
            Self::Path { optional: true } => "an absolute path, or empty".to_owned(),
            Self::Path { optional: false } => "an absolute path".to_owned(),
            Self::Program => "the name of a program in `PATH`, or its absolute path".to_owned(),
            Self::Model { with_provider: false } => format!("{MODEL_ALLOWED}; or empty"),
            Self::Model { with_provider: true } => format!("{PROVIDER_MODEL_ALLOWED}; or empty"),
            Self::Branch => "the name of a git branch without `refs/heads/`, or empty".to_owned(),
            Self::HttpUrl | Self::SecretHttpUrl => {
                "an `http://` or `https://` URL without user name and password, or empty".to_owned()
            }
            Self::Image => {
                "the name of an image in lower case, with a tag or a digest, such as `opentiger/worker:latest`".to_owned()
            }
            Self::Network => {
                "the name of a network of the engine; not `host`, not another container's".to_owned()
            }
            Self::Engine => "`unix:///path` or `tcp://host:port`, or empty".to_owned(),
            Self::Address => {
                "an IP address and a port, such as `127.0.0.1:4301` or `[::1]:4301`".to_owned()
            }
            Self::Boolean => "true, false".to_owned(),
            Self::AccessKey => {
                format!("at least {ACCESS_KEY_LENGTH} visible ASCII characters, or empty")
            }
            Self::AccessKeys => format!(
                "keys separated by commas, each of at least {ACCESS_KEY_LENGTH} visible ASCII characters, or empty"
            ),
            Self::HostList => {
                "names or IP addresses of hosts, without port, separated by commas".to_owned()
            }
            Self::HostTokens => {
                "`host=token` or `host=user:token`, separated by commas, or empty".to_owned()
            }
            Self::Integer { min, max } => format!("an integer from {min} to {max}"),
            Self::Usd => {
                "US dollars, such as `2.50`, up to 1000000, with at most six decimals".to_owned()
            }
            Self::Choice(words) => words.join(", "),
            Self::Words(words) => {
                format!("any of these, separated by commas: {}", words.join(", "))
            }
            Self::List => "texts separated by commas".to_owned(),
            Self::PathList => "absolute paths separated by commas".to_owned(),
        }
    }

    fn allowed_in_japanese(self) -> String {
        match self {
            Self::Text => "任意の文字列".to_owned(),
            Self::Secret => "1行の文字列".to_owned(),
            Self::RedisUrl => "`redis://user:password@host:port/0`。`rediss`、`redis-cluster`、`redis-sentinel`、`redis+unix` も可。または空".to_owned(),
            Self::Path { optional: true } => "絶対パス、または空".to_owned(),
            Self::Path { optional: false } => "絶対パス".to_owned(),
            Self::Program => "`PATH` にあるプログラムの名前、または絶対パス".to_owned(),
            Self::Model { with_provider: false } => {
                "英数字と `-._:/@[]`(先頭の `-` は不可)、または空".to_owned()
            }
            Self::Model { with_provider: true } => {
                "英数字と `-._:/@[]` からなる `provider/model`(先頭の `-` は不可)、または空".to_owned()
            }
            Self::Branch => "git の branch の名前(`refs/heads/` なし)、または空".to_owned(),
            Self::HttpUrl | Self::SecretHttpUrl => {
                "ユーザー名とパスワードを含まない `http://` か `https://` の URL、または空".to_owned()
            }
            Self::Image => {
                "tag か digest の付いた小文字の image 名(例: `opentiger/worker:latest`)".to_owned()
            }
            Self::Network => {
                "engine の network の名前。`host` とほかの container の network は不可".to_owned()
            }
            Self::Engine => "`unix:///path` か `tcp://host:port`、または空".to_owned(),
            Self::Address => {
                "IP アドレスとポート(例: `127.0.0.1:4301`、`[::1]:4301`)".to_owned()
            }
            Self::AccessKey => {
                format!("表示できる ASCII 文字で{ACCESS_KEY_LENGTH}文字以上、または空")
            }
            Self::AccessKeys => format!(
                "コンマ区切りの key。それぞれ表示できる ASCII 文字で{ACCESS_KEY_LENGTH}文字以上、または空"
            ),
            Self::HostList => {
                "コンマ区切りの host の名前か IP アドレス(ポートなし)".to_owned()
            }
            Self::HostTokens => {
                "コンマ区切りの `host=token` か `host=user:token`、または空".to_owned()
            }
            Self::Integer { min, max } => format!("{min} から {max} までの整数"),
            Self::Usd => {
                "`2.50` のような米ドルの額。1000000 以下、小数は6桁まで".to_owned()
            }
            Self::Words(words) => {
                format!("次の語をコンマで区切ったもの: {}", words.join(", "))
            }
            Self::List => "コンマ区切りの文字列".to_owned(),
            Self::PathList => "コンマ区切りの絶対パス".to_owned(),
            // Words that are typed as they are.
            Self::SecretUrl | Self::Boolean | Self::Choice(_) => self.allowed(),
        }
    }
}
