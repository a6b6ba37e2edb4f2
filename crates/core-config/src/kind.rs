//! What a setting's value may be: the types of the settings table and their checks.
//!
//! A value is given as a text (environment) or as JSON (database). Texts are never guessed: `1e5`, `007` and `true`
//! are texts until the table says otherwise. Nothing here knows which key is checked.

use std::net::SocketAddr;

use figment::value::Value;

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
    /// An absolute path.
    Path {
        /// Whether it may be empty.
        optional: bool,
    },
    /// The name of a program that is looked up in `PATH`, or its absolute path.
    Program,
    /// The name of a git branch, without `refs/heads/`; may be empty.
    Branch,
    /// An `http` or `https` URL without user name and password; may be empty.
    HttpUrl,
    /// An IP address of this machine alone, and a port.
    LoopbackAddress,
    /// A whole number.
    Integer {
        /// The least allowed value.
        min: u64,
        /// The greatest allowed value.
        max: u64,
    },
    /// One word of a closed set.
    Choice(&'static [&'static str]),
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
        matches!(self, Self::Secret | Self::SecretUrl)
    }

    /// The word for this kind in documents and in the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Secret | Self::SecretUrl => "secret",
            Self::Path { .. } => "path",
            Self::Program => "program",
            Self::Branch => "branch",
            Self::HttpUrl => "url",
            Self::LoopbackAddress => "address",
            Self::Integer { .. } => "integer",
            Self::Choice(_) => "choice",
            Self::List => "list",
            Self::PathList => "list of paths",
        }
    }

    /// What is allowed, for people.
    #[must_use]
    pub fn allowed(self) -> String {
        match self {
            Self::Text => "any text".to_owned(),
            Self::Secret => "a text on one line".to_owned(),
            Self::SecretUrl => "`postgres://user:password@host:port/database`".to_owned(),
            Self::Path { optional: true } => "an absolute path, or empty".to_owned(),
            Self::Path { optional: false } => "an absolute path".to_owned(),
            Self::Program => "the name of a program in `PATH`, or its absolute path".to_owned(),
            Self::Branch => "the name of a git branch without `refs/heads/`, or empty".to_owned(),
            Self::HttpUrl => {
                "an `http://` or `https://` URL without user name and password, or empty".to_owned()
            }
            Self::LoopbackAddress => {
                "a loopback address and a port, such as `127.0.0.1:4301` or `[::1]:4301`".to_owned()
            }
            Self::Integer { min, max } => format!("an integer from {min} to {max}"),
            Self::Choice(words) => words.join(", "),
            Self::List => "texts separated by commas".to_owned(),
            Self::PathList => "absolute paths separated by commas".to_owned(),
        }
    }

    /// Types a value, or says what is wrong with it.
    pub(crate) fn check(self, given: Given<'_>) -> Result<Value, Complaint> {
        match (self, given) {
            (Self::Integer { min, max }, _) => integer(given, min, max),
            (Self::List | Self::PathList, Given::Json(serde_json::Value::Array(items))) => {
                let texts = items.iter().map(|item| self.text_of(Given::Json(item)));
                self.list(texts.collect::<Result<_, _>>()?)
            }
            (Self::List | Self::PathList, _) => self.list(split_list(&self.text_of(given)?)),
            _ => self.text(&self.text_of(given)?),
        }
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
            Self::Branch => text.is_empty() || is_branch(text),
            Self::HttpUrl => text.is_empty() || is_plain_http_url(text)?,
            Self::LoopbackAddress => is_loopback_address(text)?,
            Self::Choice(words) => words.contains(&text),
            Self::Text
            | Self::Secret
            | Self::SecretUrl
            | Self::Integer { .. }
            | Self::List
            | Self::PathList => true,
        };
        if valid {
            Ok(Value::from(text))
        } else {
            Err(Complaint(format!("{} is not allowed", quoted(text))))
        }
    }

    fn list(self, items: Vec<String>) -> Result<Value, Complaint> {
        let relative = |item: &&String| self == Self::PathList && !item.starts_with('/');
        match items.iter().find(relative) {
            Some(item) => Err(Complaint(format!("{} is not an absolute path", quoted(item)))),
            None => Ok(Value::from(items)),
        }
    }
}

fn integer(given: Given<'_>, min: u64, max: u64) -> Result<Value, Complaint> {
    let number = match given {
        Given::Text(text) => digits(text)?,
        Given::Json(serde_json::Value::String(text)) => digits(text)?,
        Given::Json(json @ serde_json::Value::Number(number)) => number
            .as_u64()
            .ok_or_else(|| Complaint(format!("`{json}` is not an integer in range")))?,
        Given::Json(other) => return Err(wrong_type(other, "an integer")),
    };
    if (min..=max).contains(&number) {
        Ok(Value::from(number))
    } else {
        Err(Complaint(format!("`{number}` is out of range")))
    }
}

fn digits(text: &str) -> Result<u64, Complaint> {
    let only_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = only_digits.then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| Complaint(format!("{} is not an integer in range", quoted(text))))
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

fn is_program(text: &str) -> bool {
    text.starts_with('/') || !(text.is_empty() || text.starts_with('-') || text.contains('/'))
}

/// The rules of `git check-ref-format --branch`, and 200 bytes at most so that `.lock` fits behind a part of it.
fn is_branch(text: &str) -> bool {
    let forbidden = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    text.len() <= 200
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !matches!(text, "@" | "HEAD")
        && !["..", "@{"].iter().any(|pair| text.contains(pair))
        && !text.chars().any(forbidden)
        && !text.split('/').any(bad_part)
}

fn is_plain_http_url(text: &str) -> Result<bool, Complaint> {
    // The text may hold a password, so no complaint of this kind repeats it.
    let Ok(url) = url::Url::parse(text) else {
        return Err(Complaint("is not a URL".to_owned()));
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Complaint("is not an `http` or `https` URL".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Complaint("has a user name or a password in it".to_owned()));
    }
    Ok(true)
}

fn is_loopback_address(text: &str) -> Result<bool, Complaint> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        return Err(Complaint(format!("{} is not an IP address with a port", quoted(text))));
    };
    if !address.ip().is_loopback() {
        return Err(Complaint(format!("{} can be reached from other machines", quoted(text))));
    }
    Ok(true)
}

/// Splits at commas that are not inside parentheses, so that `Bash(git log:a,b),Edit` has two items.
fn split_list(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut depth = 0_u32;
    for character in text.chars() {
        depth = match character {
            '(' => depth.saturating_add(1),
            ')' => depth.saturating_sub(1),
            _ => depth,
        };
        match items.last_mut() {
            Some(item) if character != ',' || depth > 0 => item.push(character),
            _ => items.push(String::new()),
        }
    }
    items.iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

/// A given text in backticks, cut to 80 characters and on one line.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    format!("`{}{cut}`", shown.escape_debug())
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
    fn only_loopback_addresses_are_taken() {
        assert!(Kind::LoopbackAddress.check(Given::Text("127.0.0.1:4301")).is_ok());
        assert!(Kind::LoopbackAddress.check(Given::Text("[::1]:0")).is_ok());
        refuses(Kind::LoopbackAddress, "0.0.0.0:4301", "can be reached from other machines");
        refuses(Kind::LoopbackAddress, "4301", "is not an IP address");
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
