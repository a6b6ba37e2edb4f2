//! Addresses of repositories behind a network: what is allowed, checked in this one place, before one comes near git.
//!
//! Taken apart by hand: a general URL parser repairs what it reads (backslashes, line breaks, numbers for hosts). What git
//! is given is put together again from the parts that were checked, so that both mean the same by it: git does not know
//! `HTTPS://`, and asks for the login of `host:443` as for one of another host.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use sha2::{Digest as _, Sha256};

/// Longest address, in bytes.
pub const URL_BYTES: usize = 2048;
/// The forms that are allowed, for people.
pub const URL_ALLOWED: &str =
    "`https://host/path`, `ssh://user@host/path` or `user@host:path`, without a password or token";

/// Who may be reached how, beside the encrypted ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UrlRules {
    /// Whether `http://` is fine where the host is this machine.
    pub http_loopback: bool,
}

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Https,
    Ssh,
    /// Unencrypted, to this machine alone.
    HttpLoopback,
}

/// How an address is written.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// `scheme://host/path`.
    WithScheme(Scheme),
    /// `host:path`, over ssh.
    Scp,
}

/// An address that was checked. Holds no secret, so it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryUrl {
    text: String,
    pub(crate) scheme: Scheme,
    /// In lower case, with the port where one is given: as git asks for credentials.
    pub(crate) authority: String,
    key: String,
}

/// Why an address is not taken. Repeats nothing of it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the url {what}")]
pub struct InvalidUrl {
    /// What is wrong with it; a phrase that follows "the url" or the field's name.
    pub what: &'static str,
    /// What to do about it.
    pub hint: &'static str,
}

const FORMS: &str = "use an `https://`, `ssh://` or `user@host:path` address";
const NO_SECRETS: &str = "leave user name and token out: openTiger uses this host's git login, or the setting GIT_TOKENS";

const fn refuse<T>(what: &'static str, hint: &'static str) -> Result<T, InvalidUrl> {
    Err(InvalidUrl { what, hint })
}

impl RepositoryUrl {
    /// The host in lower case, with the port where one is given that is not the usual one.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Checks an address.
    ///
    /// # Errors
    /// [`InvalidUrl`] says what is wrong with it.
    pub fn parse(text: &str, rules: UrlRules) -> Result<Self, InvalidUrl> {
        check_characters(text)?;
        match text.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => {
                Self::with_scheme(&scheme.to_ascii_lowercase(), rest, rules)
            }
            Some(_) | None => Self::scp(text),
        }
    }

    fn with_scheme(scheme: &str, rest: &str, rules: UrlRules) -> Result<Self, InvalidUrl> {
        let scheme = match scheme {
            "https" => Scheme::Https,
            "ssh" => Scheme::Ssh,
            "http" => Scheme::HttpLoopback,
            "file" => return refuse("names a file", "use the mode `local` with its `path`"),
            _ => return refuse("uses a protocol that is not allowed", FORMS),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((user, host)) if scheme == Scheme::Ssh => (Some(check_user(user)?), host),
            Some(_) => return refuse("has a user name, password or token in it", NO_SECRETS),
        };
        let (host, port) = split_port(host)?;
        let host = check_host(host)?;
        if scheme == Scheme::HttpLoopback && !(rules.http_loopback && is_loopback(&host)) {
            return refuse("is not encrypted (`http`)", "use `https://` or `ssh://`");
        }
        let path = check_path(path)?;
        let port = port.filter(|port| *port != scheme.usual_port());
        Ok(Self::made(Form::WithScheme(scheme), user, &host, port, &format!("/{path}")))
    }

    /// The form of `scp`: `user@host:path`, relative to the user's home unless it starts with `/`.
    fn scp(text: &str) -> Result<Self, InvalidUrl> {
        let bracket = text.find('[').map_or(0, |open| {
            text.get(open..).and_then(|rest| rest.find(']')).map_or(0, |close| open + close)
        });
        let colon = text.get(bracket..).and_then(|rest| rest.find(':')).map(|at| bracket + at);
        let slash = text.find('/').unwrap_or(text.len());
        let Some(colon) = colon.filter(|colon| *colon < slash) else {
            return refuse("is no address of another host", FORMS);
        };
        let (authority, path) = (text.get(..colon), text.get(colon + 1..));
        let (authority, path) = (authority.unwrap_or_default(), path.unwrap_or_default());
        if path.starts_with(':') {
            return refuse("names a helper program (`::`)", FORMS);
        }
        if text.contains("://") {
            return refuse("uses a protocol that is not allowed", FORMS);
        }
        if path.split('/').next().is_some_and(|first| first.contains('@')) {
            return refuse("has a password in it", NO_SECRETS);
        }
        let (user, host) = match authority.split_once('@') {
            None => (None, authority),
            Some((user, host)) => (Some(check_user(user)?), host),
        };
        let host = check_host(host)?;
        check_path(path)?;
        Ok(Self::made(Form::Scp, user, &host, None, path))
    }

    fn made(form: Form, user: Option<&str>, host: &str, port: Option<u16>, path: &str) -> Self {
        let authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let path = path.trim_end_matches('/');
        let (scheme, text) = match form {
            Form::Scp => (Scheme::Ssh, format!("{user}{authority}:{path}")),
            Form::WithScheme(scheme) => {
                (scheme, format!("{}://{user}{authority}{path}", scheme.protocol()))
            }
        };
        let key = format!("{scheme:?} {user}{authority} {path}");
        Self { text, scheme, authority, key }
    }

    /// The address as git gets it, and as people may see it: in one spelling of several.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A name for it that is the same for spellings that mean the same, and fit for a directory.
    #[must_use]
    pub fn cache_key(&self) -> String {
        let digest = Sha256::digest(self.key.as_bytes());
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Scheme {
    /// The one protocol that git may speak in a call.
    pub(crate) const fn protocol(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::HttpLoopback => "http",
        }
    }

    const fn usual_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Ssh => 22,
            Self::HttpLoopback => 80,
        }
    }
}

fn check_characters(text: &str) -> Result<(), InvalidUrl> {
    if text.is_empty() {
        return refuse("is empty", FORMS);
    }
    if text.len() > URL_BYTES {
        return refuse("is longer than 2048 bytes", FORMS);
    }
    if text.starts_with('-') {
        return refuse("starts with `-`", FORMS);
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refuse("has a space or a control character", "write a space as `%20`");
    }
    if text.contains(['?', '#']) {
        return refuse("has a query or a fragment (`?`, `#`)", "leave it out");
    }
    if text.starts_with(['/', '.', '~']) {
        return refuse("is a path", "use the mode `local` with its `path`");
    }
    Ok(())
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte))
}

/// A name to log in with by ssh. Whatever follows a colon would be a password.
fn check_user(user: &str) -> Result<&str, InvalidUrl> {
    if user.contains([':', '@']) {
        return refuse("has a password in it", NO_SECRETS);
    }
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if user.is_empty() || user.starts_with('-') || user.len() > 64 || !user.bytes().all(fine) {
        return refuse("has a user name that is not allowed", "use letters, digits, `.`, `_`, `-`");
    }
    Ok(user)
}

fn split_port(host: &str) -> Result<(&str, Option<u16>), InvalidUrl> {
    let colon = host.rfind(':').filter(|colon| host.rfind(']').is_none_or(|end| end < *colon));
    let Some(colon) = colon else {
        return Ok((host, None));
    };
    let (name, port) = host.split_at(colon);
    let digits = port.get(1..).unwrap_or_default();
    match digits.parse() {
        Ok(port) if port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok((name, Some(port)))
        }
        Ok(_) | Err(_) => refuse("has a port that is no number from 1 to 65535", "name a port"),
    }
}

/// A name or address of a host, in lower case.
fn check_host(host: &str) -> Result<String, InvalidUrl> {
    const HINT: &str = "name the host by its full name or its address";
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Ok(format!("[{address}]")),
            Err(_) => refuse("has brackets without an IPv6 address", HINT),
        };
    }
    let label_is_bad = |label: &str| {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        label.is_empty()
            || label.len() > 63
            || label.starts_with('-')
            || label.ends_with('-')
            || !label.bytes().all(fine)
    };
    if host.is_empty() || host.len() > 253 || host.split('.').any(label_is_bad) {
        return refuse("has no host name that is allowed", HINT);
    }
    // `2130706433` and `0x7f.1` are addresses too, for some that resolve names.
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if number && host.parse::<Ipv4Addr>().is_err() {
        return refuse("has a number for its host", HINT);
    }
    Ok(host.to_ascii_lowercase())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host == "[::1]"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

fn check_path(path: &str) -> Result<&str, InvalidUrl> {
    const HINT: &str = "name the repository's path on its host";
    if path.trim_matches('/').is_empty() {
        return refuse("has no path", HINT);
    }
    if path.starts_with('-') {
        return refuse("has a path that starts with `-`", HINT);
    }
    if path.split('/').any(|part| part == "..") {
        return refuse("has `..` in its path", HINT);
    }
    let fine = |c: char| c.is_alphanumeric() || "-._~/+@%,=:()".contains(c);
    if !path.chars().all(fine) {
        return refuse(
            "has a character in its path that is not allowed",
            "write it as `%` and its code",
        );
    }
    check_escapes(path)
}

/// What `%` stands for is no control character: git hands paths on to helpers line by line.
fn check_escapes(path: &str) -> Result<&str, InvalidUrl> {
    for part in path.split('%').skip(1) {
        let code = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if code.is_none_or(|code| code < 0x20 || code == 0x7f) {
            return refuse("has a `%` that stands for no character", "write `%25` for a `%`");
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
