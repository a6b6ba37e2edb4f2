//! What people do with the pages: with a mouse, and with a keyboard alone.

use rustix::process::Signal;
use testing::wait::wait_for;
use thirtyfour::Key;

use super::{
    chromium::{Browser, PATIENCE},
    world::{HOSTILE, OVER, RUN, World, serve},
};
use crate::program::{get, json};

/// Where the focus is and what is seen of it: the same for people who see an outline as for this test.
const FOCUS: &str = r"
    const e = document.activeElement;
    const style = getComputedStyle(e);
    const box = e.getBoundingClientRect();
    const middle = box.top + box.height / 2;
    return {
        at: e.id || e.name || e.getAttribute('href') || e.textContent.trim().slice(0, 40),
        number: [...document.querySelectorAll('*')].indexOf(e),
        seen: e.matches(':focus-visible') && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
            && box.width > 1 && box.height > 1 && middle > 0 && middle < innerHeight,
        how: [e.matches(':focus-visible'), style.outline, middle, innerHeight].join(' '),
    };
";
/// How many elements can be reached; of radio buttons, one of each group.
const REACHABLE: &str = r"
    const all = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]';
    return [...document.querySelectorAll(all)].filter((e) => e.tabIndex >= 0 && !e.matches(':disabled')
        && (e.type !== 'radio' || e.checked) && e.checkVisibility()).length;
";

#[tokio::test(flavor = "multi_thread")]
async fn people_follow_a_log_switch_where_agents_run_and_make_tasks() {
    let mut world = World::start(&[]).await;
    world.begin_run().await;
    world.say(1, "the first line").await;
    let browser = Browser::start(&world.server.address()).await;
    a_log_grows_over_a_restart_and_can_be_searched(&browser, &mut world).await;
    agents_are_sent_to_the_sandbox_and_back_while_a_task_runs(&browser).await;
    world.work().await;
    tasks_are_found_and_done_once_more(&browser).await;
    a_run_shows_what_it_verified_and_changed(&browser).await;
    a_setting_is_changed_and_reset_and_a_gate_is_tried(&browser).await;
    a_task_is_made_with_a_keyboard_alone(&browser, &mut world).await;
    every_part_of_a_page_is_reached_in_its_order(&browser).await;
    browser.check_page("at the end").await;
    browser.check_requests().await;
}

async fn a_log_grows_over_a_restart_and_can_be_searched(browser: &Browser, world: &mut World) {
    browser.open(&format!("/ui/runs/run-{RUN}")).await;
    browser.wait_for_text("#log", "the first line").await;
    world.say(2, HOSTILE).await;
    browser.wait_for_text("#log", "onerror").await;
    browser.check_console(&[]).await;
    let address = world.server.address();
    world.server.signal(Signal::KILL);
    world.server.exit_code();
    browser.wait_for_text("#live-state", "lost").await;
    world.say(3, "while nobody served").await;
    world.server = serve(&world.database, &[("OPENTIGER_API_LISTEN", &address)]);
    assert_eq!(world.server.address(), address);
    browser.wait_for_text("#log", "while nobody served").await;
    world.say(4, "the needle").await;
    browser.wait_for_text("#log", "the needle").await;
    let seen = browser.text("#log").await;
    for line in ["the first line", "onerror", "while nobody served", "the needle"] {
        assert_eq!(seen.matches(line).count(), 1, "`{line}` once: {seen}");
    }
    browser.fill("#log-search", "NEEDLE").await;
    let seen = browser.text("#log").await;
    assert!(seen.contains("the needle") && !seen.contains("the first line"), "{seen}");
    assert_eq!(browser.text("#log-bar output").await, "1");
    world.say(5, "not looked for").await;
    world.say(6, "a second needle").await;
    browser.wait_for_text("#log", "a second needle").await;
    assert!(!browser.text("#log").await.contains("not looked for"));
    browser.check_page("the run's page").await;
    browser.picture("log-wide-light").await;
    // While the server was away, nothing answered.
    browser.check_console(&["net::ERR_"]).await;
}

/// There by mouse, back by keyboard.
async fn agents_are_sent_to_the_sandbox_and_back_while_a_task_runs(browser: &Browser) {
    for to in ["sandbox", "host"] {
        browser.open("/ui/system").await;
        if to == "sandbox" {
            browser.click("input[value=sandbox]").await;
            browser.click("form[action='/ui/system/switch'] button").await;
        } else {
            tab_to(browser, "to").await;
            browser.press(Key::Up).await;
            browser.press(Key::Tab).await;
            browser.press(Key::Enter).await;
        }
        browser.wait_for_text("h1", &format!("Switch to {to}")).await;
        browser.wait_for_text("main", "Runs that are alive finish where they are: 1").await;
        if to == "sandbox" {
            browser.click("form[method=post] button:not(.quiet)").await;
        } else {
            tab_to(browser, "Switch").await;
            browser.press(Key::Space).await;
        }
        browser.wait_for_text(".said", "Switched.").await;
        assert!(browser.exists(&format!("input[value={to}]:checked")).await);
    }
    browser.check_console(&[]).await;
}

async fn tasks_are_found_and_done_once_more(browser: &Browser) {
    browser.open("/ui/tasks?view=board").await;
    browser.wait_for_text("#column-blocked", "Blocked").await;
    assert!(browser.text("#board").await.contains("Blocked task"));
    browser.open("/ui/tasks").await;
    browser.fill("#q", "failed T").await;
    browser.press(Key::Enter).await;
    browser.wait_for_text("#tasks", "Failed task").await;
    assert!(!browser.text("#tasks").await.contains("Done task"), "the others are not shown");
    browser.click("#tasks a").await;
    browser.wait_for_text("h1", "Failed task").await;
    browser.click(".ask summary").await;
    browser.fill("#feedback", "the tests too").await;
    browser.click(".ask[open] button").await;
    browser.wait_for_text(".said", "queued once more").await;
    browser.wait_for_text("#state", "Queued").await;
    browser.check_console(&[]).await;
}

async fn a_run_shows_what_it_verified_and_changed(browser: &Browser) {
    browser.open(&format!("/ui/runs/run-{OVER}")).await;
    browser.wait_for_text("#changes", "+    42").await;
    let verified = browser.text("#verification").await;
    assert!(verified.contains("exit code 1") && verified.contains("exit code 0"), "{verified}");
    browser.check_console(&[]).await;
}

async fn a_setting_is_changed_and_reset_and_a_gate_is_tried(browser: &Browser) {
    browser.open("/ui/system/settings").await;
    browser.click("a[href$=TASK_MAX_ATTEMPTS]").await;
    browser.fill("#value", "7").await;
    browser.click(".stack button").await;
    browser.wait_for_text(".said", "Saved").await;
    assert_eq!(browser.text(".facts code").await, "7");
    browser.click(".ask summary").await;
    browser.click(".ask[open] button").await;
    browser.wait_for_text(".facts", "default").await;
    assert_ne!(browser.text(".facts code").await, "7");
    browser.open("/ui/system").await;
    browser.click("form[action='/ui/system/gates/claude_code'] button").await;
    browser.wait_for_text(".said", "let through to try").await;
    browser.check_console(&[]).await;
}

async fn a_task_is_made_with_a_keyboard_alone(browser: &Browser, world: &mut World) {
    browser.open("/ui/tasks/new").await;
    tab_to(browser, "title").await;
    browser.type_text("Typed by hand").await;
    browser.press(Key::Tab).await;
    browser.type_text("a goal").await;
    tab_to(browser, "place").await;
    let place = world.repository.path().to_str().expect("the path is text");
    browser.type_text(place).await;
    tab_to(browser, "verification").await;
    browser.type_text("true").await;
    tab_to(browser, "More").await;
    browser.press(Key::Space).await;
    tab_to(browser, "priority").await;
    browser.type_text("7").await;
    browser.press(Key::Enter).await;
    browser.wait_for_text("h1", "Typed by hand").await;
    let path = browser.place().await;
    let id = path.trim_start_matches("/ui").split('?').next().unwrap_or_default().to_owned();
    let task = json(&get(&world.server.address(), &id));
    assert_eq!((&task["priority"], &task["goal"]), (&7.into(), &"a goal".into()), "{task}");
    tab_to(browser, "Cancel").await;
    browser.press(Key::Enter).await;
    browser.press(Key::Tab).await;
    browser.press(Key::Enter).await;
    browser.wait_for_text(".said", "cancelled").await;
    browser.check_console(&[]).await;
}

/// The order of Tab is the order of reading; the first step leads past the menu.
async fn every_part_of_a_page_is_reached_in_its_order(browser: &Browser) {
    for path in ["/ui/tasks", "/ui/system"] {
        browser.open(path).await;
        browser.wait_until_whole().await;
        let count = browser.script(REACHABLE).await.as_u64().expect("a number");
        let mut before = 0;
        for step in 0..count {
            browser.press(Key::Tab).await;
            let focus = browser.script(FOCUS).await;
            let number = focus["number"].as_u64().expect("something has the focus");
            assert!(number > before && focus["seen"] == true, "{path}, step {step}: {focus}");
            before = number;
        }
    }
    browser.open("/ui/tasks").await;
    browser.press(Key::Tab).await;
    browser.press(Key::Enter).await;
    let focus = browser.script(FOCUS).await;
    assert_eq!(focus["at"], "main", "the first link leads past the menu");
    browser.press(Key::Tab).await;
    let within = browser.script("return document.activeElement.closest('main') !== null").await;
    assert_eq!(within, true);
}

/// Presses Tab until the focus is at what is named so, by id, name, address or the beginning of its text.
async fn tab_to(browser: &Browser, name: &str) {
    wait_for(&format!("the focus at `{name}`"), PATIENCE, async || {
        browser.press(Key::Tab).await;
        let focus = browser.script(FOCUS).await;
        let at = focus["at"].as_str().unwrap_or_default();
        if at == name || (name.len() > 2 && at.starts_with(name)) { Ok(()) } else { Err(focus) }
    })
    .await;
}
