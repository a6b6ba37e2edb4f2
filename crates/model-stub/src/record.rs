//! What was asked, kept for tests and for people. Keys are masked before they are kept.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use http::HeaderMap;
use serde_json::Value;

/// How many requests are kept, the latest.
const KEPT: usize = 1_000;
/// Headers whose value is a key.
const KEYS: [&str; 4] = ["authorization", "proxy-authorization", "x-api-key", "cookie"];

/// A request that was answered, or is being answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The headers, keys masked.
    pub headers: BTreeMap<String, String>,
    /// The body, where it was JSON.
    pub body: Option<Value>,
    /// The script that answered.
    pub script: Option<String>,
}

/// The requests so far.
#[derive(Debug, Default)]
pub(crate) struct Record(Mutex<Vec<Recorded>>);

impl Record {
    pub(crate) fn add(&self, request: Recorded) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(request);
    }

    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The headers as text, keys masked.
pub(crate) fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let shown = |name: &str, value: &http::HeaderValue| match value.to_str() {
        Ok(text) if KEYS.contains(&name) => masked(text),
        Ok(text) => text.to_owned(),
        Err(_) => String::new(),
    };
    headers.iter().map(|(name, value)| (name.to_string(), shown(name.as_str(), value))).collect()
}

/// The last four characters of a long key, for telling two apart.
fn masked(key: &str) -> String {
    let tail = key.len().checked_sub(4).filter(|_| key.len() >= 12 && key.is_ascii());
    let tail = tail.map(|at| key.split_at(at).1).unwrap_or_default();
    format!("***{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_masked_and_other_headers_are_not() {
        let mut given = HeaderMap::new();
        given.insert("x-api-key", "sk-ant-0123456789".parse().unwrap());
        given.insert("authorization", "Bearer x".parse().unwrap());
        given.insert("user-agent", "claude".parse().unwrap());
        let kept = headers(&given);
        assert_eq!(kept["x-api-key"], "***6789");
        assert_eq!(kept["authorization"], "***");
        assert_eq!(kept["user-agent"], "claude");
    }
}
