//! The forms that texts of some kinds must have: programs, branches, URLs, addresses, keys, hosts.

use std::net::{IpAddr, SocketAddr};

use super::{Complaint, scalars::quoted};

/// The least length of a key or token by which somebody may enter: too many to try, however they were chosen.
pub(super) const ACCESS_KEY_LENGTH: usize = 16;

pub(super) fn is_program(text: &str) -> bool {
    text.starts_with('/') || !(text.is_empty() || text.starts_with('-') || text.contains('/'))
}

/// The rules of `git check-ref-format --branch`, and 200 bytes at most so that `.lock` fits behind a part of it.
pub(super) fn is_branch(text: &str) -> bool {
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

pub(super) fn is_plain_http_url(text: &str) -> Result<bool, Complaint> {
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

/// The forms that the client takes, with and without encryption.
const REDIS_SCHEMES: &[&str] = &[
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
    "redis+unix",
    "valkey",
    "valkeys",
    "valkey-cluster",
    "valkeys-cluster",
    "valkey-sentinel",
    "valkeys-sentinel",
    "valkey+unix",
];

/// No complaint of this kind repeats the text: it may hold a password.
pub(super) fn is_redis_url(text: &str) -> Result<bool, Complaint> {
    let complain = |what: &str| Err(Complaint(what.to_owned()));
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let Some(scheme) = scheme.filter(|scheme| REDIS_SCHEMES.contains(scheme)) else {
        return complain("does not begin with `redis://` or a form like it");
    };
    let Ok(url) = url::Url::parse(text) else {
        return complain("is not a URL");
    };
    if !scheme.ends_with("+unix") && !url.has_host() {
        return complain("names no host");
    }
    if scheme.ends_with("-sentinel")
        && !url.query_pairs().any(|(name, _)| name == "sentinelServiceName")
    {
        return complain("names no `sentinelServiceName`");
    }
    Ok(true)
}

pub(super) fn is_address(text: &str) -> Result<bool, Complaint> {
    match text.parse::<SocketAddr>() {
        Ok(_) => Ok(true),
        Err(_) => Err(Complaint(format!("{} is not an IP address with a port", quoted(text)))),
    }
}

/// A key travels in a header of a request, and must be too long to be guessed. No complaint repeats it.
pub(super) fn is_access_key(text: &str) -> Result<bool, Complaint> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Complaint("has a character that is not visible ASCII".to_owned()));
    }
    if text.len() < ACCESS_KEY_LENGTH {
        return Err(Complaint(format!("has a key of fewer than {ACCESS_KEY_LENGTH} characters")));
    }
    Ok(true)
}

/// A DNS name or an IP address, as it stands in the header `Host` but for the port.
pub(super) fn is_host(text: &str) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    bare.parse::<IpAddr>().is_ok() || text.split('.').all(label)
}

/// Splits at commas that are not inside parentheses, so that `Bash(git log:a,b),Edit` has two items.
pub(super) fn split_list(text: &str) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_url_is_told_by_its_form_and_never_shown() {
        for url in ["redis://:pw@127.0.0.1:6379/0", "redis+unix:///run/redis.sock"] {
            assert_eq!(is_redis_url(url), Ok(true), "{url}");
        }
        for url in ["127.0.0.1:6379", "http://:hunter2@host", "redis://:hunter2@h1:1,h2:2"] {
            let complaint = is_redis_url(url).unwrap_err();
            assert!(!complaint.0.contains("hunter2"), "{complaint:?}");
        }
        let sentinel = is_redis_url("redis-sentinel://h:1").unwrap_err();
        assert!(sentinel.0.contains("sentinelServiceName"), "{sentinel:?}");
    }
}
