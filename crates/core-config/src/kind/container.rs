//! The forms of what names an engine of containers and what is on it: images, networks, the engine's address.

use super::{Complaint, scalars::quoted};

/// What documents call the usual image. No engine takes it as it is, and `sandbox` knows what it stands for.
const DOCUMENTED_IMAGE: &str = "openTiger/worker:latest";

/// The longest name of a repository, as the engine counts it: without tag and digest.
const IMAGE_NAME_LENGTH: usize = 255;

/// The engine's rules for a name with a tag or digest, each with a reason of its own; an image's id is no name, since it
/// says nothing to people and cannot be fetched.
pub(super) fn is_image(text: &str) -> Result<bool, Complaint> {
    if text == DOCUMENTED_IMAGE {
        return Ok(true);
    }
    let complain = |what: &str| Err(Complaint(format!("{} {what}", quoted(text))));
    if text.is_empty() {
        return complain("is empty");
    }
    if text.contains(char::is_whitespace) {
        return complain("contains white space");
    }
    let bare = text.strip_prefix("sha256:").unwrap_or(text);
    if bare.len() == 64 && is_hex(bare) || text.starts_with("sha256:") {
        return complain("is the id of an image, not a name");
    }
    let (tagged, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return complain("has a digest that is not `sha256:` and 64 digits in lower case");
    }
    let (name, tag) = split_tag(tagged);
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return complain(
            "has a tag that is empty, too long, or has other characters than `A-Z a-z 0-9 _ . -`",
        );
    }
    if name.len() > IMAGE_NAME_LENGTH {
        return complain("has a name of more than 255 characters");
    }
    let (registry, path) = split_registry(name);
    if registry.is_some_and(|registry| !is_registry(registry)) {
        return complain("begins with a registry that is no host");
    }
    if path.contains(|c: char| c.is_ascii_uppercase()) {
        return complain("has upper case letters in the repository's name");
    }
    if !path.split('/').all(is_component) {
        return complain("is not `registry/name:tag`");
    }
    Ok(true)
}

/// The engine's rules for a network's name, and none that gives up the isolation: a container on the host's network, or on
/// another container's, reaches everything that listens there.
pub(super) fn is_network(text: &str) -> Result<bool, Complaint> {
    let complain = |what: &str| Err(Complaint(format!("{} {what}", quoted(text))));
    if text.eq_ignore_ascii_case("host") || text.starts_with("container:") {
        return complain(
            "gives a sandbox the network of somebody else, and with it every service that listens on loopback",
        );
    }
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !begins || text.len() < 2 || text.len() > 128 || !text.bytes().all(fine) {
        return complain("is not the name of a network");
    }
    Ok(true)
}

/// An address of an engine, whatever it is reached by: what openTiger cannot use is told where it is used, so that a
/// variable meant for other tools stops nobody who runs no container.
pub(super) fn is_engine(text: &str) -> Result<bool, Complaint> {
    match text.split_once("://") {
        Some((scheme, rest)) if !rest.is_empty() && is_scheme(scheme) => Ok(true),
        _ => Err(Complaint(format!("{} is not the address of an engine", quoted(text)))),
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && is_hex(hex))
}

/// A colon behind the last slash begins a tag; one before it belongs to a registry's port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

fn is_tag(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !text.is_empty() && text.len() <= 128 && !text.starts_with(['.', '-']) && text.bytes().all(fine)
}

/// The first part is a registry where it has a dot or a port, or is `localhost`. Newer engines also take one with upper
/// case letters for a registry; here it is a repository with a fault, for that is what was meant.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn is_registry(text: &str) -> bool {
    let port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let (host, fine_port) = match text.rsplit_once(':') {
        Some((host, text)) if !text.ends_with(']') => (host, port(text)),
        _ => (text, true),
    };
    fine_port && super::forms::is_host(host)
}

/// Lower case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| letter(*byte));
    let fine = |byte: &u8| letter(*byte) || b"._-".contains(byte);
    let separator =
        |part: &[u8]| matches!(part, b"" | b"." | b"_" | b"__") || part.iter().all(|b| *b == b'-');
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(fine)
        && bytes.split(|byte| letter(*byte)).all(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_names_that_an_engine_takes_and_the_documented_one() {
        let digest = format!("ghcr.io/o/worker@sha256:{}", "a".repeat(64));
        for image in [
            "openTiger/worker:latest",
            "opentiger/worker:latest",
            "worker",
            "a",
            "localhost/worker",
            "localhost:5000/worker:1.2",
            "Registry.Example:5000/team/a-b__c.d:V1_2-rc",
            "[::1]:5000/worker",
            "opentiger-base:bookworm",
            digest.as_str(),
        ] {
            assert_eq!(is_image(image), Ok(true), "{image}");
        }
    }

    #[test]
    fn every_other_image_is_refused_with_its_reason() {
        let id = "b".repeat(64);
        let long = "a".repeat(256);
        for (image, reason) in [
            ("", "is empty"),
            ("a b", "white space"),
            (" a", "white space"),
            ("a\t", "white space"),
            ("openTiger/worker", "upper case"),
            ("openTiger/worker:1", "upper case"),
            ("Worker", "upper case"),
            (id.as_str(), "is the id of an image"),
            ("sha256:abc", "is the id of an image"),
            ("a@sha256:abc", "digest"),
            ("a:", "tag"),
            ("a:-x", "tag"),
            ("a:b:c", "is not `registry/name:tag`"),
            ("a//b", "is not `registry/name:tag`"),
            ("/a", "is not `registry/name:tag`"),
            ("a/", "is not `registry/name:tag`"),
            ("-x", "is not `registry/name:tag`"),
            ("a..b", "is not `registry/name:tag`"),
            ("a___b", "is not `registry/name:tag`"),
            ("https://a/b", "begins with a registry"),
            ("a.b:x/c", "begins with a registry"),
            (long.as_str(), "255"),
        ] {
            let complaint = is_image(image).unwrap_err();
            assert!(complaint.0.contains(reason), "`{image}`: {complaint:?}");
        }
    }

    #[test]
    fn networks_of_somebody_else_are_refused() {
        for network in ["bridge", "none", "opentiger_net", "a.b-c"] {
            assert_eq!(is_network(network), Ok(true), "{network}");
        }
        for network in ["host", "HOST", "container:abc"] {
            let complaint = is_network(network).unwrap_err();
            assert!(complaint.0.contains("somebody else"), "{network}: {complaint:?}");
        }
        for network in ["", "a", "-a", "a b", "a/b", "a:b"] {
            let complaint = is_network(network).unwrap_err();
            assert!(complaint.0.contains("not the name"), "{network}: {complaint:?}");
        }
    }

    #[test]
    fn an_engine_is_reached_by_any_scheme() {
        for engine in ["unix:///var/run/docker.sock", "tcp://10.0.0.1:2375", "ssh://me@host"] {
            assert_eq!(is_engine(engine), Ok(true), "{engine}");
        }
        for engine in ["/var/run/docker.sock", "tcp://", "://x", "a b://x"] {
            assert!(is_engine(engine).is_err(), "{engine}");
        }
    }
}
