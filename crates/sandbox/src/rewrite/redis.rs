//! Addresses of Redis, split as `fred` splits them: one server, a cluster or sentinels with further `node`s.
//!
//! What a cluster or a sentinel says of its members later is not seen here: members that announce loopback to their
//! clients are out of a sandbox's reach.

use std::{collections::BTreeSet, ops::Range};

use core_types::secret::Secret;

use super::{
    HOST_NAME, RewriteError, Rewritten, Service, Target,
    loopback::loopback,
    spans::{Decoded, replace},
};

/// The address as a sandbox gets it.
///
/// # Errors
/// See [`RewriteError`].
pub fn rewrite(text: &str) -> Result<Rewritten, RewriteError> {
    let (scheme, rest) =
        text.split_once("://").ok_or_else(|| unreadable("it does not begin with `redis://`"))?;
    if scheme.ends_with("+unix") || scheme.ends_with("-unix") || scheme == "unix" {
        return Err(RewriteError::UnixSocket { service: Service::Redis });
    }
    let default_port = if scheme.ends_with("-sentinel") { 26379 } else { 6379 };
    let from = text.len() - rest.len();
    let end = from + rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let user = text.get(from..end).unwrap_or_default().rfind('@');
    let start = user.map_or(from, |index| from + index + 1);
    let mut hosts = nodes(text, end);
    hosts.push(Decoded::new(plain(text, start..end), start..end));
    let mut edits = Vec::new();
    let mut targets = BTreeSet::new();
    for host in &hosts {
        let meaning = host.piece().meaning;
        let (name, bracketed, port) = split(&meaning)?;
        let Some(address) = loopback(name) else { continue };
        let port = port.map_or(Ok(default_port), |port| {
            port.parse().map_err(|_| unreadable("a port is no number"))
        })?;
        targets.insert(Target { service: Service::Redis, address, port });
        let length = name.len() + if bracketed { 2 } else { 0 };
        edits.push((host.place_of_first(length), HOST_NAME.to_owned()));
    }
    Ok(Rewritten { text: Secret::new(replace(text, edits)), targets })
}

fn unreadable(what: &'static str) -> RewriteError {
    RewriteError::Unreadable { service: Service::Redis, what }
}

fn plain(text: &str, at: Range<usize>) -> Vec<(u8, Range<usize>)> {
    let bytes = text.as_bytes().get(at.clone()).unwrap_or_default();
    bytes.iter().zip(at).map(|(byte, index)| (*byte, index..index + 1)).collect()
}

/// The name of a host without brackets, whether it had some, and its port.
fn split(text: &str) -> Result<(&str, bool, Option<&str>), RewriteError> {
    if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) =
            inner.split_once(']').ok_or_else(|| unreadable("a bracket is not closed"))?;
        return Ok((host, true, rest.strip_prefix(':').filter(|port| !port.is_empty())));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => Ok((host, false, Some(port).filter(|port| !port.is_empty()))),
        None => Ok((text, false, None)),
    }
}

/// The values of the parameter `node`, up to a fragment.
fn nodes(text: &str, from: usize) -> Vec<Decoded> {
    let rest = text.get(from..).unwrap_or_default();
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let Some((before, query)) = rest.split_once('?') else { return Vec::new() };
    let mut start = from + before.len() + 1;
    let mut found = Vec::new();
    for pair in query.split('&') {
        let end = start + pair.len();
        if let Some(equals) = pair.find('=').map(|index| start + index)
            && Decoded::percent(text, start..equals).piece().meaning == "node"
        {
            found.push(Decoded::percent(text, equals + 1..end));
        }
        start = end + 1;
    }
    found
}
