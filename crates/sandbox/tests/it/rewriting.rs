//! Addresses for a sandbox: loopback becomes the host's name, and nothing else changes.

use std::net::IpAddr;

use proptest::prelude::*;
use sandbox::rewrite::{HOST_NAME, RewriteError, Rewritten, Service, http, postgres, redis};

const GATEWAY: &str = "172.18.0.1";

fn gateway() -> Option<IpAddr> {
    Some(GATEWAY.parse().expect("an address"))
}

fn ports(rewritten: &Rewritten) -> Vec<u16> {
    let mut ports: Vec<u16> = rewritten.targets.iter().map(|target| target.port).collect();
    ports.sort_unstable();
    ports
}

#[track_caller]
fn pg(from: &str, to: &str, expected: &[u16]) {
    let rewritten = postgres::rewrite(from, gateway()).expect("the text can be rewritten");
    assert_eq!(rewritten.text.expose(), to);
    assert_eq!(ports(&rewritten), expected, "{from}");
}

#[track_caller]
fn re(from: &str, to: &str, expected: &[u16]) {
    let rewritten = redis::rewrite(from).expect("the text can be rewritten");
    assert_eq!(rewritten.text.expose(), to);
    assert_eq!(ports(&rewritten), expected, "{from}");
}

#[track_caller]
fn web(from: &str, to: &str, expected: &[u16]) {
    let rewritten = http::rewrite(from, Service::Provider).expect("the text can be rewritten");
    assert_eq!(rewritten.text.expose(), to);
    assert_eq!(ports(&rewritten), expected, "{from}");
}

#[test]
fn postgres_urls_keep_everything_but_loopback() {
    pg("postgres://localhost", "postgres://host.docker.internal", &[5432]);
    pg(
        "postgresql://u:p%40w@LOCALHOST:5433/d?sslmode=disable&options=-c%20a%3Db",
        "postgresql://u:p%40w@host.docker.internal:5433/d?sslmode=disable&options=-c%20a%3Db",
        &[5433],
    );
    pg(
        "postgres://u:localhost@[::1]:1/localhost?application_name=localhost",
        "postgres://u:localhost@host.docker.internal:1/localhost?application_name=localhost",
        &[1],
    );
    // A slash, a question mark and a hash in a password are taken as they are.
    pg("postgres://u:a/b?c#d@127.0.0.1/x", "postgres://u:a/b?c#d@host.docker.internal/x", &[5432]);
    pg(
        "postgres://u@db.example:1,127.3.2.1:2,[::1],0.0.0.0:4/d",
        "postgres://u@db.example:1,host.docker.internal:2,host.docker.internal,host.docker.internal:4/d",
        &[2, 4, 5432],
    );
    pg(
        "postgres:///d?host=%6cocalhost&port=7",
        "postgres:///d?host=host.docker.internal&port=7",
        &[7],
    );
    pg("postgres://u@h/d?hostaddr=127.0.0.1", "postgres://u@h/d?hostaddr=172.18.0.1", &[5432]);
    pg("postgres://u@[fe80::1]:5/d", "postgres://u@[fe80::1]:5/d", &[]);
}

#[test]
fn postgres_pairs_keep_everything_but_loopback() {
    pg("host=localhost", "host=host.docker.internal", &[5432]);
    pg(
        r"  user='it\'s localhost' password=a\ b\\ host = 'localhost,db,::1' port=1,2,3 dbname=localhost ",
        r"  user='it\'s localhost' password=a\ b\\ host = 'host.docker.internal,db,host.docker.internal' port=1,2,3 dbname=localhost ",
        &[1, 3],
    );
    pg("host=localhost,db port=9", "host=host.docker.internal,db port=9", &[9]);
    pg(
        "host=db.example hostaddr=127.0.0.1 user=u",
        "host=db.example hostaddr=172.18.0.1 user=u",
        &[5432],
    );
    // The name is for certificates only where a number says where to connect.
    pg("host=localhost hostaddr=10.0.0.1", "host=localhost hostaddr=10.0.0.1", &[]);
    pg("host=127.1 port=''", "host=host.docker.internal port=''", &[5432]);
}

#[test]
fn sockets_of_the_file_system_are_refused() {
    for text in [
        "postgres:///d",
        "postgres://",
        "postgres://u@/d",
        "postgres://u@%2Fvar%2Frun/d",
        "postgres:///d?host=/var/run/postgresql",
        "host=/var/run/postgresql user=u",
        "user=u dbname=d",
        "host=localhost,/tmp",
        "",
    ] {
        let refused = postgres::rewrite(text, gateway());
        assert_eq!(refused, Err(RewriteError::UnixSocket { service: Service::Postgres }), "{text}");
    }
    for text in ["redis+unix:///run/redis.sock", "valkey+unix:///x"] {
        let refused = redis::rewrite(text);
        assert_eq!(refused, Err(RewriteError::UnixSocket { service: Service::Redis }), "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_without_showing_it() {
    for text in ["hunter2", "host='hunter2", "postgres://[::1/hunter2", "postgres://h:hunter2/d"] {
        let error = postgres::rewrite(text, gateway()).unwrap_err();
        assert!(matches!(error, RewriteError::Unreadable { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    let error = postgres::rewrite("host=h hostaddr=127.0.0.1", None).unwrap_err();
    assert_eq!(error, RewriteError::NumberNeeded { service: Service::Postgres });
    assert!(redis::rewrite("hunter2").is_err());
    assert!(http::rewrite("ftp://localhost", Service::Proxy).is_err());
}

#[test]
fn redis_urls_keep_everything_but_loopback() {
    re("redis://localhost", "redis://host.docker.internal", &[6379]);
    re("rediss://u:p@w@127.0.0.1:1/2", "rediss://u:p@w@host.docker.internal:1/2", &[1]);
    re("redis://:localhost@[::1]/0", "redis://:localhost@host.docker.internal/0", &[6379]);
    re(
        "redis-cluster://db:1?node=localhost:2&node=db:3&n%6fde=127.0.0.1%3A4",
        "redis-cluster://db:1?node=host.docker.internal:2&node=db:3&n%6fde=host.docker.internal%3A4",
        &[2, 4],
    );
    re(
        "redis-sentinel://localhost?sentinelServiceName=localhost&node=0.0.0.0:5",
        "redis-sentinel://host.docker.internal?sentinelServiceName=localhost&node=host.docker.internal:5",
        &[5, 26379],
    );
    re("valkey://cache.example:6379/1#localhost", "valkey://cache.example:6379/1#localhost", &[]);
}

#[test]
fn provider_urls_keep_everything_but_loopback() {
    web("http://127.0.0.1:8080/v1", "http://host.docker.internal:8080/v1", &[8080]);
    web("http://LOCALHOST", "http://host.docker.internal", &[80]);
    web(
        "https://[::1]/localhost?x=127.0.0.1",
        "https://host.docker.internal/localhost?x=127.0.0.1",
        &[443],
    );
    web("http:\\\\0x7f.1\\a", "http:\\\\host.docker.internal\\a", &[80]);
    web(
        "http://me:localhost@localhost:3128",
        "http://me:localhost@host.docker.internal:3128",
        &[3128],
    );
    web("https://api.example/localhost", "https://api.example/localhost", &[]);
}

const LOOPBACK: &str = "(localhost|LOCALHOST|127\\.0\\.0\\.1|127\\.(0|[1-9][0-9]?)\\.[0-9]\\.[1-9]|\\[::1\\]|0\\.0\\.0\\.0)";
const ELSEWHERE: &str =
    "(db|h[a-z0-9-]{0,8}\\.example|10\\.[0-9]\\.0\\.1|\\[fd00::[1-9a-f]{1,4}\\])";

/// A host with a port, as it was and as it has to be.
fn host() -> impl Strategy<Value = (String, String)> {
    let port = prop_oneof![Just(String::new()), (1_u16..).prop_map(|port| format!(":{port}"))];
    let name = prop_oneof![
        LOOPBACK.prop_map(|name| (name, true)),
        ELSEWHERE.prop_map(|name| (name, false))
    ];
    (name, port).prop_map(|((name, is_loopback), port)| {
        let after = if is_loopback { HOST_NAME.to_owned() } else { name.clone() };
        (format!("{name}{port}"), format!("{after}{port}"))
    })
}

fn joined(hosts: &[(String, String)]) -> (String, String) {
    let before: Vec<&str> = hosts.iter().map(|(before, _)| before.as_str()).collect();
    let after: Vec<&str> = hosts.iter().map(|(_, after)| after.as_str()).collect();
    (before.join(","), after.join(","))
}

proptest! {
    #[test]
    fn any_postgres_url_changes_in_its_hosts_only(
        user in "[a-z%0-9]{0,6}", password in "[^@\\x00]{0,12}", hosts in prop::collection::vec(host(), 1..4),
        rest in "(/[a-z]{0,5})?(\\?(application_name|options)=[^@&]{0,12})?",
    ) {
        let (before, after) = joined(&hosts);
        let from = format!("postgres://{user}:{password}@{before}{rest}");
        let to = format!("postgres://{user}:{password}@{after}{rest}");
        let rewritten = postgres::rewrite(&from, gateway()).unwrap();
        prop_assert_eq!(rewritten.text.expose(), to);
        let targets = hosts.iter().any(|(before, after)| before != after);
        prop_assert_eq!(!rewritten.targets.is_empty(), targets);
    }

    #[test]
    fn any_postgres_pairs_change_in_their_hosts_only(
        password in "[^'\\\\\\x00]{0,12}", hosts in prop::collection::vec(prop_oneof![Just("localhost"), Just("::1"), Just("db"), Just("10.0.0.1")], 1..4),
        space in "[ \\t]{1,3}",
    ) {
        let change = |name: &&'static str| if matches!(*name, "localhost" | "::1") { HOST_NAME } else { *name };
        let before = hosts.join(",");
        let after = hosts.iter().map(change).collect::<Vec<_>>().join(",");
        let text = |hosts: &str| format!("password='{password}'{space}host={hosts}{space}dbname=localhost");
        let rewritten = postgres::rewrite(&text(&before), gateway()).unwrap();
        prop_assert_eq!(rewritten.text.expose(), text(&after));
    }

    #[test]
    fn any_redis_url_changes_in_its_hosts_only(
        password in "[^/?#\\x00]{0,12}", first in host(), nodes in prop::collection::vec(host(), 0..3),
    ) {
        let text = |pick: fn(&(String, String)) -> &str| {
            let nodes: String = nodes.iter().map(|node| format!("&node={}", pick(node))).collect();
            format!("redis-cluster://u:{password}@{}?x=localhost{nodes}", pick(&first))
        };
        let rewritten = redis::rewrite(&text(|(before, _)| before)).unwrap();
        prop_assert_eq!(rewritten.text.expose(), text(|(_, after)| after));
    }

    #[test]
    fn any_provider_url_changes_in_its_host_only(place in host(), path in "(/[^\\s\\x00]{0,12})?", tls in any::<bool>()) {
        let scheme = if tls { "https" } else { "http" };
        let rewritten = http::rewrite(&format!("{scheme}://{}{path}", place.0), Service::Provider).unwrap();
        prop_assert_eq!(rewritten.text.expose(), &format!("{scheme}://{}{path}", place.1));
    }

    #[test]
    fn no_text_makes_it_fail_otherwise_than_by_an_error(text in "\\PC{0,40}") {
        drop(postgres::rewrite(&text, None));
        drop(postgres::rewrite(&format!("postgres://{text}"), gateway()));
        drop(redis::rewrite(&format!("redis://{text}")));
        drop(http::rewrite(&format!("http://{text}"), Service::Proxy));
    }
}
