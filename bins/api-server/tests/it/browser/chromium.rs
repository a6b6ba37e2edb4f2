//! A Chromium of a test, without a window, with a profile of its own.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use testing::{programs::installed_program, wait::wait_for};
use thirtyfour::{
    By, CapabilitiesHelper as _, ChromiumLikeCapabilities as _, DesiredCapabilities, WebDriver,
};

/// How long a page may take to show something.
const PATIENCE: Duration = Duration::from_secs(30);

/// What every page must hold: checked by a script in it, which gives what is wrong.
const CHECKS: &str = r"
    const wrong = [];
    const own = location.origin;
    for (const entry of performance.getEntriesByType('resource')) {
        if (!entry.name.startsWith(own + '/')) wrong.push('asks ' + entry.name);
    }
    if (window.pwned) wrong.push('a hostile text ran');
    if (!document.documentElement.lang) wrong.push('no language');
    if (document.querySelectorAll('main').length !== 1) wrong.push('not one main part');
    if (document.querySelectorAll('h1').length !== 1) wrong.push('not one heading');
    if (document.querySelector('[style]')) wrong.push('style in an element');
    const named = (e) => e.labels?.length || e.getAttribute('aria-label');
    for (const e of document.querySelectorAll('input:not([type=hidden]), select, textarea')) {
        if (!named(e)) wrong.push('no label: ' + e.outerHTML.slice(0, 100));
    }
    for (const e of document.querySelectorAll('a, button, summary')) {
        if (!e.textContent.trim() && !e.getAttribute('aria-label')) wrong.push('no name: ' + e.outerHTML.slice(0, 100));
    }
    for (const e of document.querySelectorAll('img')) {
        if (!e.hasAttribute('alt')) wrong.push('no alt: ' + e.outerHTML.slice(0, 100));
    }
    const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
    for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) wrong.push('twice: #' + id);
    for (const e of document.querySelectorAll('[aria-describedby], [aria-labelledby]')) {
        const refs = (e.getAttribute('aria-describedby') ?? '') + ' ' + (e.getAttribute('aria-labelledby') ?? '');
        for (const id of refs.split(' ').filter(Boolean)) if (!document.getElementById(id)) wrong.push('nowhere: #' + id);
    }
    if (document.documentElement.scrollWidth > innerWidth + 1) wrong.push('wider than the window');
    return wrong;
";

/// A browser that looks at one server.
pub(super) struct Browser {
    driver: WebDriver,
    base: String,
    program: Child,
    _profile: TempDir,
}

impl Browser {
    pub(super) async fn start(address: &str) -> Self {
        let profile = TempDir::new().expect("a directory can be made");
        let (program, port) = start_driver();
        let mut wanted = DesiredCapabilities::chrome();
        let folder = format!("--user-data-dir={}", profile.path().display());
        for argument in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--accept-lang=en",
            "--window-size=1280,1000",
            &folder,
        ] {
            wanted.add_arg(argument).expect("an argument is a text");
        }
        let logs = serde_json::json!({ "browser": "ALL" });
        wanted.set("goog:loggingPrefs", logs).expect("a wish is JSON");
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted).await;
        let driver = driver.expect("the browser starts");
        Self { driver, base: format!("http://{address}"), program, _profile: profile }
    }

    pub(super) async fn open(&self, path: &str) {
        let address = format!("{}{path}", self.base);
        self.driver.goto(address).await.expect("the page opens");
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

    pub(super) async fn script(&self, script: &str) -> Value {
        let answer = self.driver.execute(script, Vec::new()).await;
        answer.expect("the script runs").json().clone()
    }

    /// Checks what every page must hold.
    pub(super) async fn check_page(&self, name: &str) {
        let wrong = self.script(CHECKS).await;
        assert_eq!(wrong, serde_json::json!([]), "{name}");
    }

    /// Checks that the browser complained of nothing but of these.
    pub(super) async fn check_console(&self, expected: &[&str]) {
        let log = self.driver.get_log("browser").await.expect("the driver keeps a log");
        let complaints =
            log.iter().filter(|entry| matches!(entry.level.as_str(), "SEVERE" | "WARNING"));
        let said = complaints.map(|entry| entry.message.clone());
        let wrong: Vec<String> =
            said.filter(|said| !expected.iter().any(|text| said.contains(text))).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// Keeps a picture of what is to be seen.
    pub(super) async fn picture(&self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&folder).expect("the directory can be made");
        let file: PathBuf = folder.join(format!("{name}.png"));
        self.driver.screenshot(&file).await.expect("a picture can be taken");
        assert!(file.metadata().is_ok_and(|file| file.len() > 1000), "{name} is empty");
    }

    pub(super) async fn end(self) {
        let mut program = self.program;
        self.driver.quit().await.expect("the browser ends");
        program.kill().expect("the driver is ours");
        program.wait().expect("the driver is ours");
    }
}

/// Starts the driver, and says on which port it listens.
fn start_driver() -> (Child, u16) {
    #[expect(clippy::disallowed_methods, reason = "a test's own tool, ended by it")]
    let mut command = Command::new(installed_program("chromedriver"));
    let mut program = command
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver starts");
    let output = BufReader::new(program.stdout.take().expect("standard output is a pipe"));
    let started = output.lines().map_while(Result::ok).find_map(|line| {
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    (program, started.expect("chromedriver says its port"))
}
