//! Every page as people see it, whatever they see with; and an error of every route.
//!
//! Pictures of the pages are kept in `target/tmp/screenshots`.

use serde_json::{Value, json};

use super::{
    checks::Rules,
    chromium::{Browser, Window},
    world::{AGENT, OVER, RUN, World},
};

/// Where the dashboard's routes are declared.
const ROUTES: &str = include_str!("../../../../../crates/api/src/pages.rs");

/// Asks for one address after another as pages' own script does, and gives what people would see.
const ASK: &str = r"
    const [asked, done] = arguments;
    const token = document.querySelector('[name=form_token]').value;
    const look = async ({ method, path, form }) => {
        const body = form ? new URLSearchParams({ form_token: token, ...form }) : undefined;
        const answer = await fetch(path, { method, body, headers: { accept: 'text/html' } });
        const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
        const texts = (selector) => [...page.querySelectorAll(selector)].map((e) => e.textContent.trim()).join(' ');
        return { status: answer.status, title: texts('h1'), text: texts('main p, main li'), ways: texts('main a, main button') };
    };
    Promise.all(asked.map(look)).then(done, (error) => done(String(error)));
";

/// A request that cannot be done.
struct Wrong {
    route: String,
    asked: Value,
    status: u16,
}

fn get(route: &str, path: &str, status: u16) -> Wrong {
    let asked = json!({ "method": "GET", "path": path });
    Wrong { route: format!("get {route}"), asked, status }
}

fn post(route: &str, path: &str, fields: &Value, status: u16) -> Wrong {
    let asked = json!({ "method": "POST", "path": path, "form": fields });
    Wrong { route: format!("post {route}"), asked, status }
}

/// A form without what this server gives with each of its forms.
fn forged(route: &str) -> Wrong {
    let asked = json!({ "method": "POST", "path": route, "form": { "form_token": "0" } });
    Wrong { route: format!("post {route}"), asked, status: 403 }
}

/// A page that has no fault of its own, asked for in a way that it does not know.
fn misused(route: &str) -> Wrong {
    Wrong {
        route: format!("get {route}"),
        asked: json!({ "method": "PUT", "path": route }),
        status: 405,
    }
}

fn wrong_requests(world: &World) -> Vec<Wrong> {
    let run = format!("/ui/runs/run-{RUN}");
    let task = format!("/ui/tasks/{}", world.task);
    let nobody = format!("/ui/tasks/task-{}", "0".repeat(32));
    let setting = "/ui/system/settings/TASK_MAX_ATTEMPTS";
    vec![
        misused("/"),
        get("/ui/tasks", "/ui/tasks?status=strange", 400),
        misused("/ui/tasks/new"),
        post("/ui/tasks/new", "/ui/tasks/new", &json!({ "title": "t" }), 422),
        get("/ui/tasks/{id}", &nobody, 404),
        post("/ui/tasks/{id}/cancel", &format!("{nobody}/cancel"), &json!({}), 404),
        post("/ui/tasks/{id}/retry", &format!("{task}/retry"), &json!({}), 409),
        get("/ui/runs", "/ui/runs?outcome=strange", 400),
        get("/ui/runs/{id}", "/ui/runs/x", 400),
        get("/ui/runs/{id}/log", &format!("{run}/log?after=x"), 400),
        get("/ui/runs/{id}/changes", &format!("{run}/changes"), 409),
        misused("/ui/agents"),
        get("/ui/agents/{id}", "/ui/agents/x", 400),
        misused("/ui/system"),
        post("/ui/system/self-test", "/ui/system/self-test", &json!({}), 409),
        forged("/ui/system/stop-all"),
        forged("/ui/system/start-all"),
        get("/ui/system/readiness", "/ui/system/readiness?environment=moon", 400),
        post("/ui/system/gates/{executor}", "/ui/system/gates/nobody", &json!({}), 400),
        get("/ui/system/processes/{name}", "/ui/system/processes/nobody", 404),
        post("/ui/system/processes/{name}", "/ui/system/processes/dispatcher", &json!({}), 422),
        get("/ui/system/switch", "/ui/system/switch?to=cloud", 400),
        post("/ui/system/switch", "/ui/system/switch", &json!({ "to": "cloud" }), 400),
        misused("/ui/system/settings"),
        get("/ui/system/settings/{key}", "/ui/system/settings/NO_SUCH_KEY", 404),
        post(
            "/ui/system/settings/{key}",
            setting,
            &json!({ "revision": "0", "value": "many" }),
            400,
        ),
        misused("/ui/live"),
        misused("/ui/login"),
        post("/ui/login", "/ui/login", &json!({ "key": "the-wrong-key-0001" }), 401),
        forged("/ui/logout"),
        forged("/ui/language"),
        get("/ui/assets/{name}", "/ui/assets/style.0.css", 404),
    ]
}

/// The routes that are declared, each with its method.
fn declared_routes() -> Vec<String> {
    let declared = ROUTES.lines().filter_map(|line| {
        let (method, rest) = line.trim().strip_prefix('.')?.split_once("(\"")?;
        Some(format!("{method} {}", rest.split('"').next()?))
    });
    declared.collect()
}

/// Each page with the beginning of its heading in both languages.
fn pages(world: &World) -> Vec<(&'static str, String, [&'static str; 2])> {
    let task = format!("/ui/tasks/{}", world.task);
    vec![
        ("overview", "/".into(), ["Overview", "概要"]),
        ("tasks", "/ui/tasks".into(), ["Tasks", "タスク"]),
        ("board", "/ui/tasks?view=board".into(), ["Tasks", "タスク"]),
        ("new-task", "/ui/tasks/new".into(), ["New task", "新しいタスク"]),
        ("task", task, ["<img src=x", "<img src=x"]),
        ("run", format!("/ui/runs/run-{OVER}"), ["Run 1", "実行 1"]),
        ("changes", format!("/ui/runs/run-{OVER}/changes"), ["Changes", "変更"]),
        ("runs", "/ui/runs".into(), ["Runs", "実行"]),
        ("agents", "/ui/agents".into(), ["Agents", "エージェント"]),
        ("agent", format!("/ui/agents/agent-{AGENT}"), ["worker-1"; 2]),
        ("system", "/ui/system".into(), ["System", "システム"]),
        ("readiness", "/ui/system/readiness?environment=host".into(), ["Readiness", "準備"]),
        ("process", "/ui/system/processes/dispatcher".into(), ["Dispatcher", "Dispatcher"]),
        ("switch", "/ui/system/switch?to=sandbox".into(), ["Switch to sandbox", "切り替え"]),
        ("settings", "/ui/system/settings".into(), ["Settings", "設定"]),
        ("setting", "/ui/system/settings/TASK_MAX_ATTEMPTS".into(), ["TASK_MAX_ATTEMPTS"; 2]),
        ("login", "/ui/login".into(), ["Sign in", "サインイン"]),
        ("error", "/ui/nowhere".into(), ["There is nothing here", "ここには何もありません"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_keeps_nobody_out_runs_no_hostile_text_and_asks_nobody_else() {
    let mut world = World::start(&[("OPENTIGER_PROCESS_MANAGER", "on")]).await;
    world.begin_run().await;
    world.say(1, super::world::HOSTILE).await;
    world.work().await;
    let browser = Browser::start(&world.server.address()).await;
    browser.open("/ui/login").await;
    for (name, path, headings) in pages(&world) {
        look_at_page(&browser, (name, &path), headings).await;
    }
    browser.check_console(&["status of 404"]).await;
    browser.language("en").await;
    every_route_fails_in_words(&browser, &world).await;
    // Each of them is a line there.
    browser.check_console(&["the server responded with a status of 4"]).await;
    browser.check_requests().await;
}

/// English on a wide window and Japanese on a phone, each in light and dark.
async fn look_at_page(browser: &Browser, (name, path): (&str, &str), headings: [&str; 2]) {
    for (language, window, heading) in
        [("en", Window::Wide, headings[0]), ("ja", Window::Phone, headings[1])]
    {
        browser.resize(window).await;
        browser.colour("light").await;
        browser.language(language).await;
        browser.open(path).await;
        let (seen, name) = (browser.text("h1").await, format!("{name}-{language}"));
        assert!(seen.starts_with(heading), "{name}: {seen}");
        browser.wait_until_whole().await;
        browser.check_page(&name).await;
        browser.check_access(&name, Rules::All).await;
        browser.picture(&format!("{name}-{}-light", window.name())).await;
        browser.colour("dark").await;
        browser.check_access(&name, Rules::Colours).await;
        browser.picture(&format!("{name}-{}-dark", window.name())).await;
    }
}

async fn every_route_fails_in_words(browser: &Browser, world: &World) {
    browser.open("/").await;
    let wrong = wrong_requests(world);
    let mut routes: Vec<&str> = wrong.iter().map(|one| one.route.as_str()).collect();
    let mut declared = declared_routes();
    routes.sort_unstable();
    declared.sort_unstable();
    assert_eq!(routes, declared, "an error of every route is looked at");
    let asked: Vec<Value> = wrong.iter().map(|one| one.asked.clone()).collect();
    let seen = browser.script_that_calls_back(ASK, vec![Value::from(asked)]).await;
    for (one, seen) in wrong.iter().zip(seen.as_array().expect("they were asked for")) {
        assert_eq!(seen["status"], one.status, "{}: {seen}", one.route);
        check_failure(&one.route, seen);
    }
}

/// What people see says what is wrong in words, and where to go.
fn check_failure(route: &str, seen: &Value) {
    let said = |key: &str| seen[key].as_str().unwrap_or_default().to_owned();
    assert!(said("title").len() > 5 && said("text").len() > 10, "{route}: {seen}");
    assert!(!said("ways").is_empty(), "{route}: {seen}");
    assert!(!said("text").contains(['{', '}']), "{route} speaks to programs: {seen}");
}
