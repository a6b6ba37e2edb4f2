//! Logins, keys and providers, asked from inside a container by the real command lines.

use core_types::{
    auth::{AuthReason as R, CheckedBy},
    task::ExecutorKind::{ClaudeCode, Opencode},
};
use testing::account_host::{AccountHost, Usage};

use super::world::{Boxes, Image};

#[tokio::test]
async fn keys_that_the_provider_takes_are_ready() {
    let (boxes, stub) = Boxes::with_key("nothing").await;
    boxes.finds(ClaudeCode, "key, model answers", R::Ready, CheckedBy::Prompt).await;
    boxes.finds(Opencode, "key, model answers", R::Ready, CheckedBy::Prompt).await;
    assert_eq!(stub.requests().len(), 2);
}

#[tokio::test]
async fn what_the_provider_says_of_a_key_is_told_apart() {
    for (script, reason) in [
        ("refused-key", R::KeyInvalid),
        ("no-credit", R::AccountBlocked),
        ("broken", R::ProviderUnreachable),
    ] {
        let (boxes, _stub) = Boxes::with_key(script).await;
        boxes.finds(ClaudeCode, script, reason, CheckedBy::Prompt).await;
    }
    for (script, reason) in [("refused-key", R::KeyInvalid), ("limit-reached", R::RateLimited)] {
        let (boxes, _stub) = Boxes::with_key(script).await;
        boxes.finds(Opencode, script, reason, CheckedBy::Prompt).await;
    }
}

#[tokio::test]
async fn provider_that_is_away_or_hangs_is_told_in_time() {
    let (boxes, stub) = Boxes::with_key("nothing").await;
    stub.stop().await;
    boxes.finds(ClaudeCode, "nobody listens", R::ProviderUnreachable, CheckedBy::Prompt).await;
    let (boxes, _stub) = Boxes::with_key("hang").await;
    let report = boxes.check(ClaudeCode, "model never answers").await;
    let reason = report.finding.reason;
    assert!(matches!(reason, R::ProviderUnreachable | R::Timeout), "{report:?}");
}

#[tokio::test]
async fn logins_are_asked_about_without_a_model_and_never_renewed() {
    for (usage, script, model, reason, by) in [
        (Usage::Used(12), None, None, R::Ready, CheckedBy::Usage),
        (Usage::Used(100), None, None, R::RateLimited, CheckedBy::Usage),
        (Usage::Refused(401), Some("refused-key"), None, R::LoginExpired, CheckedBy::Prompt),
        (Usage::OfModel("opus", 100), None, Some("sonnet"), R::Ready, CheckedBy::Usage),
        (Usage::OfModel("opus", 100), None, Some("opus"), R::RateLimited, CheckedBy::Usage),
    ] {
        let mut boxes = Boxes::new();
        model_stub::login::write(&boxes.home()).unwrap();
        let path = boxes.home().join(".claude/.credentials.json");
        let login = std::fs::read_to_string(&path).unwrap();
        let login =
            login.replace(r#""refreshToken":"""#, r#""refreshToken":"sk-ant-ort01-made-up""#);
        std::fs::write(&path, &login).unwrap();
        let how = format!("{usage:?}, model {model:?}");
        let host = AccountHost::start(usage).await;
        let variables = host.variables();
        boxes.environment.insert("HTTPS_PROXY".to_owned(), variables["HTTPS_PROXY"].clone());
        // Whom the command line trusts is the image's affair.
        let authority = std::path::Path::new(&variables["NODE_EXTRA_CA_CERTS"]);
        let image =
            Image::with(&[("/authority.pem", authority)], &["NODE_EXTRA_CA_CERTS=/authority.pem"]);
        boxes.set("SANDBOX_DOCKER_IMAGE", &image.0);
        let _stub = match script {
            Some(script) => Some(boxes.model(script).await),
            // Told of another address than the provider's own, the CLI does not ask about limits.
            None => boxes.variables.remove("ANTHROPIC_BASE_URL").and(None),
        };
        if let Some(model) = model {
            boxes.set("CLAUDE_CODE_MODEL", model);
        }
        boxes.finds(ClaudeCode, &how, reason, by).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), login);
        let renewals = host.requests().into_iter().filter(|line| line.contains("/oauth/token"));
        assert_eq!(renewals.collect::<Vec<_>>(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn missing_unreadable_and_expired_logins_are_told_apart_and_start_nothing() {
    let boxes = Boxes::new();
    boxes.finds(ClaudeCode, "nobody logged in", R::LoginRequired, CheckedBy::Credentials).await;
    boxes.finds(Opencode, "nobody logged in", R::LoginRequired, CheckedBy::Credentials).await;
    let path = boxes.home().join(".claude/.credentials.json");
    std::fs::create_dir(boxes.home().join(".claude")).unwrap();
    std::fs::write(&path, "not json").unwrap();
    let unreadable = R::CredentialsUnreadable;
    boxes.finds(ClaudeCode, "damaged file", unreadable, CheckedBy::Credentials).await;
    let expired =
        r#"{"claudeAiOauth":{"accessToken":"sk-ant-oat01-x","refreshToken":"r","expiresAt":1}}"#;
    std::fs::write(&path, expired).unwrap();
    let report =
        boxes.finds(ClaudeCode, "token over", R::LoginExpired, CheckedBy::Credentials).await;
    assert!(report.finding.detail.unwrap().contains("a container cannot renew it"));
    assert!(
        !boxes.state.path().join("sandbox/relay").try_exists().unwrap(),
        "no relay was started"
    );
}
