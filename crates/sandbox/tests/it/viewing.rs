//! The view of the host's logins: renewed, waited for, taken away.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use core_config::{load::load, settings::Settings};
use core_types::task::ExecutorKind;
use launcher::spec::UserId;
use sandbox::view::{
    LoginFault, LoginState, LoginWarning, Sources, View, ViewError, user, warning,
};
use serde_json::{Value, json};
use testing::wait::wait_for;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);

fn own() -> UserId {
    user(UserId {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    })
}

fn credentials(token: &str) -> String {
    let login = json!({"accessToken": token, "refreshToken": "rt-secret", "expiresAt": 9});
    json!({"claudeAiOauth": login, "mcpOAuth": {"x": "mcp-secret"}}).to_string()
}

fn token(view: &View) -> Option<String> {
    let text = fs::read_to_string(view.claude().join(".credentials.json")).ok()?;
    assert!(!text.contains("secret"), "{text}");
    let file: Value = serde_json::from_str(&text).expect("the view never has half a file");
    file.pointer("/claudeAiOauth/accessToken")?.as_str().map(str::to_owned)
}

fn settings(pairs: &[(&str, &Path)]) -> Settings {
    let pairs = pairs.iter().map(|(key, value)| ((*key).into(), value.as_os_str().to_owned()));
    (*load(pairs, None).expect("the settings are fine").settings).clone()
}

#[test]
fn the_view_has_the_login_alone_and_is_the_sandboxs_own() {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("home");
    fs::create_dir_all(home.join(".claude/projects")).unwrap();
    fs::write(home.join(".claude/.credentials.json"), credentials("at-1")).unwrap();
    fs::write(home.join(".claude/history.jsonl"), "secret").unwrap();
    let sources = Sources::of(&settings(&[]), Some(&home)).unwrap();
    let view = View::open(&root.path().join("state"), own()).unwrap();
    let logins = view.refresh(&sources).unwrap();
    assert_eq!(logins.claude, LoginState::Present { expires_at_ms: Some(9) });
    assert_eq!(logins.opencode, LoginState::LoggedOut);
    assert_eq!(token(&view).as_deref(), Some("at-1"));
    let seen: Vec<_> =
        fs::read_dir(view.claude()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(seen, [".credentials.json"]);
    assert_eq!(fs::read_dir(view.config()).unwrap().count(), 0);
    for (path, mode) in [(view.claude(), 0o700), (view.claude().join(".credentials.json"), 0o600)] {
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (mode, own().uid, own().gid));
    }
    let above = fs::metadata(view.claude().parent().unwrap()).unwrap();
    assert_eq!(above.mode() & 0o777, 0o700, "users of this host stay out");
    assert_ne!(own().uid, 0, "a sandbox never runs as root");
}

#[test]
fn half_a_file_is_waited_for_and_a_logout_takes_the_view_away() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join(".claude/.credentials.json");
    fs::create_dir(root.path().join(".claude")).unwrap();
    fs::write(&file, credentials("at-1")).unwrap();
    let sources = Sources::of(&settings(&[]), Some(root.path())).unwrap();
    let view = View::open(&root.path().join("state"), own()).unwrap();
    view.refresh(&sources).unwrap();
    let whole = credentials("at-2");
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, whole.get(..length).unwrap()).unwrap();
        assert_eq!(view.refresh(&sources).unwrap().claude, LoginState::HalfWritten);
        assert_eq!(token(&view).as_deref(), Some("at-1"));
    }
    fs::write(&file, whole).unwrap();
    view.refresh(&sources).unwrap();
    assert_eq!(token(&view).as_deref(), Some("at-2"));
    fs::remove_file(&file).unwrap();
    assert_eq!(view.refresh(&sources).unwrap().claude, LoginState::LoggedOut);
    assert_eq!(token(&view), None);
    fs::write(&file, credentials("at-3")).unwrap();
    view.refresh(&sources).unwrap();
    fs::write(&file, "{}").unwrap();
    view.refresh(&sources).unwrap();
    assert_eq!(token(&view), None);
}

#[tokio::test]
async fn changes_on_the_host_are_in_the_view_soon() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join(".claude");
    fs::create_dir(&directory).unwrap();
    let file = directory.join(".credentials.json");
    let sources = Sources::of(&settings(&[]), Some(root.path())).unwrap();
    let view = View::open(&root.path().join("state"), own()).unwrap();
    let (told, mut seen) = watch::channel(None);
    let stop = CancellationToken::new();
    let keeper = view.clone().keep(move || Some(sources.clone()), told, stop.clone());
    let test = async {
        seen.wait_for(|logins| logins.as_ref().is_some_and(|l| l.claude == LoginState::LoggedOut))
            .await
            .unwrap();
        let has = async |wanted: Option<&str>| {
            wait_for("the view to follow", LIMIT, async || {
                let now = token(&view);
                if now.as_deref() == wanted { Ok(()) } else { Err(format!("{now:?}")) }
            })
            .await;
        };
        fs::write(&file, credentials("in-place")).unwrap();
        has(Some("in-place")).await;
        let before = fs::metadata(view.claude().join(".credentials.json")).unwrap().ino();
        let new = directory.join("new");
        fs::write(&new, credentials("renamed")).unwrap();
        fs::rename(&new, &file).unwrap();
        has(Some("renamed")).await;
        let after = fs::metadata(view.claude().join(".credentials.json")).unwrap().ino();
        assert_ne!(before, after, "the view changes by a rename too");
        fs::remove_file(&file).unwrap();
        has(None).await;
        stop.cancel();
    };
    tokio::join!(keeper, test);
}

#[test]
fn a_directory_that_a_setting_names_has_to_be_there() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("missing");
    fs::create_dir(root.path().join(".claude")).unwrap();
    for key in ["CLAUDE_AUTH_DIR", "CLAUDE_CONFIG_DIR"] {
        let settings = settings(&[(key, missing.as_path())]);
        match Sources::of(&settings, Some(root.path())) {
            Err(ViewError::OverrideMissing { key: named, path, .. }) => {
                assert_eq!((named, path.as_path()), (key, missing.as_path()));
            }
            other => panic!("{other:?}"),
        }
    }
    let named = settings(&[("CLAUDE_AUTH_DIR", root.path())]);
    assert_eq!(Sources::of(&named, Some(Path::new("/nowhere"))).unwrap().claude, root.path());
    assert!(matches!(Sources::of(&settings(&[]), None), Err(ViewError::NoHome)));
}

#[test]
fn an_agent_without_login_and_key_is_warned_of() {
    let root = tempfile::tempdir().unwrap();
    let none = settings(&[]);
    let sources = Sources::of(&none, Some(root.path())).unwrap();
    let view = View::open(&root.path().join("state"), own()).unwrap();
    let logins = view.refresh(&sources).unwrap();
    let told = warning(ExecutorKind::ClaudeCode, &none, &sources, &logins);
    let directory = root.path().join(".claude");
    let warned = |fault| Some(LoginWarning::ClaudeCode { directory: directory.clone(), fault });
    assert_eq!(told, warned(None));
    assert!(told.unwrap().to_string().contains("ANTHROPIC_API_KEY"));
    let file = sources.opencode.clone();
    let told = warning(ExecutorKind::Opencode, &none, &sources, &logins);
    assert_eq!(told, Some(LoginWarning::Opencode { file: file.clone(), fault: None }));
    let key = settings(&[("ANTHROPIC_API_KEY", Path::new("sk-1"))]);
    assert_eq!(warning(ExecutorKind::ClaudeCode, &key, &sources, &logins), None);
    // One that is damaged is as good as none, and so is one that cannot be read: root may read any file, so it is none here.
    fs::create_dir(&directory).unwrap();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let login = directory.join(".credentials.json");
    fs::write(&login, "{\"claude").unwrap();
    fs::create_dir(&file).unwrap();
    let logins = view.refresh(&sources).unwrap();
    let told = warning(ExecutorKind::ClaudeCode, &none, &sources, &logins);
    assert_eq!(told, warned(Some(LoginFault::Damaged)));
    assert!(told.unwrap().to_string().contains("is damaged"));
    let told = warning(ExecutorKind::Opencode, &none, &sources, &logins).unwrap();
    let LoginWarning::Opencode { fault: Some(LoginFault::Unreadable { .. }), .. } = &told else {
        panic!("{told:?}")
    };
    assert!(told.to_string().contains("cannot be read: "), "{told}");
    assert!(told.hint().contains("own and read it"));
    assert_eq!(warning(ExecutorKind::ClaudeCode, &key, &sources, &logins), None);

    fs::write(&login, credentials("at")).unwrap();
    let logins = view.refresh(&sources).unwrap();
    assert_eq!(warning(ExecutorKind::ClaudeCode, &none, &sources, &logins), None);
}
