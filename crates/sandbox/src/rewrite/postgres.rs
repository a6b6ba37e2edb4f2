//! Addresses of Postgres, split as `tokio-postgres` splits them: URLs with one host or several, and key/value texts.
//!
//! Hosts pair with ports by their place in the list; one port alone is that of all hosts. A `hostaddr` is where a client
//! connects, and the `host` beside it is only a name for certificates then.
//!
//! In a URL everything before the first `@` is user and password, whatever is in it, and parameters follow the first `?`
//! behind the hosts; a `#` means nothing.

use std::{collections::BTreeSet, net::IpAddr, ops::Range};

use core_types::secret::Secret;

use super::{
    HOST_NAME, RewriteError, Rewritten, Service, Target,
    loopback::loopback,
    spans::{Decoded, Piece, replace},
};

const DEFAULT_PORT: u16 = 5432;
const PREFIXES: &[&str] = &["postgres://", "postgresql://"];

/// What a text says of where to connect, and as whom.
#[derive(Debug, Default)]
struct Places {
    hosts: Vec<Piece>,
    host_addresses: Vec<Piece>,
    ports: Vec<u16>,
    names: Names,
    /// What of the text has to stay where the login is another one, in its order.
    without_login: Vec<Range<usize>>,
}

/// Whom an address connects as, and to what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The user.
    pub user: Option<String>,
    /// The database; without one the server takes the user's name for it.
    pub database: Option<String>,
}

/// The same database for another login: user and password are its own, and nothing else changes; a database that only the
/// owner's name says is named. Both have to be made of letters, digits and `_`.
///
/// # Errors
/// [`RewriteError::Unreadable`], where the driver would not read the text either, or nobody could tell what of it is the
/// password.
pub fn lend(text: &str, name: &str, password: &Secret) -> Result<Secret, RewriteError> {
    let places = read(text)?;
    let password = password.expose();
    let kept = places.without_login.iter().filter_map(|at| text.get(at.clone()));
    let Names { user, database } = &places.names;
    // The driver would take the other login's name for it.
    let implied = user.as_ref().filter(|_| database.is_none());
    let lent = match prefix(text) {
        Some(prefix) => {
            let implied = implied.map(|user| format!("dbname={}", percent(user)));
            let kept = in_query(kept.chain(implied.as_deref()));
            format!("{prefix}{name}:{password}@{kept}")
        }
        None => {
            let implied = implied.map(|user| format!("dbname='{}'", quoted(user)));
            let pairs: String =
                kept.chain(implied.as_deref()).map(|pair| format!(" {pair}")).collect();
            format!("user={name} password={password}{pairs}")
        }
    };
    Ok(Secret::new(lent))
}

/// Whom an address connects as, and to what.
///
/// # Errors
/// [`RewriteError::Unreadable`].
pub fn names(text: &str) -> Result<Names, RewriteError> {
    Ok(read(text)?.names)
}

/// A value of a URL's parameter.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// What stands between the quotes of a pair's value.
fn quoted(text: &str) -> String {
    text.replace('\\', r"\\").replace('\'', r"\'")
}

/// Hosts and path, then the parameters that are kept.
fn in_query<'a>(mut kept: impl Iterator<Item = &'a str>) -> String {
    let mut text = kept.next().unwrap_or_default().to_owned();
    for (index, parameter) in kept.enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        text.push_str(parameter);
    }
    text
}

fn prefix(text: &str) -> Option<&'static str> {
    PREFIXES.iter().copied().find(|prefix| text.starts_with(prefix))
}

fn read(text: &str) -> Result<Places, RewriteError> {
    let places = match prefix(text) {
        Some(prefix) => in_url(text, prefix.len())?,
        None => in_pairs(text)?,
    };
    // No name of a host has one. It may be of a password that the driver cuts short.
    let is_torn = |host: &Piece| host.meaning.contains('@') && !is_socket(&host.meaning);
    if places.hosts.iter().any(is_torn) {
        return Err(unreadable("a host has an `@`"));
    }
    Ok(places)
}

/// The address as a sandbox gets it. `gateway` is the number of the host in a sandbox's network, where it has one.
///
/// # Errors
/// See [`RewriteError`].
pub fn rewrite(text: &str, gateway: Option<IpAddr>) -> Result<Rewritten, RewriteError> {
    let places = read(text)?;
    let mut edits = Vec::new();
    let mut targets = BTreeSet::new();
    let count = places.hosts.len().max(places.host_addresses.len()).max(1);
    for index in 0..count {
        let host = places.hosts.get(index);
        let number = places.host_addresses.get(index).filter(|piece| !piece.meaning.is_empty());
        let connects = number.or(host).filter(|piece| !piece.meaning.is_empty());
        let Some(connects) = connects.filter(|piece| !is_socket(&piece.meaning)) else {
            return Err(RewriteError::UnixSocket { service: Service::Postgres });
        };
        let Some(address) = loopback(&connects.meaning) else { continue };
        let port = places.ports.get(index).or(places.ports.first()).copied();
        let port = port.unwrap_or(DEFAULT_PORT);
        targets.insert(Target { service: Service::Postgres, address, port });
        let number_needed = RewriteError::NumberNeeded { service: Service::Postgres };
        if let Some(number) = number {
            let gateway = gateway.ok_or(number_needed)?;
            edits.push((number.at.clone(), gateway.to_string()));
        }
        let loopback_host = host.filter(|host| loopback(&host.meaning).is_some());
        edits.extend(loopback_host.map(|host| (host.at.clone(), HOST_NAME.to_owned())));
    }
    Ok(Rewritten { text: Secret::new(replace(text, edits)), targets })
}

/// A path, or the mark of Linux' sockets without one.
fn is_socket(host: &str) -> bool {
    host.starts_with(['/', '@'])
}

fn unreadable(what: &'static str) -> RewriteError {
    RewriteError::Unreadable { service: Service::Postgres, what }
}

fn port(text: &str) -> Result<u16, RewriteError> {
    if text.is_empty() {
        Ok(DEFAULT_PORT)
    } else {
        text.parse().map_err(|_| unreadable("a port is no number"))
    }
}

/// The place of the first of some characters from `from` on, or the end.
fn find(text: &str, from: usize, what: &[char]) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    rest.find(what).map_or(text.len(), |index| from + index)
}

fn in_url(text: &str, from: usize) -> Result<Places, RewriteError> {
    let mut places = Places::default();
    let at_sign = find(text, from, &['@']);
    let start = if at_sign < text.len() { at_sign + 1 } else { from };
    let user = find(text, from, &[':', '@']).min(at_sign);
    if start > from {
        places.names.user = Some(Decoded::percent(text, from..user).piece().meaning);
    }
    let end = find(text, start, &['/', '?']);
    if start < end {
        authority(text, start..end, &mut places)?;
    }
    let query = find(text, end, &['?']);
    places.without_login.push(start..query);
    if query > end + 1 {
        places.names.database = Some(Decoded::percent(text, end + 1..query).piece().meaning);
    }
    let mut key = query + 1;
    while key < text.len() {
        let equals = find(text, key, &['=']);
        if equals == text.len() {
            return Err(unreadable("a parameter has no value"));
        }
        let stop = find(text, equals, &['&']);
        let name = Decoded::percent(text, key..equals).piece().meaning;
        parameter(&name, &Decoded::percent(text, equals + 1..stop), key..stop, &mut places)?;
        key = stop + 1;
    }
    Ok(places)
}

fn authority(text: &str, at: Range<usize>, places: &mut Places) -> Result<(), RewriteError> {
    let mut start = at.start;
    for chunk in text.get(at).unwrap_or_default().split(',') {
        let end = start + chunk.len();
        let (host_end, bracketed) = match chunk.strip_prefix('[') {
            Some(inner) => {
                let close = inner.find(']').ok_or_else(|| unreadable("a bracket is not closed"))?;
                (start + close + 2, true)
            }
            None => (start + chunk.find(':').unwrap_or(chunk.len()), false),
        };
        let inner = if bracketed { start + 1..host_end - 1 } else { start..host_end };
        let Piece { meaning, at: _ } = Decoded::percent(text, inner).piece();
        places.hosts.push(Piece { meaning, at: start..host_end });
        let rest = text.get(host_end..end).unwrap_or_default();
        let port_at = match rest.strip_prefix(':') {
            Some(_) => host_end + 1..end,
            None if rest.is_empty() => end..end,
            None => return Err(unreadable("something stands behind a bracket")),
        };
        places.ports.push(port(&Decoded::percent(text, port_at).piece().meaning)?);
        start = end + 1;
    }
    Ok(())
}

/// Notes a parameter that stands at `at` with its name.
fn parameter(
    name: &str,
    value: &Decoded,
    at: Range<usize>,
    places: &mut Places,
) -> Result<(), RewriteError> {
    if !matches!(name, "user" | "password") {
        places.without_login.push(at);
    }
    match name {
        "user" => places.names.user = Some(value.piece().meaning),
        "dbname" => places.names.database = Some(value.piece().meaning),
        "host" => places.hosts.extend(value.list()),
        "hostaddr" => places.host_addresses.extend(value.list()),
        "port" => {
            let ports = value
                .list()
                .iter()
                .map(|piece| port(&piece.meaning))
                .collect::<Result<Vec<_>, _>>()?;
            places.ports.extend(ports);
        }
        _ => {}
    }
    Ok(())
}

/// `host=db port=5432 password='it\'s'`
fn in_pairs(text: &str) -> Result<Places, RewriteError> {
    let mut places = Places::default();
    let mut characters = text.char_indices().peekable();
    loop {
        while characters.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        let Some(&(start, _)) = characters.peek() else { return Ok(places) };
        while characters.next_if(|(_, c)| !c.is_whitespace() && *c != '=').is_some() {}
        let end = characters.peek().map_or(text.len(), |(at, _)| *at);
        while characters.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        if start == end || characters.next().is_none_or(|(_, c)| c != '=') {
            return Err(unreadable("it is neither a URL nor pairs of `key=value`"));
        }
        while characters.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        let quoted = characters.next_if(|(_, c)| *c == '\'').is_some();
        let from = characters.peek().map_or(text.len(), |(at, _)| *at);
        let over = |c: char| if quoted { c == '\'' } else { c.is_whitespace() };
        let mut bytes = Vec::new();
        while let Some((at, first)) = characters.next_if(|(_, c)| !over(*c)) {
            let read = if first == '\\' { characters.next().map(|(_, c)| c) } else { Some(first) };
            let end = characters.peek().map_or(text.len(), |(at, _)| *at);
            let mut buffer = [0; 4];
            let encoded = read.map(|c| c.encode_utf8(&mut buffer).as_bytes()).unwrap_or_default();
            bytes.extend(encoded.iter().map(|byte| (*byte, at..end)));
        }
        let to = characters.peek().map_or(text.len(), |(at, _)| *at);
        if quoted && characters.next().is_none() {
            return Err(unreadable("a quote is not closed"));
        }
        let over = characters.peek().map_or(text.len(), |(at, _)| *at);
        let name = text.get(start..end).unwrap_or_default();
        parameter(name, &Decoded::new(bytes, from..to), start..over, &mut places)?;
    }
}
