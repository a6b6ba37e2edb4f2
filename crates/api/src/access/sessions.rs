//! Sessions of browsers: who signed in with a key, until they sign out, stay away, or this server ends.
//!
//! Kept here and nowhere else: a cookie holds a random number that means nothing to another server, and what is kept is
//! a digest of it. Cookies do not tell ports apart, so one is never believed in a request that a page of another origin
//! made.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use core_types::secret::Secret;
use http::{HeaderMap, header::COOKIE};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::access::caller::Caller;

/// The cookie that carries a session.
pub(crate) const SESSION_COOKIE: &str = "opentiger_session";
/// How long a session may go unused.
const IDLE: Duration = Duration::from_secs(12 * 60 * 60);
/// How long a session lasts at most.
pub(crate) const LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The most sessions that are kept; the one unused for longest makes room.
const KEPT: usize = 1000;

type Sum = [u8; 32];

#[derive(Debug)]
struct Session {
    caller: Caller,
    since: Instant,
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.used) > IDLE || now.duration_since(self.since) > LIFE
    }
}

/// Every open session.
#[derive(Debug)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<Sum, Session>>,
    /// What forms of callers without a session are marked with.
    anonymous: String,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { open: Mutex::default(), anonymous: random() }
    }

    /// Begins one; gives the cookie's value.
    pub(crate) fn begin(&self, caller: Caller, now: Instant) -> Secret {
        let token = random();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| !session.is_over(now));
        if open.len() >= KEPT
            && let Some(oldest) = open.iter().min_by_key(|(_, kept)| kept.used).map(|(sum, _)| *sum)
        {
            open.remove(&oldest);
        }
        open.insert(sum(&token), Session { caller, since: now, used: now });
        Secret::new(token)
    }

    /// Whose session a request belongs to.
    pub(crate) fn find(&self, headers: &HeaderMap, now: Instant) -> Option<Caller> {
        let key = sum(cookie(headers, SESSION_COOKIE)?);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&key)?.is_over(now) {
            open.remove(&key);
            return None;
        }
        let session = open.get_mut(&key)?;
        session.used = now;
        Some(session.caller.clone())
    }

    /// Ends the session of a request, if it has one.
    pub(crate) fn end(&self, headers: &HeaderMap) {
        if let Some(token) = cookie(headers, SESSION_COOKIE) {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&sum(token));
        }
    }

    /// What a form of this caller has to carry: a page of another site cannot know it.
    pub(crate) fn form_token(&self, headers: &HeaderMap, has_session: bool) -> String {
        let token = cookie(headers, SESSION_COOKIE).filter(|_| has_session);
        let digest = Sha256::new()
            .chain_update("form")
            .chain_update(&self.anonymous)
            .chain_update(token.unwrap_or_default());
        hex(&digest.finalize())
    }
}

/// The value of a cookie; none where it is there twice.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut values = pairs
        .flat_map(|pairs| pairs.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value);
    values.next().filter(|_| values.next().is_none())
}

/// 244 random bits.
fn random() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

fn sum(text: &str) -> Sum {
    Sha256::digest(text).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(cookie).unwrap())])
    }

    fn of(token: &Secret) -> HeaderMap {
        headers(&format!("a=b; {SESSION_COOKIE}={}", token.expose()))
    }

    #[test]
    fn a_session_is_found_until_it_ends_is_unused_for_long_or_is_old() {
        let (sessions, now) = (Sessions::new(), Instant::now());
        let token = sessions.begin(Caller::Bearer, now);
        let found = |at| sessions.find(&of(&token), at);
        assert_eq!(found(now + IDLE), Some(Caller::Bearer));
        assert_eq!(found(now + IDLE * 2), Some(Caller::Bearer), "use keeps it alive");
        sessions.end(&of(&token));
        assert_eq!(found(now + IDLE * 2), None);
        let token = sessions.begin(Caller::Bearer, now);
        assert_eq!(sessions.find(&of(&token), now + IDLE + Duration::from_secs(1)), None);
        let token = sessions.begin(Caller::Bearer, now);
        let mut at = now;
        while at <= now + LIFE {
            assert_eq!(sessions.find(&of(&token), at), Some(Caller::Bearer));
            at += IDLE;
        }
        assert_eq!(sessions.find(&of(&token), at), None);
    }

    #[test]
    fn what_was_never_given_out_and_what_is_there_twice_is_nobodys() {
        let (sessions, now) = (Sessions::new(), Instant::now());
        let token = sessions.begin(Caller::Bearer, now);
        let text = token.expose();
        for cookie in [
            String::new(),
            format!("{SESSION_COOKIE}="),
            format!("{SESSION_COOKIE}={text}0"),
            format!("{SESSION_COOKIE}={text}; {SESSION_COOKIE}={text}"),
            format!("x{SESSION_COOKIE}={text}"),
        ] {
            assert_eq!(sessions.find(&headers(&cookie), now), None, "{cookie}");
        }
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let (sessions, now) = (Sessions::new(), Instant::now());
        let first = sessions.begin(Caller::Bearer, now);
        for _ in 0..KEPT {
            sessions.begin(Caller::Bearer, now + Duration::from_secs(1));
        }
        assert_eq!(sessions.find(&of(&first), now), None);
        assert_eq!(sessions.open.lock().unwrap().len(), KEPT);
    }

    #[test]
    fn each_session_has_forms_of_its_own() {
        let (sessions, now) = (Sessions::new(), Instant::now());
        let (one, other) =
            (sessions.begin(Caller::Bearer, now), sessions.begin(Caller::Bearer, now));
        let token = |headers: &HeaderMap, has| sessions.form_token(headers, has);
        assert_ne!(token(&of(&one), true), token(&of(&other), true));
        assert_eq!(token(&of(&one), false), token(&HeaderMap::new(), false));
        assert_ne!(
            token(&HeaderMap::new(), false),
            Sessions::new().form_token(&HeaderMap::new(), false)
        );
    }
}
