//! The database's address with the login of sandboxes: what its driver reads in it, and that nothing of the owner's password
//! stays behind.

use core_types::secret::Secret;
use proptest::prelude::*;
use sandbox::rewrite::{HOST_NAME, RewriteError, Service, postgres};
use tokio_postgres::{Config, config::Host};

/// In every password of an owner here.
const OWNERS: &str = "h8-owner-h8";

fn lend(owners: &str) -> Result<Secret, RewriteError> {
    postgres::lend(owners, "box", &Secret::new("pw"))
}

#[track_caller]
fn lent(owners: &str, expected: &str) {
    let lent = lend(owners).expect("the address can be lent");
    assert_eq!(lent.expose(), expected);
    same_but_for_the_login(owners, lent.expose());
}

/// As the driver reads it, it is the same address with another login.
#[track_caller]
fn same_but_for_the_login(owners: &str, lent: &str) {
    let mut owners: Config = owners.parse().expect("the driver reads the owner's address");
    if owners.get_dbname().is_none()
        && let Some(user) = owners.get_user().map(ToOwned::to_owned)
    {
        owners.dbname(user);
    }
    assert_eq!(lent.parse::<Config>().unwrap(), *owners.user("box").password("pw"));
}

#[test]
fn only_user_and_password_of_a_url_change() {
    lent("postgres://ot:p%2Fw@h:5/d", "postgres://box:pw@h:5/d");
    lent("postgres://h/d?connect_timeout=3", "postgres://box:pw@h/d?connect_timeout=3");
    lent(
        "postgresql://a:b@[::1]:5,h2:6/d?user=x&application_name=b&p%61ssword=y",
        "postgresql://box:pw@[::1]:5,h2:6/d?application_name=b",
    );
    lent("postgres:///d?host=/run/pg&user=me", "postgres://box:pw@/d?host=/run/pg");
    lent("postgres://ot:x@h/d?password=y", "postgres://box:pw@h/d");
    lent("postgres://h", "postgres://box:pw@h");
    // Without a database it is the owner's, not the other login's.
    lent("postgres://ot:x@h:5", "postgres://box:pw@h:5?dbname=ot");
    lent(
        "postgres://a%2F%26b@h/?connect_timeout=3",
        "postgres://box:pw@h/?connect_timeout=3&dbname=a%2F%26b",
    );
}

#[test]
fn a_password_ends_at_the_at_sign_and_nowhere_else() {
    for password in ["a/b", "12/secret", "a?b", "a#b", "a:b", "/?#", "a?password=b&c"] {
        lent(&format!("postgres://ot:{password}@127.0.0.1/d"), "postgres://box:pw@127.0.0.1/d");
    }
}

#[test]
fn only_user_and_password_of_pairs_change() {
    lent("host=h user=u", "user=box password=pw host=h dbname='u'");
    lent(r"host=h user='it\'s'", r"user=box password=pw host=h dbname='it\'s'");
    lent(
        r"user = u host='a b' password='it\'s = x host=y' dbname=d port=7",
        "user=box password=pw host='a b' dbname=d port=7",
    );
    lent(r"password=a\ b\\ host=h", "user=box password=pw host=h");
}

#[test]
fn a_password_that_the_driver_would_cut_short_is_refused_without_showing_it() {
    for text in ["postgres://ot:p@hunter2@127.0.0.1/d", "hunter2", "user=u password='hunter2"] {
        let error = lend(text).unwrap_err();
        assert!(matches!(error, RewriteError::Unreadable { .. }), "{error:?}");
        assert!(error.hint().contains("`%40`"), "{}", error.hint());
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    assert!(postgres::rewrite("postgres://ot:p@hunter2@127.0.0.1/d", None).is_err());
}

#[test]
fn names_are_those_that_the_driver_reads() {
    for text in [
        "postgres://o%74:p/w@h/d%2Fb",
        "postgres://h/d?user=me&dbname=other",
        "postgres://me@h",
        "postgres://:p@h?dbname=x",
        "host=h user='a b' dbname=d",
        "host=h",
    ] {
        let names = postgres::names(text).unwrap();
        let driver: Config = text.parse().unwrap();
        assert_eq!(names.user.as_deref(), driver.get_user(), "{text}");
        assert_eq!(names.database.as_deref(), driver.get_dbname(), "{text}");
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

/// What a sandbox is given in the end.
fn given(owners: &str) -> String {
    let lent = lend(owners).unwrap();
    same_but_for_the_login(owners, lent.expose());
    let gateway = "172.18.0.1".parse().unwrap();
    let rewritten = postgres::rewrite(lent.expose(), Some(gateway)).unwrap();
    rewritten.text.expose().to_owned()
}

fn host_names(config: &Config) -> Vec<String> {
    let names = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.to_string_lossy().into_owned(),
    });
    names.collect()
}

proptest! {
    #[test]
    fn nothing_of_the_owners_password_is_in_what_a_sandbox_is_given(
        before in "[^@\\x00]{0,9}", after in "[^@\\x00]{0,9}", user in "[a-z%0-9]{0,6}",
        host in "(localhost|127\\.0\\.0\\.1|\\[::1\\]|db\\.example)(:[1-9][0-9]{0,3})?", as_parameter in any::<bool>(),
        rest in "(/[a-z]{0,5})?",
    ) {
        let password = format!("{before}{OWNERS}{after}");
        let url = if as_parameter {
            let password = password.replace(['&', '%'], "");
            format!("postgres://{user}:{OWNERS}@{host}{rest}?password={password}&application_name=a")
        } else {
            format!("postgres://{user}:{password}@{host}{rest}?application_name=a")
        };
        prop_assume!(url.parse::<Config>().is_ok());
        let pairs = format!("host=localhost password='{}' application_name=a", quoted(&password));
        for owners in [url, pairs] {
            let text = given(&owners);
            prop_assert!(!text.contains(OWNERS), "{text}");
            let (config, owners): (Config, Config) = (text.parse().unwrap(), owners.parse().unwrap());
            prop_assert_eq!(config.get_user(), Some("box"));
            prop_assert_eq!(config.get_password(), Some(&b"pw"[..]));
            prop_assert_eq!(config.get_ports(), owners.get_ports());
            prop_assert_eq!(config.get_application_name(), Some("a"));
            let here = |name: &String| matches!(&**name, "localhost" | "127.0.0.1" | "::1");
            let expected = host_names(&owners).into_iter();
            let expected = expected.map(|name| if here(&name) { HOST_NAME.to_owned() } else { name });
            prop_assert_eq!(host_names(&config), expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn whatever_the_driver_reads_is_lent_as_it_reads_it_or_refused(text in "\\PC{0,40}", at in "(postgres://|host=)?") {
        let owners = format!("{at}{text}");
        let refused = RewriteError::Unreadable { service: Service::Postgres, what: "" };
        match (lend(&owners), owners.parse::<Config>()) {
            (Ok(lent), Ok(_)) => same_but_for_the_login(&owners, lent.expose()),
            (Err(error), _) => prop_assert_eq!(error.hint(), refused.hint()),
            (Ok(_), Err(_)) => {}
        }
    }
}
