//! By which name this server is asked, and whether a page of another site asks.
//!
//! A page of another site may point a name of its own at this machine (DNS rebinding), or post a form here
//! (drive-by). The first shows in `Host`, the second in `Origin` and `Sec-Fetch-Site`.

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderName, Uri,
    header::{FORWARDED, HOST, ORIGIN, VIA},
    uri::Authority,
};

/// Headers that proxies add. They are never believed; they only show that the peer is not who asks.
const PROXIES: [HeaderName; 5] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("cf-connecting-ip"),
];

/// The names this server answers to, besides those of the loopback and the address it is reached on.
#[derive(Debug)]
pub(crate) struct Hosts(Vec<String>);

impl Hosts {
    pub(crate) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| bare(name).to_owned()).collect())
    }

    /// Whether a request that names this host on a connection to this address is for this server. An address in
    /// numbers is no name that a stranger could point here.
    pub(crate) fn include(&self, host: &Authority, local: SocketAddr) -> bool {
        let host = bare(host.host());
        is_loopback(host)
            || host
                .parse::<IpAddr>()
                .is_ok_and(|named| named.to_canonical() == local.ip().to_canonical())
            || self.0.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// The one host that the request names, in the URI and in the header alike.
pub(crate) fn named_host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut named = headers.get_all(HOST).iter();
    let header = named.next()?.to_str().ok()?.parse::<Authority>().ok()?;
    let ambiguous = named.next().is_some()
        || header.as_str().contains('@')
        || uri.authority().is_some_and(|authority| *authority != header);
    (!ambiguous).then_some(header)
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Whether a host is this machine as seen from itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = bare(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a page of another site asks.
pub(crate) fn is_foreign(headers: &HeaderMap, host: &Authority) -> bool {
    // A proxy in front may speak TLS, which does not show here.
    let own = [format!("http://{host}"), format!("https://{host}")];
    let is_own = |origin: &str| own.iter().any(|own| own.eq_ignore_ascii_case(origin));
    let own_origin = headers.get_all(ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(is_own));
    let own_site = headers
        .get_all("sec-fetch-site")
        .iter()
        .all(|site| site == "same-origin" || site == "none");
    !(own_origin && own_site)
}

/// Whether a proxy handed the request on.
pub(crate) fn came_through_a_proxy(headers: &HeaderMap) -> bool {
    PROXIES.iter().any(|name| headers.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(headers: &[(&'static str, &str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn included(hosts: &Hosts, host: &str, local: &str) -> bool {
        named_host(&Uri::from_static("/tasks"), &headers(&[("host", host)]))
            .is_some_and(|host| hosts.include(&host, local.parse().unwrap()))
    }

    #[test]
    fn on_the_loopback_only_its_names_are_answered() {
        let hosts = Hosts::new(&[]);
        for host in ["localhost", "LOCALHOST:4301", "127.0.0.1:4301", "127.8.8.8", "[::1]:4301"] {
            assert!(included(&hosts, host, "127.0.0.1:4301"), "{host}");
        }
        for host in [
            "evil.example:4301",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "0.0.0.0:4301",
            "10.0.0.1",
            "localhost@evil.example",
            "",
            "[::ffff:10.0.0.1]",
        ] {
            assert!(!included(&hosts, host, "127.0.0.1:4301"), "{host}");
        }
        assert_eq!(named_host(&Uri::from_static("/"), &HeaderMap::new()), None);
    }

    #[test]
    fn elsewhere_the_address_it_is_reached_on_and_the_names_it_was_given_are_answered_too() {
        let hosts = Hosts::new(&["tiger.example".to_owned(), "[2001:db8::7]".to_owned()]);
        for host in ["10.0.0.7:4301", "Tiger.Example", "tiger.example:443", "[2001:db8::7]:4301"] {
            assert!(included(&hosts, host, "[::ffff:10.0.0.7]:4301"), "{host}");
        }
        for host in ["10.0.0.8", "evil.example", "tiger.example.evil.example", "xtiger.example"] {
            assert!(!included(&hosts, host, "10.0.0.7:4301"), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_told_apart() {
        let host: Authority = "127.0.0.1:4301".parse().unwrap();
        let foreign = |of: &[(&'static str, &str)]| is_foreign(&headers(of), &host);
        assert!(!foreign(&[]));
        assert!(!foreign(&[("origin", "http://127.0.0.1:4301")]));
        assert!(!foreign(&[("origin", "https://127.0.0.1:4301")]));
        for origin in
            ["null", "http://127.0.0.1:9999", "https://evil.example", "http://127.0.0.1:43011"]
        {
            assert!(foreign(&[("origin", origin)]), "{origin}");
        }
        assert!(foreign(&[("sec-fetch-site", "cross-site")]));
        assert!(foreign(&[("sec-fetch-site", "same-site")]));
        assert!(!foreign(&[("sec-fetch-site", "same-origin")]));
    }

    #[test]
    fn a_uri_that_names_another_host_than_the_header_names_none() {
        let foreign = Uri::from_static("http://evil.example/tasks");
        assert_eq!(named_host(&foreign, &headers(&[("host", "localhost")])), None);
    }
}
