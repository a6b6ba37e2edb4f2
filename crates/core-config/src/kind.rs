//! What a setting's value may be: the types of the settings table and their checks.
//!
//! A value is given as a text (environment) or as JSON (database). Texts are never guessed: `1e5`, `007` and `true`
//! are texts until the table says otherwise. Nothing here knows which key is checked.

mod allowed;
mod container;
mod forms;
mod scalars;

use core_types::{
    credential::parse_host_tokens,
    provider::{is_model, is_provider_model},
    usage::parse_usd,
};
use figment::value::Value;

use self::{
    container::{is_engine, is_image, is_network},
    forms::{
        is_access_key, is_address, is_branch, is_host, is_plain_http_url, is_program, is_redis_url,
        split_list,
    },
    scalars::{boolean, integer, quoted},
};

/// Longest text of a setting, in bytes.
const TEXT_LIMIT: usize = 16 * 1024;

/// The type of a setting's value, with what it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text without control characters other than line breaks and tabs; may be empty.
    Text,
    /// A text that must not be shown; may be empty.
    Secret,
    /// A connection URL that may hold a password: not even its end is shown; may be empty.
    SecretUrl,
    /// The same, of a Redis.
    RedisUrl,
    /// An `http` or `https` URL that lets whoever knows it in, as those of webhooks do; may be empty.
    SecretHttpUrl,
    /// An absolute path.
    Path {
        /// Whether it may be empty.
        optional: bool,
    },
    /// The name of a program that is looked up in `PATH`, or its absolute path.
    Program,
    /// The name of a model; may be empty.
    Model {
        /// Whether it begins with its provider, as in `provider/model`.
        with_provider: bool,
    },
    /// The name of a git branch, without `refs/heads/`; may be empty.
    Branch,
    /// An `http` or `https` URL without user name and password; may be empty.
    HttpUrl,
    /// The name of an image of containers.
    Image,
    /// The name of a network of containers that is nobody else's.
    Network,
    /// The address of an engine of containers; may be empty.
    Engine,
    /// An IP address of this machine, and a port.
    Address,
    /// `true` or `false`, in these words.
    Boolean,
    /// A secret by which somebody may enter; may be empty.
    AccessKey,
    /// Secrets by which somebody may enter, separated by commas; blank ones count for nothing.
    AccessKeys,
    /// Names of hosts, separated by commas.
    HostList,
    /// Logins for hosts, separated by commas: not even their ends are shown; may be empty.
    HostTokens,
    /// A whole number.
    Integer {
        /// The least allowed value.
        min: u64,
        /// The greatest allowed value.
        max: u64,
    },
    /// An amount of US dollars, with at most six decimals.
    Usd,
    /// One word of a closed set.
    Choice(&'static [&'static str]),
    /// Words of a closed set, separated by commas.
    Words(&'static [&'static str]),
    /// Texts, separated by commas outside of parentheses.
    List,
    /// Absolute paths, separated by commas.
    PathList,
}

/// A value as somebody gave it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given<'a> {
    /// From the environment.
    Text(&'a str),
    /// From the database.
    Json(&'a serde_json::Value),
}

/// Why a value cannot be used. Says nothing of the value where that is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint(pub(crate) String);

impl Kind {
    /// Whether values of this kind must not be shown.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(
            self,
            Self::Secret
                | Self::SecretUrl
                | Self::RedisUrl
                | Self::SecretHttpUrl
                | Self::AccessKey
                | Self::AccessKeys
                | Self::HostTokens
        )
    }

    /// The word for this kind in documents and in the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Secret
            | Self::SecretUrl
            | Self::RedisUrl
            | Self::SecretHttpUrl
            | Self::AccessKey => "secret",
            Self::AccessKeys | Self::HostTokens => "list of secrets",
            Self::Boolean => "boolean",
            Self::HostList => "list of host names",
            Self::Path { .. } => "path",
            Self::Program => "program",
            Self::Model { .. } => "model",
            Self::Branch => "branch",
            Self::HttpUrl => "url",
            Self::Image => "image",
            Self::Network => "network",
            Self::Engine => "engine",
            Self::Address => "address",
            Self::Integer { .. } => "integer",
            Self::Usd => "amount",
            Self::Choice(_) => "choice",
            Self::Words(_) => "list of words",
            Self::List => "list",
            Self::PathList => "list of paths",
        }
    }

    /// Types a value, or says what is wrong with it.
    pub(crate) fn check(self, given: Given<'_>) -> Result<Value, Complaint> {
        match (self, given) {
            (Self::Integer { min, max }, _) => integer(given, min, max),
            (Self::Usd, Given::Json(serde_json::Value::Number(number))) => {
                self.text(&number.to_string())
            }
            (Self::Boolean, Given::Json(serde_json::Value::Bool(flag))) => Ok(Value::from(*flag)),
            (Self::Boolean, _) => boolean(&self.text_of(given)?),
            (list, Given::Json(serde_json::Value::Array(items))) if list.is_list() => {
                let texts = items.iter().map(|item| self.text_of(Given::Json(item)));
                self.list(texts.collect::<Result<_, _>>()?)
            }
            (list, _) if list.is_list() => self.list(split_list(&self.text_of(given)?)),
            _ => self.text(&self.text_of(given)?),
        }
    }

    const fn is_list(self) -> bool {
        matches!(
            self,
            Self::Words(_) | Self::List | Self::PathList | Self::HostList | Self::AccessKeys
        )
    }

    fn text_of(self, given: Given<'_>) -> Result<String, Complaint> {
        let text = match given {
            Given::Text(text) => text,
            Given::Json(serde_json::Value::String(text)) => text,
            Given::Json(other) => return Err(wrong_type(other, "a text")),
        };
        if text.len() > TEXT_LIMIT {
            return Err(Complaint(format!("is {} bytes long, limit {TEXT_LIMIT}", text.len())));
        }
        let breaks_line = |c: char| c.is_control() && !(self == Self::Text && "\n\t".contains(c));
        if text.chars().any(breaks_line) {
            return Err(Complaint("has a control character, such as a line break".to_owned()));
        }
        Ok(text.to_owned())
    }

    fn text(self, text: &str) -> Result<Value, Complaint> {
        let valid = match self {
            Self::Path { optional } => text.starts_with('/') || (optional && text.is_empty()),
            Self::Program => is_program(text),
            Self::Model { with_provider: false } => text.is_empty() || is_model(text),
            Self::Model { with_provider: true } => text.is_empty() || is_provider_model(text),
            Self::Branch => text.is_empty() || is_branch(text),
            Self::HttpUrl | Self::SecretHttpUrl => text.is_empty() || is_plain_http_url(text)?,
            Self::RedisUrl => text.is_empty() || is_redis_url(text)?,
            Self::Image => is_image(text)?,
            Self::Network => is_network(text)?,
            Self::Engine => text.is_empty() || is_engine(text)?,
            Self::Address => is_address(text)?,
            Self::AccessKey => text.is_empty() || is_access_key(text)?,
            Self::Usd => parse_usd(text).is_some(),
            Self::HostTokens => {
                parse_host_tokens(text).map(|_| true).map_err(|what| Complaint(what.to_owned()))?
            }
            Self::Choice(words) => words.contains(&text),
            Self::Text
            | Self::Secret
            | Self::SecretUrl
            | Self::Integer { .. }
            | Self::Boolean
            | Self::Words(_)
            | Self::List
            | Self::AccessKeys
            | Self::HostList
            | Self::PathList => true,
        };
        if valid {
            Ok(Value::from(text))
        } else {
            Err(Complaint(format!("{} is not allowed", quoted(text))))
        }
    }

    fn list(self, items: Vec<String>) -> Result<Value, Complaint> {
        for item in &items {
            match self {
                Self::PathList if !item.starts_with('/') => {
                    return Err(Complaint(format!("{} is not an absolute path", quoted(item))));
                }
                Self::HostList if !is_host(item) => {
                    return Err(Complaint(format!("{} is not the name of a host", quoted(item))));
                }
                Self::Words(words) if !words.contains(&item.as_str()) => {
                    return Err(Complaint(format!("{} is not one of the words", quoted(item))));
                }
                Self::AccessKeys => {
                    is_access_key(item)?;
                }
                _ => {}
            }
        }
        Ok(Value::from(items))
    }
}

fn wrong_type(json: &serde_json::Value, expected: &str) -> Complaint {
    let got = match json {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a text",
        serde_json::Value::Array(_) => "an array",
        serde_json::Value::Object(_) => "an object",
    };
    Complaint(format!("is {got}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn refuses(kind: Kind, text: &str, said: &str) {
        let complaint = kind.check(Given::Text(text)).unwrap_err();
        assert!(complaint.0.contains(said), "`{text}`: {complaint:?}");
    }

    #[test]
    fn texts_that_look_like_something_else_stay_texts() {
        for text in ["1e5", "007", "true", "[x", "{", "null", "\"quoted\"", " padded "] {
            assert_eq!(Kind::Secret.check(Given::Text(text)), Ok(Value::from(text)));
            assert_eq!(Kind::Text.check(Given::Text(text)), Ok(Value::from(text)));
        }
    }

    #[test]
    fn integers_take_digits_only() {
        let kind = Kind::Integer { min: 1, max: 10 };
        assert_eq!(kind.check(Given::Text("7")), Ok(Value::from(7_u64)));
        assert_eq!(kind.check(Given::Json(&json!(7))), Ok(Value::from(7_u64)));
        assert_eq!(kind.check(Given::Json(&json!("7"))), Ok(Value::from(7_u64)));
        for text in ["", " 7", "1e5", "-1", "+1", "7.0", "99999999999999999999"] {
            refuses(kind, text, "is not an integer");
        }
        refuses(kind, "11", "out of range");
        assert!(kind.check(Given::Json(&json!(true))).is_err());
        assert!(kind.check(Given::Json(&json!(-1))).is_err());
    }

    #[test]
    fn addresses_are_numbers_with_a_port() {
        for address in ["127.0.0.1:4301", "[::1]:0", "0.0.0.0:4301"] {
            assert!(Kind::Address.check(Given::Text(address)).is_ok(), "{address}");
        }
        refuses(Kind::Address, "4301", "is not an IP address");
        refuses(Kind::Address, "localhost:4301", "is not an IP address");
    }

    #[test]
    fn a_boolean_is_one_of_two_words() {
        assert_eq!(Kind::Boolean.check(Given::Text("true")), Ok(Value::from(true)));
        assert_eq!(Kind::Boolean.check(Given::Json(&json!(false))), Ok(Value::from(false)));
        assert_eq!(Kind::Boolean.check(Given::Json(&json!("false"))), Ok(Value::from(false)));
        for text in ["", "False", "TRUE", "0", "1", "no", " true"] {
            refuses(Kind::Boolean, text, "neither `true` nor `false`");
        }
        assert!(Kind::Boolean.check(Given::Json(&json!(0))).is_err());
    }

    #[test]
    fn keys_are_long_and_visible_and_blank_ones_count_for_nothing() {
        let two = Value::from(vec!["0123456789abcdef".to_owned(), "fedcba9876543210".to_owned()]);
        let given = " 0123456789abcdef,, fedcba9876543210 ,";
        assert_eq!(Kind::AccessKeys.check(Given::Text(given)), Ok(two));
        for blank in ["", " ", ",", " , ,"] {
            let none = Value::from(Vec::<String>::new());
            assert_eq!(Kind::AccessKeys.check(Given::Text(blank)), Ok(none));
        }
        assert_eq!(Kind::AccessKey.check(Given::Text("")), Ok(Value::from("")));
        for kind in [Kind::AccessKey, Kind::AccessKeys] {
            for bad in ["hunter2", "hunter2hunter2hunter2ä", "hunter2 hunter2 hunter2"] {
                let complaint = kind.check(Given::Text(bad)).unwrap_err();
                assert!(!complaint.0.contains("hunter2"), "{complaint:?}");
            }
        }
    }

    #[test]
    fn hosts_are_names_without_a_port() {
        assert!(Kind::HostList.check(Given::Text("tiger.example, 10.0.0.7,[::1]")).is_ok());
        for bad in ["tiger.example:80", "http://tiger.example", "a b", "*.example", "a..b"] {
            refuses(Kind::HostList, bad, "is not the name of a host");
        }
    }

    #[test]
    fn a_url_with_a_password_is_refused_without_showing_it() {
        let complaint =
            Kind::HttpUrl.check(Given::Text("https://me:hunter2@example.org")).unwrap_err();
        assert!(!complaint.0.contains("hunter2"));
        refuses(Kind::HttpUrl, "ftp://example.org", "is not an `http` or `https` URL");
        refuses(Kind::HttpUrl, "api.example.org", "is not a URL");
        assert!(Kind::HttpUrl.check(Given::Text("http://127.0.0.1:8080/v1")).is_ok());
    }

    #[test]
    fn amounts_of_money_are_decimal_and_never_guessed() {
        for (given, kept) in [(json!(2.5), "2.5"), (json!(3), "3"), (json!("0.000001"), "0.000001")]
        {
            assert_eq!(Kind::Usd.check(Given::Json(&given)), Ok(Value::from(kept)));
        }
        for text in ["", "-1", "1e3", "1,5", ".5", "5.", "0.0000001", "1000001", "$3", " 3"] {
            assert!(Kind::Usd.check(Given::Text(text)).is_err(), "{text}");
        }
        assert!(Kind::Usd.check(Given::Json(&json!(true))).is_err());
    }

    #[test]
    fn lists_split_outside_of_parentheses() {
        let expected = Value::from(vec!["Bash(git log:a,b)".to_owned(), "Edit".to_owned()]);
        assert_eq!(Kind::List.check(Given::Text("Bash(git log:a,b), Edit,")), Ok(expected.clone()));
        let json = json!(["Bash(git log:a,b)", "Edit"]);
        assert_eq!(Kind::List.check(Given::Json(&json)), Ok(expected));
        refuses(Kind::PathList, "/srv,here", "`here` is not an absolute path");
    }

    #[test]
    fn programs_are_names_or_absolute_paths() {
        assert!(Kind::Program.check(Given::Text("claude")).is_ok());
        assert!(Kind::Program.check(Given::Text("/opt/claude")).is_ok());
        for text in ["", "-x", "bin/claude"] {
            refuses(Kind::Program, text, "is not allowed");
        }
    }

    #[test]
    fn a_secret_on_two_lines_is_refused_without_showing_it() {
        let complaint = Kind::Secret.check(Given::Text("sk-hunter2\n")).unwrap_err();
        assert!(!complaint.0.contains("hunter2"));
    }
}
