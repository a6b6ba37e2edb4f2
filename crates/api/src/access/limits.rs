//! How many requests one address may send: a bucket for each, with a bound on how many are remembered.
//!
//! An address is that of the socket. Headers that name another one are for proxies, and anybody can send them.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The most addresses that are remembered; some hundred kilobytes.
const REMEMBERED: usize = 10_000;
/// What is allowed in this time can be used at once, and is full again after it.
const WINDOW: Duration = Duration::from_secs(60);
/// How much more than others this machine may ask: all its programs and pages have one address.
const LOCAL_FACTOR: u32 = 10;

/// Whose requests are counted together: one IPv4 address, or one IPv6 network of 64 bits, which is what one
/// subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Peer(IpAddr);

impl Peer {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from_bits(network)))
            }
            address @ (IpAddr::V4(_) | IpAddr::V6(_)) => Self(address),
        }
    }

    /// Whether the peer is this machine.
    pub(crate) fn is_here(self) -> bool {
        self.0.is_loopback()
    }

    /// What this peer may ask in a minute, where others may ask so much.
    pub(crate) fn allowance(self, per_minute: u32) -> u32 {
        if self.is_here() { per_minute.saturating_mul(LOCAL_FACTOR) } else { per_minute }
    }
}

/// What is left of an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// How many a minute has.
    pub(crate) limit: u32,
    /// How many may follow at once.
    pub(crate) remaining: u32,
    /// When all may follow again.
    pub(crate) full_in: Duration,
}

/// Too many; one more may come after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) limit: u32,
    pub(crate) after: Duration,
}

/// Counts for each peer.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// For each peer the moment at which its bucket is full again; what lies in the past need not be remembered.
    full_at: Mutex<HashMap<Peer, Instant>>,
}

impl Meter {
    /// Counts one.
    pub(crate) fn take(&self, peer: Peer, per_minute: u32, now: Instant) -> Result<Left, TooMany> {
        let mut peers = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = peers.get(&peer).map_or(now, |full_at| (*full_at).max(now));
        let left = after_one_more(full_at - now, per_minute)?;
        make_room(&mut peers, peer, now);
        peers.insert(peer, now + left.full_in);
        Ok(left)
    }

    /// Whether one more could be counted; counts none.
    pub(crate) fn look(&self, peer: Peer, per_minute: u32, now: Instant) -> Result<(), TooMany> {
        let peers = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = peers.get(&peer).map_or(now, |full_at| (*full_at).max(now));
        after_one_more(full_at - now, per_minute).map(drop)
    }
}

/// A bucket that needs `to_fill` to be full, after one more was taken from it.
fn after_one_more(to_fill: Duration, per_minute: u32) -> Result<Left, TooMany> {
    let limit = per_minute.max(1);
    let one = WINDOW / limit;
    let full_in = to_fill + one;
    if full_in > WINDOW {
        return Err(TooMany { limit, after: full_in - WINDOW });
    }
    let remaining = (WINDOW - full_in).as_nanos() / one.as_nanos().max(1);
    Ok(Left { limit, remaining: u32::try_from(remaining).unwrap_or(limit), full_in })
}

/// Forgets peers whose buckets are full; where that is not enough, the one whose is the least empty.
fn make_room(peers: &mut HashMap<Peer, Instant>, peer: Peer, now: Instant) {
    if peers.len() < REMEMBERED || peers.contains_key(&peer) {
        return;
    }
    peers.retain(|_, full_at| *full_at > now);
    if peers.len() < REMEMBERED {
        return;
    }
    let fullest = peers.iter().min_by_key(|(_, full_at)| **full_at).map(|(peer, _)| *peer);
    if let Some(fullest) = fullest {
        peers.remove(&fullest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::of(address.parse().unwrap())
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_one_after_the_other() {
        let (meter, mut now) = (Meter::default(), Instant::now());
        for remaining in (0..60).rev() {
            let left = meter.take(peer("10.0.0.1"), 60, now).unwrap();
            assert_eq!((left.limit, left.remaining), (60, remaining));
        }
        let refused = meter.take(peer("10.0.0.1"), 60, now).unwrap_err();
        assert_eq!(refused, TooMany { limit: 60, after: Duration::from_secs(1) });
        assert_eq!(meter.look(peer("10.0.0.1"), 60, now), Err(refused));
        meter.take(peer("10.0.0.2"), 60, now).expect("another address has a bucket of its own");
        now += Duration::from_secs(1);
        meter.take(peer("10.0.0.1"), 60, now).unwrap();
        meter.take(peer("10.0.0.1"), 60, now).unwrap_err();
        now += WINDOW;
        assert_eq!(meter.take(peer("10.0.0.1"), 60, now).unwrap().remaining, 59);
    }

    #[test]
    fn a_limit_that_was_lowered_holds_at_once() {
        let (meter, now) = (Meter::default(), Instant::now());
        for _ in 0..30 {
            meter.take(peer("10.0.0.1"), 60, now).unwrap();
        }
        assert!(meter.take(peer("10.0.0.1"), 1, now).is_err());
    }

    #[test]
    fn the_addresses_of_one_subscriber_are_one_peer() {
        assert_eq!(peer("2001:db8:0:1::1"), peer("2001:db8:0:1:ffff::9"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8:0:2::1"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("::1"), peer("::2"));
        for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(peer(local).allowance(5), 50, "{local}");
        }
        assert_eq!(peer("10.0.0.1").allowance(5), 5);
    }

    #[test]
    fn no_more_peers_are_remembered_than_there_is_room_for() {
        let (meter, now) = (Meter::default(), Instant::now());
        let busy = peer("10.0.0.1");
        for _ in 0..3 {
            meter.take(busy, 3, now).unwrap();
        }
        for number in 0..2 * u32::try_from(REMEMBERED).unwrap() {
            let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + number);
            meter.take(Peer::of(address.into()), 3, now).unwrap();
        }
        assert_eq!(meter.full_at.lock().unwrap().len(), REMEMBERED);
        assert!(meter.take(busy, 3, now).is_err(), "whoever asks too much is not forgotten for it");
        meter.take(peer("10.0.0.2"), 3, now + WINDOW).unwrap();
        assert_eq!(meter.full_at.lock().unwrap().len(), 1, "full buckets are forgotten first");
    }
}
