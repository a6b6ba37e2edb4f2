//! Pages under access control, and what becomes of a browser whose test fails.

use testing::wait::wait_for;

use super::{
    chromium::{Browser, PATIENCE},
    driver::Process,
    world::World,
};

const KEY: &str = "the-right-key-0001";

#[tokio::test(flavor = "multi_thread")]
async fn with_access_control_people_sign_in_and_out_and_no_other_site_acts_for_them() {
    let mut world = World::start_with_key(KEY).await;
    let address = world.server.address();
    let browser = Browser::start(&address).await;
    browser.open("/ui/tasks").await;
    assert_eq!(browser.text("h1").await, "Sign in");
    sign_in(&browser, "the-wrong-key-0001").await;
    browser.wait_for_text("[role=alert]", "none of this server's keys").await;
    browser.check_access("the wrong key", super::checks::Rules::All).await;
    sign_in(&browser, KEY).await;
    browser.wait_for_text("h1", "Tasks").await;
    assert_eq!(browser.script("return document.cookie").await, "", "no script sees the session");

    another_site_sends_a_form(&browser, &format!("/ui/tasks/{}/cancel", world.task)).await;
    browser.open(&format!("/ui/tasks/{}", world.task)).await;
    assert!(browser.text("#state").await.contains("Queued"), "nothing was cancelled");
    // With the session, and still without what the server gives with its forms.
    browser
        .script("document.querySelectorAll('[name=form_token]').forEach((e) => { e.value = '0'; })")
        .await;
    browser.click("form[action='/ui/logout'] button").await;
    browser.wait_for_text("main", "load the page again").await;

    browser.open("/ui/system").await;
    browser.click("form[action='/ui/logout'] button").await;
    browser.wait_for_text("h1", "Sign in").await;
    browser.open("/ui/system").await;
    assert_eq!(browser.text("h1").await, "Sign in");
    browser.check_console(&["status of 401", "status of 403"]).await;
    browser.check_requests().await;
}

async fn sign_in(browser: &Browser, key: &str) {
    browser.fill("#key", key).await;
    browser.click("main button").await;
}

/// A page of nobody sends a form here, in the browser of somebody who is signed in.
async fn another_site_sends_a_form(browser: &Browser, path: &str) {
    let action = format!("{}{path}", browser.base());
    browser.go_to(&format!("data:text/html,<form method=post action=\"{action}\"></form>")).await;
    browser.script("document.forms[0].submit()").await;
    wait_for("the server's answer", PATIENCE, async || {
        let page = browser.script("return document.querySelector('main')?.textContent ?? ''").await;
        let said = page.as_str().unwrap_or_default().to_owned();
        if said.is_empty() { Err(said) } else { Ok(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_fails_leaves_no_browser_behind() {
    let browser = Browser::start("127.0.0.1:1").await;
    let processes = browser.processes();
    assert!(processes.len() > 2, "a driver, a browser and its parts: {processes:?}");
    assert!(processes.iter().all(Process::is_alive));
    let failing = std::thread::spawn(move || {
        let _browser = browser;
        panic!("a test fails");
    });
    assert!(failing.join().is_err());
    wait_for("their end", PATIENCE, async || {
        let alive: Vec<&Process> = processes.iter().filter(|one| one.is_alive()).collect();
        if alive.is_empty() { Ok(()) } else { Err(format!("{alive:?}")) }
    })
    .await;
}
