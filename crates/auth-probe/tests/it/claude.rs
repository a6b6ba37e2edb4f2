//! The real Claude Code.

use core_types::auth::{AuthReason as R, CheckedBy};
use testing::account_host::{AccountHost, Usage};

use crate::world::{World, found};

/// A world with a stored login, whose account is answered for like this.
async fn logged_in(usage: Usage) -> (World, AccountHost) {
    let mut world = World::new();
    model_stub::login::write(&world.home()).expect("the home can be written");
    let host = AccountHost::start(usage).await;
    world.variables.extend(host.variables());
    (world, host)
}

#[tokio::test]
async fn login_that_the_provider_takes_is_ready_without_a_model_and_tells_its_quota() {
    let (mut world, host) = logged_in(Usage::Used(12)).await;
    // Told of another address than the provider's own, the CLI does not ask about limits.
    world.settings.claude_code.base_url = None;
    let finding = world.claude().await;
    found(&finding, R::Ready, CheckedBy::Usage);
    let five_hours = finding.quota.iter().find(|window| window.name == "five_hour").unwrap();
    assert!((five_hours.used_percent - 12.0).abs() < 0.01 && five_hours.resets_at.is_some());
    assert_eq!(finding.quota.len(), 2);
    let asked = |what: &str| host.requests().iter().any(|line| line.contains(what));
    assert!(asked("/api/oauth/usage") && !asked("/v1/messages"), "{:?}", host.requests());
}

#[tokio::test]
async fn used_up_limit_is_told_with_the_time_it_begins_anew() {
    let (mut world, _host) = logged_in(Usage::Used(100)).await;
    world.settings.claude_code.base_url = None;
    let finding = world.claude().await;
    found(&finding, R::RateLimited, CheckedBy::Usage);
    assert_eq!(finding.retry_at, Some("2099-01-01T00:00:00Z".parse().unwrap()));
}

#[tokio::test]
async fn refused_login_is_told_apart_from_a_provider_that_is_away_and_is_never_renewed() {
    for (usage, script, reason) in [
        (Usage::Refused(401), "refused-key", R::LoginExpired),
        (Usage::Refused(403), "revoked", R::LoginExpired),
        (Usage::Refused(429), "limit-reached", R::RateLimited),
        (Usage::Refused(500), "broken", R::ProviderUnreachable),
        // The account's host does not answer this question, and the model does.
        (Usage::Refused(429), "nothing", R::Ready),
        (Usage::Hang, "nothing", R::Ready),
    ] {
        let (mut world, host) = logged_in(usage).await;
        let _stub = world.model(script).await;
        let path = world.home().join(".claude/.credentials.json");
        let login = std::fs::read_to_string(&path).unwrap();
        // As a real one: it could be renewed.
        let login =
            login.replace(r#""refreshToken":"""#, r#""refreshToken":"sk-ant-ort01-made-up""#);
        std::fs::write(&path, &login).unwrap();
        let finding = world.claude().await;
        found(&finding, reason, CheckedBy::Prompt);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), login);
        let renewals = host.requests().into_iter().filter(|line| line.contains("/oauth/token"));
        assert_eq!(renewals.collect::<Vec<_>>(), Vec::<String>::new());
        let in_home = std::fs::read_dir(world.home()).unwrap().count();
        assert_eq!(in_home, 1, "nothing is written into the home");
    }
}

#[tokio::test]
async fn keys_are_checked_by_a_prompt() {
    for (script, reason) in [
        ("nothing", R::Ready),
        ("refused-key", R::KeyInvalid),
        ("no-credit", R::AccountBlocked),
        ("broken", R::ProviderUnreachable),
        ("overloaded", R::ProviderUnreachable),
        ("busy", R::ProviderUnreachable),
    ] {
        let (world, _stub) = World::with_key(script).await;
        found(&world.claude().await, reason, CheckedBy::Prompt);
    }
}

#[tokio::test]
async fn provider_that_is_away_or_hangs_is_told_in_time() {
    let (world, stub) = World::with_key("nothing").await;
    stub.stop().await;
    found(&world.claude().await, R::ProviderUnreachable, CheckedBy::Prompt);
    let (world, _stub) = World::with_key("hang").await;
    let report = world.report(core_types::task::ExecutorKind::ClaudeCode).await;
    let reason = report.finding.reason;
    assert!(matches!(reason, R::ProviderUnreachable | R::Timeout), "{report:?}");
    assert!(report.took < std::time::Duration::from_secs(29), "{report:?}");
}
