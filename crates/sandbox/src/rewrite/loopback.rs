//! Which names of hosts mean this machine itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a host, without brackets, is this machine's loopback: `Some(None)` for `localhost`, `Some(Some(address))` for
/// a number. The address that stands for all of them counts, since a client that connects to it gets loopback.
#[expect(clippy::option_option, reason = "no loopback, loopback by name, loopback by number")]
pub(super) fn loopback(host: &str) -> Option<Option<IpAddr>> {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.eq_ignore_ascii_case("localhost") {
        return Some(None);
    }
    let bare = host.split_once('%').map_or(host, |(address, _zone)| address);
    let address = match bare.parse::<Ipv6Addr>() {
        Ok(address) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
        Err(_) => IpAddr::V4(number(name)?),
    };
    (address.is_loopback() || address.is_unspecified()).then_some(Some(address))
}

/// An IPv4 address in all forms that the C library and browsers take: one to four numbers, decimal, octal or
/// hexadecimal, of which the last one fills what is left.
fn number(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = text.split('.').map(part).collect::<Option<_>>()?;
    let (last, before) = parts.split_last()?;
    let left = 4_u32.checked_sub(u32::try_from(before.len()).ok()?).filter(|left| *left > 0)?;
    if before.iter().any(|part| *part > 255) || *last >= 1_u64 << (8 * left) {
        return None;
    }
    let high = before.iter().fold(0_u64, |sum, part| sum << 8 | part);
    u32::try_from(high << (8 * left) | last).ok().map(Ipv4Addr::from)
}

fn part(text: &str) -> Option<u64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (text.get(2..)?, 16),
        [b'0', _, ..] => (text, 8),
        _ => (text, 10),
    };
    let fine = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    fine.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_loopback_is_known() {
        for name in ["localhost", "LocalHost", "localhost."] {
            assert_eq!(loopback(name), Some(None), "{name}");
        }
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.1.2.3", "127.1.2.3"),
            ("127.1", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0.0.0.0", "0.0.0.0"),
            ("0", "0.0.0.0"),
            ("::1", "::1"),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("::1%lo", "::1"),
            ("::", "::"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(loopback(text), Some(Some(address.parse().unwrap())), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for text in [
            "",
            "localhost.example.org",
            "my-localhost",
            "128.0.0.1",
            "10.0.0.1",
            "127.0.0.256",
            "127.0.0.1.1",
            "127.0.0.1.example.org",
            "1.127.0.0",
            "fe80::1",
            "::2",
            "127.",
            "0x",
            "db.example.org",
            "host.docker.internal",
            "08.0.0.1",
        ] {
            assert_eq!(loopback(text), None, "{text}");
        }
    }
}
