//! How many connections one address of another machine has at once, so that none takes every place.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::access::limits::Peer;

/// Connections by who made them; clones share the count.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    limit: usize,
    counts: Arc<Mutex<HashMap<Peer, usize>>>,
}

/// One connection of a peer; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct Member {
    crowd: Crowd,
    peer: Peer,
}

impl Crowd {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, counts: Arc::default() }
    }

    /// Counts a connection; none where its peer has as many as it may. This machine is not limited: all its programs
    /// share one address, and it has other ways to do harm.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Member> {
        let peer = Peer::of(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        if *count >= self.limit && !peer.is_here() {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Member { crowd: self.clone(), peer })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_so_many_connections_and_another_has_its_own() {
        let crowd = Crowd::new(2);
        let admit = |address: &str| crowd.admit(address.parse().unwrap());
        let (first, _second) = (admit("10.0.0.1").unwrap(), admit("10.0.0.1").unwrap());
        assert!(admit("10.0.0.1").is_none());
        assert!(admit("::ffff:10.0.0.1").is_none(), "the same address written otherwise");
        let other = admit("10.0.0.2").unwrap();
        drop((first, other));
        let _third = admit("10.0.0.1").unwrap();
        assert!(admit("10.0.0.1").is_none());
        assert_eq!(crowd.counts.lock().unwrap().len(), 1, "who has none is forgotten");
        let here: Vec<Member> = (0..5).map(|_| admit("127.0.0.1").unwrap()).collect();
        assert_eq!(here.len(), 5);
    }
}
