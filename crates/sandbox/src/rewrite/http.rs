//! Addresses of providers and proxies: `http` and `https`, split as the agents' command lines split them, which follow the
//! rules of browsers.

use std::collections::BTreeSet;

use core_types::secret::Secret;

use super::{
    HOST_NAME, RewriteError, Rewritten, Service, Target,
    loopback::loopback,
    spans::{Decoded, replace},
};

/// The address as a sandbox gets it: [`Service::Provider`] or [`Service::Proxy`].
///
/// # Errors
/// See [`RewriteError`].
pub fn rewrite(text: &str, service: Service) -> Result<Rewritten, RewriteError> {
    let unreadable = |what| RewriteError::Unreadable { service, what };
    let colon = text.find(':').ok_or_else(|| unreadable("it has no scheme"))?;
    let scheme = text.get(..colon).unwrap_or_default().trim_start().to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return Err(unreadable("it is neither `http` nor `https`")),
    };
    let rest = text.get(colon + 1..).unwrap_or_default();
    let from = text.len() - rest.trim_start_matches(['/', '\\']).len();
    let authority = text.get(from..).unwrap_or_default();
    let authority = authority.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let user = authority.rfind('@').map_or(0, |index| index + 1);
    let (start, end) = (from + user, from + authority.trim_end().len());
    let host_and_port = text.get(start..end).unwrap_or_default();
    let (length, port) = if host_and_port.starts_with('[') {
        let close = host_and_port.find(']').ok_or_else(|| unreadable("a bracket is not closed"))?;
        (close + 1, host_and_port.get(close + 1..).unwrap_or_default().strip_prefix(':'))
    } else {
        match host_and_port.split_once(':') {
            Some((host, port)) => (host.len(), Some(port)),
            None => (host_and_port.len(), None),
        }
    };
    let at = start..start + length;
    let name = Decoded::percent(text, at.clone()).piece().meaning;
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() {
        return Err(unreadable("it names no host"));
    }
    let Some(address) = loopback(name) else {
        return Ok(Rewritten { text: Secret::new(text), targets: BTreeSet::new() });
    };
    let port = port.filter(|port| !port.is_empty()).map_or(Ok(default_port), |port| {
        port.parse().map_err(|_| unreadable("the port is no number"))
    })?;
    let targets = BTreeSet::from([Target { service, address, port }]);
    let text = replace(text, vec![(at, HOST_NAME.to_owned())]);
    Ok(Rewritten { text: Secret::new(text), targets })
}
