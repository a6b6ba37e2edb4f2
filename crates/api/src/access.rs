//! Who may ask: requests that name this machine, and changes that no foreign web page asks for.
//!
//! The listener takes loopback connections only. What is left is a browser on this machine: a page of another site may
//! point a name of its own at 127.0.0.1 (DNS rebinding) or post a form here (drive-by). The first shows in `Host`, the
//! second in `Origin` and `Sec-Fetch-Site`.

use std::net::IpAddr;

use http::{
    HeaderMap, Method, StatusCode, Uri,
    header::{HOST, ORIGIN},
    uri::Authority,
};

use crate::error::ApiError;

/// Refuses a request that this API is not for.
pub(crate) fn check(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let host = named_host(uri, headers).filter(|authority| is_loopback(authority.host()));
    let Some(host) = host else {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "host_not_allowed",
            "the `Host` of the request is not this machine; allowed: localhost, 127.0.0.1, [::1]",
        ));
    };
    if method.is_safe() || comes_from_here(headers, &host) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "origin_not_allowed",
        "a web page of another origin asks for a change; allowed: pages of this server, and programs that are no browser",
    ))
}

/// The one host that the request names, in the URI and in the header alike.
fn named_host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let mut named = headers.get_all(HOST).iter();
    let header = named.next()?.to_str().ok()?.parse::<Authority>().ok()?;
    let ambiguous = named.next().is_some()
        || header.as_str().contains('@')
        || uri.authority().is_some_and(|authority| *authority != header);
    (!ambiguous).then_some(header)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn comes_from_here(headers: &HeaderMap, host: &Authority) -> bool {
    let own = format!("http://{host}");
    let own_origin = headers
        .get_all(ORIGIN)
        .iter()
        .all(|origin| origin.to_str().is_ok_and(|origin| origin.eq_ignore_ascii_case(&own)));
    let own_site = headers
        .get_all("sec-fetch-site")
        .iter()
        .all(|site| site == "same-origin" || site == "none");
    own_origin && own_site
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn allowed(method: Method, headers: &[(&str, &str)]) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        check(&method, &Uri::from_static("/tasks"), &headers).is_ok()
    }

    #[test]
    fn only_names_of_the_loopback_are_answered() {
        for host in ["localhost", "LOCALHOST:4301", "127.0.0.1:4301", "127.8.8.8", "[::1]:4301"] {
            assert!(allowed(Method::GET, &[("host", host)]), "{host}");
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
            assert!(!allowed(Method::GET, &[("host", host)]), "{host}");
        }
        assert!(!allowed(Method::GET, &[]));
    }

    #[test]
    fn a_change_may_come_from_no_browser_or_from_an_own_page() {
        let host = ("host", "127.0.0.1:4301");
        assert!(allowed(Method::POST, &[host]));
        assert!(allowed(Method::POST, &[host, ("origin", "http://127.0.0.1:4301")]));
        for origin in
            ["null", "http://127.0.0.1:9999", "https://evil.example", "http://127.0.0.1:43011"]
        {
            assert!(!allowed(Method::POST, &[host, ("origin", origin)]), "{origin}");
            assert!(allowed(Method::GET, &[host, ("origin", origin)]), "{origin}");
        }
        assert!(!allowed(Method::POST, &[host, ("sec-fetch-site", "cross-site")]));
        assert!(!allowed(Method::DELETE, &[host, ("sec-fetch-site", "same-site")]));
        assert!(allowed(Method::POST, &[host, ("sec-fetch-site", "same-origin")]));
    }

    #[test]
    fn a_uri_that_names_another_host_than_the_header_is_refused() {
        let headers = HeaderMap::from_iter([(HOST, "localhost".parse().unwrap())]);
        let foreign = Uri::from_static("http://evil.example/tasks");
        assert!(check(&Method::GET, &foreign, &headers).is_err());
    }
}
