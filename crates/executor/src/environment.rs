//! What of our own environment an agent may see: a list of names, everything else stays behind (X3).
//!
//! Nothing is read here from a repository; its `.env` has no way in.

use std::{collections::BTreeMap, ffi::OsStr};

/// The variables an agent may see, besides `LC_*`.
///
/// Proxies and certificates are there because the agent's CLI reaches its provider through them.
pub const ALLOWED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Where programs are looked for when nothing else is told.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Cuts an environment down to what an agent may see.
///
/// Values that are no UTF-8 are left out. `PATH` keeps its absolute directories only, since a relative one
/// would let a repository choose which `git` or `claude` runs. `TERM` is always `dumb`.
#[must_use]
pub fn allow_list<N: AsRef<OsStr>, V: AsRef<OsStr>>(
    parent: impl IntoIterator<Item = (N, V)>,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = parent
        .into_iter()
        .filter_map(|(name, value)| {
            Some((name.as_ref().to_str()?.to_owned(), value.as_ref().to_str()?.to_owned()))
        })
        .filter(|(name, value)| is_allowed(name) && !value.is_empty())
        .collect();
    let path = env.get("PATH").map_or_else(|| DEFAULT_PATH.to_owned(), |path| absolute_only(path));
    env.insert("PATH".to_owned(), path);
    env.insert("TERM".to_owned(), "dumb".to_owned());
    env
}

fn is_allowed(name: &str) -> bool {
    ALLOWED.contains(&name) || name.starts_with("LC_")
}

fn absolute_only(path: &str) -> String {
    let kept: Vec<&str> = path.split(':').filter(|dir| dir.starts_with('/')).collect();
    if kept.is_empty() { DEFAULT_PATH.to_owned() } else { kept.join(":") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        allow_list(pairs.iter().copied())
    }

    #[test]
    fn only_listed_names_pass() {
        let env = cut(&[
            ("PATH", "/usr/bin"),
            ("HOME", "/home/ann"),
            ("LC_ALL", "C.UTF-8"),
            ("https_proxy", "http://proxy:3128"),
            ("TERM", "xterm-256color"),
            ("DATABASE_URL", "postgres://u:p@h/d"),
            ("ANTHROPIC_API_KEY", "sk-1"),
            ("ANTHROPIC_BASE_URL", "http://elsewhere"),
            ("CLAUDE_CONFIG_DIR", "/elsewhere"),
            ("GITHUB_TOKEN", "t"),
            ("LD_PRELOAD", "/evil.so"),
            ("NODE_OPTIONS", "--require=/evil.js"),
            ("IS_SANDBOX", "1"),
            ("path", "/evil"),
        ]);
        let names: Vec<&str> = env.keys().map(String::as_str).collect();
        assert_eq!(names, ["HOME", "LC_ALL", "PATH", "TERM", "https_proxy"]);
        assert_eq!(env["TERM"], "dumb");
    }

    #[test]
    fn relative_and_empty_path_entries_are_dropped() {
        assert_eq!(cut(&[("PATH", ".:/usr/bin::bin:/bin:")])["PATH"], "/usr/bin:/bin");
        assert_eq!(cut(&[("PATH", ".")])["PATH"], DEFAULT_PATH);
        assert_eq!(cut(&[])["PATH"], DEFAULT_PATH);
    }
}
