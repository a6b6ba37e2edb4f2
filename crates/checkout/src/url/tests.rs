//! What is taken for an address, and how it is then written.

use proptest::prelude::{
    Just, Strategy, any, prop_assert, prop_assert_eq, prop_assert_ne, prop_oneof, proptest,
};

use super::*;

const STRICT: UrlRules = UrlRules { http_loopback: false };
const LOOSE: UrlRules = UrlRules { http_loopback: true };

#[track_caller]
fn takes(text: &str) -> RepositoryUrl {
    RepositoryUrl::parse(text, STRICT).unwrap()
}

#[test]
fn the_three_forms_are_taken_as_they_are() {
    for text in [
        "https://github.com/owner/repo.git",
        "https://git.example.org:8443/a/b%20c",
        "https://[2001:db8::1]/x",
        "ssh://git@example.org:2222/~me/x.git",
        "ssh://example.org/srv/x",
        "git@github.com:owner/repo.git",
        "host:path",
        "me@[::1]:path",
    ] {
        assert_eq!(takes(text).as_str(), text);
    }
}

#[test]
fn what_could_execute_or_reach_files_is_refused() {
    for text in [
        "ext::sh -c 'touch x'",
        "ext::sh",
        "fd::7",
        "--upload-pack=touch",
        "-oProxyCommand=touch",
        "ssh://-oProxyCommand=touch/x",
        "ssh://-oProxyCommand=touch@host/x",
        "-u@host:path",
        "host:-path",
        "ssh://host/-path/..",
        "file:///etc",
        "/etc",
        "./x",
        "~/x",
        "git://host/x",
        "ftp://host/x",
        "http://example.org/x",
        "https://host/x\nhost=evil",
        "https://host/x%0ahost=evil",
        "https://host/x%zz",
        "https://host/$(id)",
        "host:`id`",
        "host:a;id",
        "host:a://b",
        "me@host://x",
        "https://host\\@evil/x",
        "https:///x",
        "https://host",
        "https://ho st/x",
        "https://-host/x",
        "https://host:0/x",
        "https://host:99999/x",
        "https://2130706433/x",
        "https://0x7f.1/x",
        "https://host/../x",
        "https://host/x?y",
        "https://host/x#y",
        "",
        "x",
    ] {
        assert!(RepositoryUrl::parse(text, LOOSE).is_err(), "`{text}` is taken");
    }
    let long = format!("https://host/{}", "x".repeat(URL_BYTES));
    assert!(RepositoryUrl::parse(&long, LOOSE).is_err());
}

#[test]
fn a_password_is_refused_and_not_repeated() {
    for text in [
        "https://me:hunter2@host/x",
        "https://hunter2@host/x",
        "ssh://me:hunter2@host/x",
        "me:hunter2@host:x",
        "http://me:hunter2@127.0.0.1/x",
    ] {
        let error = RepositoryUrl::parse(text, LOOSE).unwrap_err();
        assert!(error.hint.contains("GIT_TOKENS"), "`{text}`: {error:?}");
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn plain_http_is_for_this_machine_alone_and_only_where_allowed() {
    for text in ["http://127.0.0.1:8080/x", "http://localhost/x", "http://[::1]:80/x"] {
        assert!(RepositoryUrl::parse(text, LOOSE).is_ok(), "`{text}`");
        assert!(RepositoryUrl::parse(text, STRICT).is_err(), "`{text}`");
    }
    assert!(RepositoryUrl::parse("http://127.0.0.1.example.org/x", LOOSE).is_err());
}

#[test]
fn git_is_given_one_spelling() {
    for (text, expected) in [
        ("HTTPS://Example.org:443/x/", "https://example.org/x"),
        ("https://example.org:0443/x", "https://example.org/x"),
        ("https://[2001:DB8:0:0::1]:443//x", "https://[2001:db8::1]//x"),
        ("SSH://git@Example.org:22/X", "ssh://git@example.org/X"),
        ("ssh://[::0001]:2222/x", "ssh://[::1]:2222/x"),
        ("git@Example.org:X/", "git@example.org:X"),
        ("me@[0::1]:/x", "me@[::1]:/x"),
    ] {
        assert_eq!(takes(text).as_str(), expected, "{text}");
    }
    let loopback = RepositoryUrl::parse("HTTP://LOCALHOST:80/x", LOOSE).unwrap();
    assert_eq!(loopback.as_str(), "http://localhost/x");
    assert_eq!(takes("https://h:443/x").authority, "h");
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z][A-Za-z0-9]{0,8}(\\.[a-z][a-z0-9]{0,5}){0,2}",
        any::<Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<Ipv6Addr>().prop_map(|address| {
            let parts = address.segments().map(|part| format!("{part:04X}"));
            format!("[{}]", parts.join(":"))
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_taken_reads_again_as_itself(
        text in "[hH]?[tT]{0,2}[pP]?[sS]{0,2}[hH]?(://)?([a-z]{1,3}@)?\\PC{0,24}",
    ) {
        if let Ok(url) = RepositoryUrl::parse(&text, LOOSE) {
            prop_assert_eq!(RepositoryUrl::parse(url.as_str(), LOOSE), Ok(url.clone()));
            prop_assert!(!url.as_str().starts_with('-'));
        }
    }

    #[test]
    fn spellings_of_one_place_are_given_to_git_alike(
        host in host(),
        path in "[a-zA-Z0-9._~][a-zA-Z0-9._~/-]{0,16}[a-zA-Z0-9]",
        scheme in prop_oneof![Just(("https", 443_u16)), Just(("ssh", 22))],
        zeros in 0..3_usize,
        slashes in 0..3_usize,
    ) {
        let (name, port) = scheme;
        let plain = format!("{name}://{}/{path}", host.to_ascii_lowercase());
        let odd = format!(
            "{}://{host}:{}{port}/{path}{}",
            name.to_ascii_uppercase(), "0".repeat(zeros), "/".repeat(slashes),
        );
        let of = |text: &str| RepositoryUrl::parse(text, STRICT);
        prop_assert_eq!(of(&plain), of(&odd));
        if let Ok(url) = of(&plain) {
            let other = format!("{name}://{host}:{}/{path}", port + 1);
            prop_assert_ne!(url.cache_key(), of(&other).unwrap().cache_key());
            prop_assert!(url.as_str().ends_with(&path));
        }
    }
}

#[test]
fn spellings_of_one_place_share_a_key_and_other_places_do_not() {
    let key = |text: &str| takes(text).cache_key();
    assert_eq!(key("https://Example.org:443/x/"), key("HTTPS://example.org/x"));
    for other in ["https://example.org:444/x", "https://example.org/X", "ssh://example.org/x"] {
        assert_ne!(key("https://example.org/x"), key(other));
    }
    assert_ne!(key("ssh://a@example.org/x"), key("ssh://b@example.org/x"));
    assert_ne!(key("ssh://example.org/x"), key("example.org:x"));
}
