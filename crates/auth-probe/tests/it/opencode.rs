//! The real opencode.

use core_types::auth::{AuthReason as R, CheckedBy};

use crate::world::World;

async fn check(script: &str, expected: &[R]) {
    let (world, _stub) = World::with_key(script).await;
    let finding = world.opencode().await;
    assert!(expected.contains(&finding.reason), "{script}: {finding:?}");
    assert_eq!(finding.checked_by, CheckedBy::Prompt);
}

#[tokio::test]
async fn key_that_is_taken_is_ready() {
    check("nothing", &[R::Ready]).await;
}

#[tokio::test]
async fn refused_keys_and_accounts_are_told_apart() {
    check("refused-key", &[R::KeyInvalid]).await;
    check("no-credit", &[R::AccountBlocked]).await;
}

#[tokio::test]
async fn provider_that_fails_is_told_although_opencode_goes_on_trying() {
    check("broken", &[R::ProviderUnreachable]).await;
    check("limit-reached", &[R::RateLimited]).await;
}
