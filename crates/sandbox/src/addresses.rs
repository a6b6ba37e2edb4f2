//! Every address that a sandbox is given, rewritten together, with what they name on this machine's loopback.
//!
//! Proxies are those that the agents' command lines know, which are the same ones that an agent of the host gets.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use core_config::settings::Settings;
use core_types::secret::Secret;

use crate::{
    relay::Network,
    rewrite::{HOST_NAME, RewriteError, Rewritten, Service, Target, http, postgres, redis},
};

/// Variables that name a proxy on the way to a provider.
const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
/// Variables that say for which hosts there is no proxy.
const NO_PROXY: &[&str] = &["NO_PROXY", "no_proxy"];
/// In such a variable: for no host at all.
const EVERYTHING: &str = "*";

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
    /// Proxies that sandboxes are not told of.
    pub withheld: Vec<ProxyWithheld>,
}

/// A proxy of the dispatcher's environment that no agent's command line could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyWithheld {
    /// The variable that names it.
    pub variable: String,
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
    let mut provider_is_here = false;
    if let Some(url) = &given.settings.anthropic_base_url {
        let rewritten = http::rewrite(url, Service::Provider)?;
        provider_is_here = !rewritten.targets.is_empty();
        settings.insert("ANTHROPIC_BASE_URL".to_owned(), keep(rewritten));
    }
    let Proxies { named, mut exceptions, withheld } = Proxies::of(given.environment);
    if provider_is_here && !named.is_empty() {
        except_the_host(&mut exceptions);
    }
    let mut environment: BTreeMap<String, Secret> =
        exceptions.into_iter().map(|(name, list)| (name, Secret::new(list))).collect();
    for (name, proxy) in named {
        environment.insert(name, keep(http::rewrite(&proxy, Service::Proxy)?));
    }
    Ok(Addresses { database, redis, settings, environment, targets, withheld })
}

/// The proxies of an environment, as agents' command lines read them.
#[derive(Debug)]
struct Proxies {
    named: BTreeMap<String, String>,
    exceptions: BTreeMap<String, String>,
    withheld: Vec<ProxyWithheld>,
}

impl Proxies {
    fn of(environment: &BTreeMap<String, String>) -> Self {
        let set = |names: &[&str]| {
            let set = environment.iter().filter(|(_, value)| !value.is_empty());
            set.filter(|(name, _)| names.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<BTreeMap<_, _>>()
        };
        let exceptions = set(NO_PROXY);
        if exceptions.values().any(|list| items(list).any(|item| item == EVERYTHING)) {
            return Self { named: BTreeMap::new(), exceptions, withheld: Vec::new() };
        }
        let mut named = BTreeMap::new();
        let mut withheld = Vec::new();
        for (variable, value) in set(PROXIES) {
            match value.split_once("://") {
                // Without a scheme it is plain HTTP.
                None => drop(named.insert(variable, format!("http://{value}"))),
                Some((scheme, _)) if is_http(scheme) => drop(named.insert(variable, value)),
                Some(_) => withheld.push(ProxyWithheld { variable }),
            }
        }
        // Beside others it says nothing new.
        if named.is_empty() {
            let of_all = set(&["ALL_PROXY", "all_proxy"]).into_keys();
            withheld.extend(of_all.map(|variable| ProxyWithheld { variable }));
        }
        Self { named, exceptions, withheld }
    }
}

impl fmt::Display for ProxyWithheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "agents in sandboxes are not told of the proxy in {}", self.variable)
    }
}

impl ProxyWithheld {
    /// What a person can do about it.
    pub const HINT: &str = "agents' command lines know HTTP_PROXY and HTTPS_PROXY, each with the address of an HTTP proxy";
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ']).map(str::trim)
}

/// A provider on this machine is reached without a proxy: none knows the name that the host has in a sandbox. Command
/// lines read one of the variables or the other.
fn except_the_host(exceptions: &mut BTreeMap<String, String>) {
    if exceptions.is_empty() {
        exceptions.extend(NO_PROXY.iter().map(|name| ((*name).to_owned(), HOST_NAME.to_owned())));
    }
    for list in exceptions.values_mut() {
        if !items(list).any(|item| item == HOST_NAME) {
            *list = format!("{list},{HOST_NAME}");
        }
    }
}

#[cfg(test)]
mod tests {
    use core_config::load::load;

    use super::*;

    fn rewritten(environment: &[(&str, &str)], provider: &str) -> Addresses {
        let pairs = [("ANTHROPIC_BASE_URL", provider)];
        let pairs = pairs.map(|(key, value)| (key.into(), value.into()));
        let settings = load(pairs, None).unwrap().settings;
        let environment = environment.iter();
        let environment =
            environment.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let given = Given {
            database: Some(&Secret::new("postgres://u:p@localhost/d")),
            redis: Some(&Secret::new("redis+unix:///run/redis.sock")),
            settings: &settings,
            environment: &environment,
        };
        let network = Network { name: "bridge", gateways: &[], engine_is_here: true };
        rewrite(given, network).unwrap()
    }

    #[track_caller]
    fn agent_sees(addresses: &Addresses, expected: &[(&str, &str)]) {
        let shown = addresses.environment.iter();
        let shown: Vec<_> = shown.map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(shown, expected);
    }

    fn withheld(addresses: &Addresses) -> Vec<&str> {
        addresses.withheld.iter().map(|proxy| proxy.variable.as_str()).collect()
    }

    #[test]
    fn every_address_is_rewritten_and_every_target_known() {
        let environment = [
            ("https_proxy", "http://u:p@127.0.0.1:3128"),
            ("HTTP_PROXY", "localhost:3129"),
            ("ALL_PROXY", "socks5://127.0.0.1:1080"),
            ("NO_PROXY", "localhost,.example"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
        ];
        let addresses = rewritten(&environment, "http://localhost:8080");
        let database = addresses.database.as_ref().unwrap().expose();
        assert_eq!(database, "postgres://u:p@host.docker.internal/d");
        assert_eq!(addresses.redis, None);
        let url = addresses.settings["ANTHROPIC_BASE_URL"].expose();
        assert_eq!(url, "http://host.docker.internal:8080");
        let expected = [
            ("HTTP_PROXY", "http://host.docker.internal:3129"),
            ("NO_PROXY", "localhost,.example,host.docker.internal"),
            ("https_proxy", "http://u:p@host.docker.internal:3128"),
        ];
        agent_sees(&addresses, &expected);
        let mut services: Vec<_> =
            addresses.targets.iter().map(|target| (target.port, target.service)).collect();
        services.sort_unstable();
        let expected = [
            (3128, Service::Proxy),
            (3129, Service::Proxy),
            (5432, Service::Postgres),
            (8080, Service::Provider),
        ];
        assert_eq!(services, expected);
        assert!(withheld(&addresses).is_empty(), "ALL_PROXY says nothing that the others do not");
    }

    #[test]
    fn a_provider_on_this_machine_is_reached_without_the_proxy() {
        let proxy = ("HTTPS_PROXY", "http://proxy.example:1");
        let here = "http://127.0.0.1:8080";
        agent_sees(
            &rewritten(&[proxy], here),
            &[proxy, ("NO_PROXY", HOST_NAME), ("no_proxy", HOST_NAME)],
        );
        let listed = ("no_proxy", ".example host.docker.internal");
        agent_sees(&rewritten(&[proxy, listed], here), &[proxy, listed]);
        agent_sees(&rewritten(&[proxy], "https://model.example"), &[proxy]);
        agent_sees(&rewritten(&[], here), &[]);
    }

    #[test]
    fn proxies_that_no_command_line_uses_are_named_and_left_out() {
        let odd = [("HTTPS_PROXY", "socks5h://127.0.0.1:1080"), ("all_proxy", "proxy.example:1")];
        let addresses = rewritten(&odd, "https://model.example");
        agent_sees(&addresses, &[]);
        assert_eq!(withheld(&addresses), ["HTTPS_PROXY", "all_proxy"]);
        assert!(addresses.withheld[0].to_string().ends_with("the proxy in HTTPS_PROXY"));

        let loud =
            [("HTTPS_PROXY", "HTTP://localhost:1"), ("all_proxy", "socks5://proxy.example:1")];
        let addresses = rewritten(&loud, "https://model.example");
        agent_sees(&addresses, &[("HTTPS_PROXY", "HTTP://host.docker.internal:1")]);
        assert!(withheld(&addresses).is_empty());
    }

    #[test]
    fn proxies_that_serve_no_host_lead_nowhere() {
        let none = ("NO_PROXY", ".example, *");
        let addresses = rewritten(&[("HTTPS_PROXY", "http://127.0.0.1:1"), none], "http://[::1]:2");
        agent_sees(&addresses, &[none]);
        let ports: Vec<_> = addresses.targets.iter().map(|target| target.port).collect();
        assert_eq!(ports, [5432, 2]);
    }
}
