//! Every address that a sandbox is given, rewritten together, with what they name on this machine's loopback.

use std::collections::{BTreeMap, BTreeSet};

use core_config::settings::Settings;
use core_types::secret::Secret;

use crate::{
    relay::Network,
    rewrite::{RewriteError, Rewritten, Target, http, postgres, redis},
};

/// Variables that name a proxy on the way to a provider.
const PROXIES: &[&str] =
    &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
/// Variables that say for which hosts there is no proxy.
const NO_PROXY: &[&str] = &["NO_PROXY", "no_proxy"];

/// The addresses as a sandbox gets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Postgres, where it was given.
    pub database: Option<Secret>,
    /// Redis, where there is one that a sandbox can reach.
    pub redis: Option<Secret>,
    /// Settings that hold addresses, by their keys.
    pub settings: BTreeMap<String, Secret>,
    /// Variables for the agent: proxies, and for what there is none.
    pub environment: BTreeMap<String, Secret>,
    /// What they name on this machine's loopback.
    pub targets: BTreeSet<Target>,
}

/// What has addresses.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The database, with the login of the sandbox.
    pub database: Option<&'a Secret>,
    /// Redis, with the login of the sandbox.
    pub redis: Option<&'a Secret>,
    /// The settings in force.
    pub settings: &'a Settings,
    /// The dispatcher's own environment, of which proxies are taken.
    pub environment: &'a BTreeMap<String, String>,
}

/// Rewrites what is given for a sandbox on a network. A Redis that cannot be reached is left out, for a worker does
/// without one.
///
/// # Errors
/// [`RewriteError`] of the database, the provider or a proxy.
pub fn rewrite(given: Given<'_>, network: Network<'_>) -> Result<Addresses, RewriteError> {
    let mut targets = BTreeSet::new();
    let mut keep = |rewritten: Rewritten| {
        targets.extend(rewritten.targets);
        rewritten.text
    };
    let database = given.database.map(|url| postgres::rewrite(url.expose(), network.host()));
    let database = database.transpose()?.map(&mut keep);
    let redis = given.redis.and_then(|url| match redis::rewrite(url.expose()) {
        Ok(rewritten) => Some(keep(rewritten)),
        Err(error) => {
            tracing::debug!(%error, "sandbox goes without Redis");
            None
        }
    });
    let mut settings = BTreeMap::new();
    if let Some(url) = &given.settings.anthropic_base_url {
        settings.insert("ANTHROPIC_BASE_URL".to_owned(), keep(http::rewrite(url)?));
    }
    let mut environment = BTreeMap::new();
    let set = |names: &[&str]| {
        let set = given.environment.iter().filter(|(_, value)| !value.is_empty());
        set.filter(|(name, _)| names.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Vec<_>>()
    };
    for (name, value) in set(PROXIES) {
        // A proxy may be named without a scheme, which means plain HTTP.
        let proxy = if value.contains("://") { value } else { format!("http://{value}") };
        // Others than HTTP's are no business of the agents' command lines.
        if proxy.starts_with("http") {
            environment.insert(name, keep(http::rewrite(&proxy)?));
        }
    }
    for (name, value) in set(NO_PROXY) {
        environment.insert(name, Secret::new(value));
    }
    Ok(Addresses { database, redis, settings, environment, targets })
}

#[cfg(test)]
mod tests {
    use core_config::load::load;

    use super::*;

    #[test]
    fn every_address_is_rewritten_and_every_target_known() {
        let pairs = [("ANTHROPIC_BASE_URL", "http://localhost:8080")];
        let pairs = pairs.map(|(key, value)| (key.into(), value.into()));
        let settings = load(pairs, None).unwrap().settings;
        let environment = BTreeMap::from(
            [
                ("https_proxy", "http://u:p@127.0.0.1:3128"),
                ("HTTP_PROXY", "localhost:3129"),
                ("ALL_PROXY", "socks5://127.0.0.1:1080"),
                ("NO_PROXY", "localhost,.example"),
                ("AWS_SECRET_ACCESS_KEY", "x"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let given = Given {
            database: Some(&Secret::new("postgres://u:p@localhost/d")),
            redis: Some(&Secret::new("redis+unix:///run/redis.sock")),
            settings: &settings,
            environment: &environment,
        };
        let network = Network { name: "bridge", gateways: &[], engine_is_here: true };
        let addresses = rewrite(given, network).unwrap();
        assert_eq!(addresses.database.unwrap().expose(), "postgres://u:p@host.docker.internal/d");
        assert_eq!(addresses.redis, None);
        let url = addresses.settings["ANTHROPIC_BASE_URL"].expose();
        assert_eq!(url, "http://host.docker.internal:8080");
        let shown: Vec<_> = addresses
            .environment
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect();
        let expected = [
            ("HTTP_PROXY", "http://host.docker.internal:3129"),
            ("NO_PROXY", "localhost,.example"),
            ("https_proxy", "http://u:p@host.docker.internal:3128"),
        ];
        assert_eq!(shown, expected);
        let mut ports: Vec<u16> = addresses.targets.iter().map(|target| target.port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [3128, 3129, 5432, 8080]);
    }
}
