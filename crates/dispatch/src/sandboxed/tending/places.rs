//! Places for making checkouts: so many for each host of repositories, so that one that hangs holds up its own alone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use checkout::url::{RepositoryUrl, UrlRules};
use core_types::repository::Repository;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Checkouts made at once of the repositories of one host; this one counts as one.
const AT_ONCE: usize = 4;

/// The places of all hosts. How many checkouts are made in all is bounded by how many runs there may be.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<BTreeMap<String, Weak<Semaphore>>>);

impl Places {
    /// Waits for a place; it is given back with what is returned.
    pub(super) async fn take(&self, repository: &Repository) -> Option<OwnedSemaphorePermit> {
        self.of_host(&host(repository)).acquire_owned().await.ok()
    }

    fn of_host(&self, host: &str) -> Arc<Semaphore> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, places| places.strong_count() > 0);
        if let Some(places) = all.get(host).and_then(Weak::upgrade) {
            return places;
        }
        let places = Arc::new(Semaphore::new(AT_ONCE));
        all.insert(host.to_owned(), Arc::downgrade(&places));
        places
    }
}

/// Empty for this host.
fn host(repository: &Repository) -> String {
    match repository {
        Repository::Local { .. } => String::new(),
        Repository::Git { url } => {
            let rules = UrlRules { http_loopback: true };
            // What cannot be read as an address is refused before anything is fetched.
            let parsed = RepositoryUrl::parse(url, rules);
            parsed.map(|url| url.authority().to_owned()).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn git(url: &str) -> Repository {
        Repository::Git { url: url.to_owned() }
    }

    #[tokio::test]
    async fn a_host_without_a_place_holds_up_no_other() {
        let places = Places::default();
        let slow = git("https://slow.example/a/b");
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(places.take(&slow).await);
        }
        let same = git("https://SLOW.example/another");
        assert!(places.take(&same).now_or_never().is_none());
        assert!(places.take(&git("git@other.example:a/b")).now_or_never().is_some());
        let here = Repository::Local { path: "/srv/a".to_owned() };
        assert!(places.take(&here).now_or_never().is_some());
        held.pop();
        assert!(places.take(&same).now_or_never().is_some());
    }
}
