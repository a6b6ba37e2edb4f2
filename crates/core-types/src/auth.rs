//! Whether an agent could run right now, and why not: the words, each with what to do about it.
//!
//! How it is found out is in `auth-probe`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    task::{ExecutionEnvironment, ExecutorKind},
    words,
};

mod texts;

words! {
    /// Why an agent could, or could not, run right now.
    AuthReason, "reason" {
        /// It could: the provider accepted the login or key a moment ago.
        Ready = "ready",
        /// There is no login and no key.
        LoginRequired = "login_required",
        /// The login has expired, or the provider does not take it any more.
        LoginExpired = "login_expired",
        /// The login is there and cannot be read.
        CredentialsUnreadable = "credentials_unreadable",
        /// The provider refuses the key.
        KeyInvalid = "key_invalid",
        /// The provider knows the account and does not let it work: billing, a rule, a hold.
        AccountBlocked = "account_blocked",
        /// The account's limit is reached.
        RateLimited = "rate_limited",
        /// The provider does not answer, is overloaded or fails.
        ProviderUnreachable = "provider_unreachable",
        /// The agent's program is not there.
        CliMissing = "cli_missing",
        /// The agent's program is there and cannot be used.
        CliIncompatible = "cli_incompatible",
        /// No Docker engine answers.
        DockerUnavailable = "docker_unavailable",
        /// The Docker engine does not let this user in.
        DockerPermissionDenied = "docker_permission_denied",
        /// The sandbox's image is not there.
        ImageMissing = "image_missing",
        /// The sandbox's image is there and cannot be used.
        ImageInvalid = "image_invalid",
        /// The sandbox's network is not there.
        NetworkMissing = "network_missing",
        /// The engine does not let the container see what it needs of the host.
        MountDenied = "mount_denied",
        /// A service that the container would be led to lets in whoever connects from this machine.
        ServiceOpenToLoopback = "service_open_to_loopback",
        /// A service that the container needs cannot be reached from there.
        ServiceUnreachable = "service_unreachable",
        /// There was no answer in time.
        Timeout = "timeout",
        /// It could not be found out. Never taken for ready.
        Unknown = "unknown",
    }
}

words! {
    /// How a reason was found out, the cheapest way first.
    CheckedBy, "way of checking" {
        /// By looking at the login and the program, without starting anything.
        Credentials = "credentials",
        /// By asking the provider how much of the account's limits is used. Costs nothing.
        Usage = "usage",
        /// By a prompt of one word.
        Prompt = "prompt",
    }
}

/// The language of a text for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Japanese.
    Japanese,
}

/// How much of one of an account's limits is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuotaWindow {
    /// The limit as the provider names it, such as `five_hour`.
    pub name: String,
    /// How much of it is used, in percent.
    pub used_percent: f64,
    /// When it begins anew.
    pub resets_at: Option<Timestamp>,
}

impl AuthReason {
    /// Whether a run would find its provider open. Only [`Self::Ready`] says so.
    #[must_use]
    pub const fn is_authenticated(self) -> bool {
        matches!(self, Self::Ready)
    }

    /// Whether the agent's program could be started and asked at all.
    #[must_use]
    pub const fn is_available(self) -> bool {
        match self {
            Self::Ready
            | Self::LoginRequired
            | Self::LoginExpired
            | Self::CredentialsUnreadable
            | Self::KeyInvalid
            | Self::AccountBlocked
            | Self::RateLimited
            | Self::ProviderUnreachable => true,
            Self::CliMissing
            | Self::CliIncompatible
            | Self::DockerUnavailable
            | Self::DockerPermissionDenied
            | Self::ImageMissing
            | Self::ImageInvalid
            | Self::NetworkMissing
            | Self::MountDenied
            | Self::ServiceOpenToLoopback
            | Self::ServiceUnreachable
            | Self::Timeout
            | Self::Unknown => false,
        }
    }

    /// What is the matter, for people.
    #[must_use]
    pub const fn message(self, executor: ExecutorKind, language: Language) -> &'static str {
        texts::message(self, executor, language)
    }

    /// What to do about it; nothing where it is ready.
    #[must_use]
    pub const fn hint(
        self,
        executor: ExecutorKind,
        environment: ExecutionEnvironment,
        language: Language,
    ) -> Option<&'static str> {
        texts::hint(self, executor, environment, language)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ready_is_authenticated() {
        let yes: Vec<_> = AuthReason::ALL.iter().filter(|r| r.is_authenticated()).collect();
        assert_eq!(yes, [&AuthReason::Ready]);
    }

    #[test]
    fn every_reason_says_in_both_languages_what_is_the_matter_and_what_to_do() {
        for reason in AuthReason::ALL {
            for executor in ExecutorKind::ALL {
                let message = |language| reason.message(*executor, language);
                assert!(message(Language::English).is_ascii(), "{reason}");
                assert!(!message(Language::Japanese).is_ascii(), "{reason}");
                for environment in ExecutionEnvironment::ALL {
                    let hint = |language| reason.hint(*executor, *environment, language);
                    let (english, japanese) = (hint(Language::English), hint(Language::Japanese));
                    assert_eq!(english.is_none(), *reason == AuthReason::Ready, "{reason}");
                    assert!(english.is_none_or(|text| text.is_ascii() && !text.ends_with('.')));
                    assert!(japanese.is_none_or(|text| !text.is_ascii()), "{reason}");
                    assert_eq!(english.is_none(), japanese.is_none());
                }
            }
        }
    }
}
