//! The dashboard's pages without a script: who sees them, what forms do, how errors look, what browsers are told.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::json;

use crate::{
    agent::TestAgent,
    events::Stream,
    support::{Answer, Api},
};

const KEYS: [(&str, &str); 3] = [
    ("API_KEYS", "the-right-key-0001"),
    ("API_SECRET", "the-right-token-2"),
    ("OPENTIGER_ALLOW_INSECURE_SYSTEM_CONTROL", "false"),
];

/// A browser's memory of one server, without its script.
pub(crate) struct Browser<'a> {
    api: &'a Api,
    pub(crate) session: Option<String>,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
}

impl<'a> Browser<'a> {
    pub(crate) const fn new(api: &'a Api) -> Self {
        Self { api, session: None, headers: Vec::new() }
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> Answer {
        let mut request = self.api.request(method, path).header("accept", "text/html");
        if let Some(session) = &self.session {
            request = request.header("cookie", session);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request: Request<Full<Bytes>> =
            request.body(Full::from(body)).expect("the request is well-formed");
        self.api.send(request).await
    }

    pub(crate) async fn open(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, String::new()).await
    }

    /// Posts a form with the token that a page gave.
    pub(crate) async fn post(&self, from: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let page = self.open(from).await.page();
        let (_, rest) =
            page.split_once("name=\"form_token\" value=\"").expect("the page has a form");
        let token = rest.split('"').next().unwrap_or_default();
        self.post_with(token, path, fields).await
    }

    pub(crate) async fn post_with(
        &self,
        token: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        let encode =
            |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let fields = fields.iter().map(|(name, text)| format!("&{name}={}", encode(text)));
        let body = format!("form_token={token}{}", fields.collect::<String>());
        self.ask(Method::POST, path, body).await
    }

    /// Signs in and keeps the session.
    pub(crate) async fn sign_in(&mut self, key: &str) -> Answer {
        let answer =
            self.post("/ui/login", "/ui/login", &[("key", key), ("next", "/ui/tasks")]).await;
        if let Some(cookie) = answer.headers.get("set-cookie") {
            self.session =
                cookie.to_str().unwrap_or_default().split(';').next().map(ToOwned::to_owned);
        }
        answer
    }
}

impl Answer {
    /// The text of a page.
    #[track_caller]
    pub(crate) fn page(&self) -> String {
        let kind = self.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        assert_eq!(kind, Some("text/html; charset=utf-8"), "{:?}", self.json);
        self.json.as_str().expect("a page is a text").to_owned()
    }

    #[track_caller]
    pub(crate) fn goes_to(&self) -> String {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{:?}", self.json);
        self.headers["location"].to_str().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn every_page_is_small_loads_nothing_from_elsewhere_and_allows_no_script_in_it() {
    let api = Api::start().await;
    let id = api.make(&json!({ "title": "<script>alert(1)</script>", "goal": "a\"'<b>" })).await;
    let browser = Browser::new(&api);
    let task = format!("/ui/tasks/{id}");
    for path in ["/", "/ui/tasks", "/ui/tasks?view=board", "/ui/tasks/new", &task, "/ui/login"] {
        let answer = browser.open(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
            "{policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        let page = answer.page();
        assert!(
            !page.contains("<script>") && !page.contains("style=") && !page.contains("://"),
            "{page}"
        );
        assert!(
            page.contains("<html lang=\"en\">") && page.contains("<main id=\"main\""),
            "{path}"
        );
        let mut bytes = page.len();
        for asset in page
            .split('"')
            .filter(|text| text.starts_with("/ui/assets/") && !text.ends_with(".svg"))
        {
            let asset = browser.open(asset).await;
            assert_eq!(asset.status, StatusCode::OK);
            assert!(asset.headers["cache-control"].to_str().unwrap().contains("immutable"));
            bytes += asset.json.as_str().map_or(0, str::len);
        }
        assert!(bytes < 100_000, "{path} has {bytes} bytes");
    }
    assert_eq!(browser.open("/ui/assets/style.0.css").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn errors_of_pages_are_pages_and_those_of_the_api_stay_json() {
    let api = Api::start().await;
    let browser = Browser::new(&api);
    let nobody = format!("/ui/tasks/task-{}", "0".repeat(32));
    for (path, status) in [
        ("/ui/nowhere", 404),
        ("/nowhere", 404),
        (nobody.as_str(), 404),
        ("/ui/tasks/x", 400),
        ("/ui/tasks?status=strange", 400),
        ("/ui/tasks?cursor=zz", 400),
        ("/ui/runs/x", 400),
    ] {
        let answer = browser.open(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(answer.page().contains("<h1>"), "{path}");
    }
    assert_eq!(browser.open("/tasks/x").await.error(), (400, "invalid_parameters".to_owned()));
    assert_eq!(api.get("/nowhere").await.error().0, 404);
}

#[tokio::test]
async fn a_page_speaks_the_language_that_is_chosen_or_asked_for() {
    let api = Api::start().await;
    let mut browser = Browser::new(&api);
    browser.headers = vec![("accept-language", "ja-JP,en;q=0.5")];
    assert!(browser.open("/").await.page().contains("<html lang=\"ja\">"));
    let fields = [("language", "en"), ("next", "//evil.example")];
    let answer = browser.post("/", "/ui/language", &fields).await;
    assert_eq!(answer.goes_to(), "/");
    assert!(answer.headers["set-cookie"].to_str().unwrap().starts_with("opentiger_language=en;"));
    browser.session = Some("opentiger_language=en".to_owned());
    assert!(browser.open("/").await.page().contains("<html lang=\"en\">"));
}

#[tokio::test]
async fn a_task_is_made_shown_called_off_and_done_once_more() {
    let api = Api::start().await;
    let browser = Browser::new(&api);
    let place = api.repository.path().to_str().unwrap();
    let fields = [
        ("title", "made by hand"),
        ("goal", "g"),
        ("mode", "local"),
        ("place", place),
        ("verification", "true"),
    ];
    let made = browser.post("/ui/tasks/new", "/ui/tasks/new", &fields).await.goes_to();
    let (page, said) = made.split_once('?').unwrap();
    assert_eq!(said, "said=made");
    let shown = browser.open(&made).await.page();
    assert!(shown.contains("made by hand") && shown.contains("The task is queued."), "{shown}");
    assert!(shown.contains("no dispatcher runs"), "it says why it waits: {shown}");
    let cancelled = browser.post(page, &format!("{page}/cancel"), &[]).await.goes_to();
    assert!(browser.open(&cancelled).await.page().contains("The task is cancelled."));
    let again = browser.post(page, &format!("{page}/cancel"), &[]).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.page().contains("the task is cancelled already"));
    let fields = [("feedback", "try harder")];
    let retried = browser.post(page, &format!("{page}/retry"), &fields).await.goes_to();
    assert!(browser.open(&retried).await.page().contains("queued once more"));
    let id = page.strip_prefix("/ui").unwrap();
    assert_eq!(api.get(id).await.json["retry"]["feedback"], "try harder");
}

#[tokio::test]
async fn a_form_with_faults_comes_back_with_what_was_entered_and_what_is_wrong() {
    let api = Api::start().await;
    let browser = Browser::new(&api);
    let fields = [
        ("title", "kept <title>"),
        ("goal", ""),
        ("mode", "local"),
        ("place", "nowhere"),
        ("priority", "high"),
    ];
    let answer = browser.post("/ui/tasks/new", "/ui/tasks/new", &fields).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let page = answer.page();
    assert!(page.contains("kept &#60;title&#62;") && page.contains("role=\"alert\""), "{page}");
    assert!(page.contains("<code>priority</code>"), "{page}");
    assert_eq!(api.get("/tasks").await.json["items"], json!([]));
}

#[tokio::test]
async fn a_form_that_this_server_did_not_give_changes_nothing() {
    let api = Api::start().await;
    let id = api.make(&json!({})).await;
    let path = format!("/ui/tasks/{id}/cancel");
    let mut browser = Browser::new(&api);
    for token in ["", "0", &"0".repeat(64)] {
        let answer = browser.post_with(token, &path, &[]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.page().contains("load the page again"));
    }
    for origin in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let own = Browser::new(&api);
        let page = own.open("/ui/tasks").await.page();
        let token =
            page.split_once("name=\"form_token\" value=\"").unwrap().1.split('"').next().unwrap();
        browser.headers = vec![origin];
        assert_eq!(browser.post_with(token, &path, &[]).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(api.get(&format!("/tasks/{id}")).await.text("status"), "queued");
}

#[tokio::test]
async fn with_access_control_a_key_opens_the_pages_and_nothing_else_does() {
    let api = Api::start_with(&KEYS).await;
    let mut browser = Browser::new(&api);
    assert_eq!(
        browser.open("/ui/tasks?q=a").await.goes_to(),
        "/ui/login?next=%2Fui%2Ftasks%3Fq%3Da"
    );
    assert_eq!(api.get("/tasks").await.error().0, 401);
    let wrong = browser.sign_in("the-wrong-key-0001").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.page().contains("none of this server&#39;s keys") && browser.session.is_none());
    for key in ["the-right-key-0001", "the-right-token-2"] {
        let answer = browser.sign_in(key).await;
        assert_eq!(answer.goes_to(), "/ui/tasks");
        let cookie = answer.headers["set-cookie"].to_str().unwrap();
        assert!(
            cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains(key),
            "{cookie}"
        );
        assert_eq!(browser.open("/ui/tasks").await.status, StatusCode::OK);
        assert_eq!(
            browser.open("/tasks").await.status,
            StatusCode::OK,
            "its script may ask the API"
        );
        browser.headers = vec![("sec-fetch-site", "same-site")];
        assert_eq!(
            browser.open("/tasks").await.status,
            StatusCode::FORBIDDEN,
            "a page of another port may not"
        );
        browser.headers = Vec::new();
        let kept = browser.session.clone();
        assert_eq!(browser.post("/ui/tasks", "/ui/logout", &[]).await.goes_to(), "/ui/login");
        browser.session = kept;
        assert_eq!(
            browser.open("/ui/tasks").await.status,
            StatusCode::SEE_OTHER,
            "the session is over"
        );
        browser.session = None;
    }
}

#[tokio::test]
async fn after_too_many_wrong_keys_the_right_one_is_not_looked_at() {
    let api = Api::start_with(&KEYS).await;
    let mut browser = Browser::new(&api);
    let mut statuses = Vec::new();
    while statuses.last() != Some(&StatusCode::TOO_MANY_REQUESTS) && statuses.len() < 200 {
        statuses.push(browser.sign_in("the-wrong-key-0001").await.status);
    }
    assert_eq!(statuses.last(), Some(&StatusCode::TOO_MANY_REQUESTS));
    let answer = browser.sign_in("the-right-key-0001").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.page().contains("Too many wrong keys"));
}

#[tokio::test]
async fn a_link_on_another_site_leads_here_by_a_page_that_opens_itself_again() {
    for variables in [&[][..], &KEYS] {
        let api = Api::start_with(variables).await;
        let mut browser = Browser::new(&api);
        browser.headers = vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        let page = browser.open("/ui/tasks?status=failed").await.page();
        assert!(page.contains("content=\"0; url=/ui/tasks?status=failed\""), "{page}");
        browser.headers = vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
        assert_ne!(browser.open("/ui/tasks").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_page_follows_a_log_from_where_it_is_to_the_end() {
    let api = Api::start().await;
    api.make(&json!({})).await;
    let agent = TestAgent::register(&api.database.store).await;
    let key = agent.start_next().await;
    agent.say(key, 1, &["one", "two"]).await;
    let page = Browser::new(&api).open(&format!("/ui/runs/{}", key.run)).await.page();
    assert!(page.contains("text     two</div>") && page.contains("data-after=\"2\""), "{page}");
    let path = format!("/ui/runs/{}/log?after=2", key.run);
    let mut log = Stream::open(&api, &path, None).await;
    agent.say(key, 3, &["three"]).await;
    let sent = log.next().await.unwrap();
    assert_eq!((sent.id.as_str(), sent.name.as_str()), ("3", "lines"));
    assert!(sent.data.as_str().unwrap().ends_with("text     three"));
    agent.finish(key, 4).await;
    assert_eq!(log.next().await.map(|sent| sent.id), Some("4".to_owned()));
    assert_eq!(log.next().await.map(|sent| sent.name), Some("over".to_owned()));
    assert_eq!(log.next().await, None);
    let mut after_the_end = Stream::open(&api, &path, Some("4")).await;
    assert_eq!(after_the_end.next().await.map(|sent| sent.name), Some("over".to_owned()));
}

#[tokio::test]
async fn a_page_hears_that_something_happened() {
    let api = Api::start().await;
    let mut changes = Stream::open(&api, "/ui/live", None).await;
    api.make(&json!({})).await;
    assert_eq!(changes.next().await.map(|sent| sent.name), Some("changed".to_owned()));
}

#[tokio::test]
async fn switching_shows_what_will_happen_does_it_once_and_is_refused_when_settings_changed() {
    let api = Api::start_following(&[]).await;
    let browser = Browser::new(&api);
    let system = browser.open("/ui/system").await.page();
    assert!(system.contains("value=\"host\" checked"));
    let preview = browser.open("/ui/system/switch?to=sandbox").await.page();
    assert!(preview.contains("stopped as soon as they are idle"), "{preview}");
    let field = |page: &str, name: &str| {
        let (_, rest) =
            page.split_once(&format!("name=\"{name}\" value=\"")).expect("the field is there");
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let (token, revision) = (field(&preview, "form_token"), field(&preview, "revision"));
    let fields = [("to", "sandbox"), ("revision", revision.as_str())];
    let switched = browser.post_with(&token, "/ui/system/switch", &fields).await;
    assert_eq!(switched.goes_to(), "/ui/system?said=switched");
    assert!(
        browser.open("/ui/system?said=switched").await.page().contains("value=\"sandbox\" checked")
    );
    let again = browser
        .post_with(&token, "/ui/system/switch", &[("to", "host"), ("revision", &revision)])
        .await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.page().contains("Somebody changed settings"));
    assert_eq!(browser.open("/ui/system/switch?to=cloud").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn where_the_environment_sets_it_the_switch_is_locked_with_the_reason() {
    let api = Api::start_with(&[("EXECUTION_ENVIRONMENT", "sandbox")]).await;
    let browser = Browser::new(&api);
    let page = browser.open("/ui/system").await.page();
    assert!(page.contains("environment of this server sets EXECUTION_ENVIRONMENT"), "{page}");
    let fields = [("to", "host"), ("revision", "0")];
    let answer = browser.post("/ui/system/switch?to=host", "/ui/system/switch", &fields).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_setting_is_shown_changed_refused_and_reset_and_a_secret_never_comes_back() {
    let api = Api::start_following(&KEYS).await;
    let mut browser = Browser::new(&api);
    browser.sign_in("the-right-key-0001").await;
    let list = browser.open("/ui/system/settings").await.page();
    assert!(list.contains("TASK_MAX_ATTEMPTS") && !list.contains("the-right"), "{list}");
    browser.headers = vec![("accept-language", "ja")];
    let list = browser.open("/ui/system/settings").await.page();
    let one = browser.open("/ui/system/settings/TASK_MAX_ATTEMPTS").await.page();
    for setting in core_config::table::SETTINGS {
        // What is before the first character that HTML writes another way.
        let begin = setting.doc_ja.split(['<', '>', '&', '\'', '"']).next().unwrap_or_default();
        assert!(list.contains(begin), "{}: {begin}", setting.key);
    }
    for word in ["試行する回数", "1 から 100 までの整数", "次のリクエストから", "既定値"]
    {
        assert!(one.contains(word), "{word}: {one}");
    }
    assert!(!one.contains("How often a task"), "{one}");
    browser.headers.clear();
    let revision = async || {
        let page = browser.open("/ui/system/settings/TASK_MAX_ATTEMPTS").await.page();
        let (_, rest) = page.split_once("name=\"revision\" value=\"").expect("the field is there");
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let change = async |key: &str, value: &str| {
        let (path, revision) = (format!("/ui/system/settings/{key}"), revision().await);
        browser.post(&path, &path, &[("revision", &revision), ("value", value)]).await
    };
    let saved = change("TASK_MAX_ATTEMPTS", "7").await.goes_to();
    assert!(browser.open(&saved).await.page().contains("<code>7</code>"));
    let refused = change("TASK_MAX_ATTEMPTS", "many").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.page().contains("value=\"many\""), "what was entered is kept");
    let saved = change("ANTHROPIC_API_KEY", "sk-ant-very-secret-0123456789").await.goes_to();
    let page = browser.open(&saved).await.page();
    assert!(!page.contains("very-secret") && page.contains("type=\"password\""), "{page}");
}

#[tokio::test]
async fn without_a_key_what_reaches_the_host_is_not_offered_and_not_changed() {
    let api = Api::start_following(&[]).await;
    let browser = Browser::new(&api);
    let path = "/ui/system/settings/SANDBOX_DOCKER_IMAGE";
    let page = browser.open(path).await.page();
    assert!(page.contains("changing it needs a key") && !page.contains("name=\"value\""), "{page}");
    let fields = [("revision", "0"), ("value", "evil/image")];
    let answer = browser.post("/ui/system", path, &fields).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let own = api.get("/config/history").await;
    assert_eq!(own.json["items"], json!([]));
}
