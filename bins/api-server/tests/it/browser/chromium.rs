//! A Chromium of a test, without a window, with a profile of its own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testing::wait::wait_for;
use thirtyfour::{
    By, CapabilitiesHelper as _, ChromiumLikeCapabilities as _, Cookie, DesiredCapabilities, Key,
    WebDriver,
};

use super::driver::{Driver, Process};

/// How long a page may take to show something.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The size of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    Wide,
    Phone,
}

impl Window {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Phone => "phone",
        }
    }
}

/// A browser that looks at one server. Gone with this value, with all its processes.
pub(super) struct Browser {
    driver: WebDriver,
    program: Driver,
    base: String,
    _profile: TempDir,
}

impl Browser {
    pub(super) async fn start(address: &str) -> Self {
        let profile = TempDir::new().expect("a directory can be made");
        let program = Driver::start();
        let mut wanted = DesiredCapabilities::chrome();
        let folder = format!("--user-data-dir={}", profile.path().display());
        for argument in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--accept-lang=en",
            "--window-size=1280,1000",
            &folder,
        ] {
            wanted.add_arg(argument).expect("an argument is a text");
        }
        let logs = json!({ "browser": "ALL", "performance": "ALL" });
        wanted.set("goog:loggingPrefs", logs).expect("a wish is JSON");
        let driver = WebDriver::new(format!("http://127.0.0.1:{}", program.port), wanted).await;
        let driver = driver.expect("the browser starts");
        // It is ended by its processes: a test that fails has no time for more.
        driver.clone().leak().expect("the session has not ended");
        Self { driver, program, base: format!("http://{address}"), _profile: profile }
    }

    /// The browser's processes.
    pub(super) fn processes(&self) -> Vec<Process> {
        self.program.family()
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) async fn open(&self, path: &str) {
        self.go_to(&format!("{}{path}", self.base)).await;
    }

    /// Goes to an address anywhere.
    pub(super) async fn go_to(&self, address: &str) {
        self.driver.goto(address).await.expect("the page opens");
    }

    /// Path and query of the page that is looked at.
    pub(super) async fn place(&self) -> String {
        let place = self.script("return location.pathname + location.search").await;
        place.as_str().unwrap_or_default().to_owned()
    }

    /// What people see of the first element that fits.
    pub(super) async fn text(&self, selector: &str) -> String {
        let found = self.driver.find(By::Css(selector)).await;
        assert!(found.is_ok(), "no `{selector}`");
        found.expect("it was found").text().await.expect("the element is there")
    }

    pub(super) async fn exists(&self, selector: &str) -> bool {
        self.driver.find(By::Css(selector)).await.is_ok()
    }

    pub(super) async fn wait_for_text(&self, selector: &str, text: &str) {
        wait_for(&format!("`{text}` in `{selector}`"), PATIENCE, async || {
            // A page that is just being replaced has nothing for a moment.
            let found =
                self.driver.find(By::Css(selector)).await.map_err(|error| error.to_string())?;
            let seen = found.text().await.map_err(|error| error.to_string())?;
            if seen.contains(text) { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// Waits until the parts of a page that come later are there.
    pub(super) async fn wait_until_whole(&self) {
        wait_for("the slow parts of the page", PATIENCE, async || {
            let busy =
                self.script("return document.querySelectorAll('[data-load][aria-busy]').length");
            let busy = busy.await;
            if busy == 0 { Ok(()) } else { Err(busy) }
        })
        .await;
    }

    pub(super) async fn click(&self, selector: &str) {
        let found = self.driver.find(By::Css(selector)).await;
        assert!(found.is_ok(), "no `{selector}`");
        found.expect("it was found").click().await.expect("it can be clicked");
    }

    pub(super) async fn fill(&self, selector: &str, text: &str) {
        let field = self.driver.find(By::Css(selector)).await.expect("the field is there");
        field.clear().await.expect("it can be emptied");
        field.send_keys(text).await.expect("it takes a text");
    }

    /// Presses a key, wherever the focus is.
    pub(super) async fn press(&self, key: Key) {
        let pressing = self.driver.action_chain().send_keys(key);
        pressing.perform().await.expect("there is a keyboard");
    }

    /// Types a text, wherever the focus is.
    pub(super) async fn type_text(&self, text: &str) {
        let typing = self.driver.action_chain().send_keys(text);
        typing.perform().await.expect("there is a keyboard");
    }

    pub(super) async fn script(&self, script: &str) -> Value {
        let answer = self.driver.execute(script, Vec::new()).await;
        answer.expect("the script runs").json().clone()
    }

    /// Runs a script that calls its last argument with what it found.
    pub(super) async fn script_that_calls_back(&self, script: &str, given: Vec<Value>) -> Value {
        let answer = self.driver.execute_async(script, given).await;
        answer.expect("the script calls back").json().clone()
    }

    /// Chooses the size of the window.
    pub(super) async fn resize(&self, window: Window) {
        let (width, height) = match window {
            Window::Wide => (1280, 1000),
            Window::Phone => (390, 844),
        };
        let wish =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", wish).await;
    }

    /// Chooses light or dark, as a system does.
    pub(super) async fn colour(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.tell("Emulation.setEmulatedMedia", json!({ "features": [feature] })).await;
    }

    /// Chooses the language of pages, as their own button does. A page of the server must be open.
    pub(super) async fn language(&self, language: &str) {
        let cookie = Cookie::new("opentiger_language", language.to_owned());
        self.driver.add_cookie(cookie).await.expect("the cookie is taken");
    }

    /// Gives the browser an order that people have in its tools.
    pub(super) async fn tell(&self, order: &str, given: Value) {
        self.driver.cdp().send_raw(order, given).await.expect("the browser obeys");
    }

    /// What the browser wrote down since it was asked last: complaints of pages.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let log = self.driver.get_log("browser").await.expect("the driver keeps a log");
        let severe =
            log.into_iter().filter(|entry| matches!(entry.level.as_str(), "SEVERE" | "WARNING"));
        severe.map(|entry| entry.message).collect()
    }

    /// Every address that the browser asked for since it was asked last.
    pub(super) async fn requests(&self) -> Vec<String> {
        let log = self.driver.get_log("performance").await.expect("the driver keeps a log");
        let events = log.iter().filter_map(|entry| serde_json::from_str(&entry.message).ok());
        let asked = events.filter_map(|event: Value| {
            let sent = event["message"]["method"] == "Network.requestWillBeSent";
            let url = &event["message"]["params"]["request"]["url"];
            url.as_str().filter(|_| sent).map(ToOwned::to_owned)
        });
        asked.collect()
    }

    /// Keeps a picture of what is to be seen.
    pub(super) async fn picture(&self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&folder).expect("the directory can be made");
        let file: PathBuf = folder.join(format!("{name}.png"));
        self.driver.screenshot(&file).await.expect("a picture can be taken");
        assert!(file.metadata().is_ok_and(|file| file.len() > 1000), "{name} is empty");
    }
}
