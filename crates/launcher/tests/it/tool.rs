use std::time::{Duration, Instant};

use launcher::tool::{Tool, ToolError};

use crate::support::{mark, marked, wait_for};

fn tool(script: &str) -> Tool {
    let mut tool = Tool::new("sh", "/");
    tool.args = vec!["-c".to_owned(), script.to_owned()];
    tool.env.insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    tool
}

#[tokio::test]
async fn result_carries_code_and_both_streams() {
    let output = tool("echo out; echo err >&2; exit 3").run().await.unwrap();
    assert_eq!((output.status, output.signal, output.truncated), (Some(3), None, false));
    assert_eq!((output.stdout, output.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
    assert_eq!(tool("kill -9 $$").run().await.unwrap().signal, Some(9));
}

#[tokio::test]
async fn memory_is_limited() {
    let mut greedy = tool("v=x; while [ ${#v} -lt 200000000 ]; do v=$v$v; done; echo had it");
    greedy.memory = Some(50 << 20);
    let output = greedy.run().await.unwrap();
    assert!(output.stdout.is_empty() && output.status != Some(0), "{output:?}");
    let mut modest = tool("v=x; while [ ${#v} -lt 100000 ]; do v=$v$v; done; echo had it");
    modest.memory = Some(50 << 20);
    assert_eq!(modest.run().await.unwrap().stdout, b"had it\n");
}

#[tokio::test]
async fn large_input_and_output_pass_each_other() {
    let mut cat = tool("cat");
    cat.stdin = vec![b'x'; 3 << 20];
    cat.output_limit = 4 << 20;
    assert_eq!(cat.run().await.unwrap().stdout.len(), 3 << 20);
    let mut deaf = tool("exit 0");
    deaf.stdin = vec![b'x'; 3 << 20];
    assert_eq!(deaf.run().await.unwrap().status, Some(0));
}

#[tokio::test]
async fn output_is_bounded() {
    let mut flood = tool("head -c 1000000 /dev/zero");
    flood.output_limit = 1000;
    let output = flood.run().await.unwrap();
    assert_eq!((output.stdout.len(), output.truncated, output.status), (1000, true, Some(0)));
}

#[tokio::test]
async fn faults_are_told_apart() {
    let missing = Tool::new("no-such-program-anywhere", "/").run().await;
    assert!(matches!(missing, Err(ToolError::ProgramMissing { .. })), "{missing:?}");
    let nowhere = Tool::new("/bin/true", "/nonexistent").run().await;
    assert!(matches!(nowhere, Err(ToolError::CwdMissing { .. })), "{nowhere:?}");
}

#[tokio::test]
async fn timeout_and_drop_kill_the_group() {
    let mark = mark("tool");
    let mut slow = tool("sleep 600 & sleep 600");
    slow.env.insert("LAUNCH_TEST_MARK".to_owned(), mark.clone());
    slow.timeout = Duration::from_millis(200);
    let result = slow.clone().run().await;
    assert!(matches!(result, Err(ToolError::TimedOut { .. })), "{result:?}");
    wait_for("the group to be gone", || marked(&mark).is_empty().then_some(())).await;

    slow.timeout = Duration::from_secs(60);
    let run = tokio::time::timeout(Duration::from_millis(200), slow.run());
    assert!(run.await.is_err());
    wait_for("the group to be gone", || marked(&mark).is_empty().then_some(())).await;
}

#[tokio::test]
async fn what_a_tool_leaves_behind_does_not_keep_it() {
    let mark = mark("tool-leftover");
    let mut quick = tool("sleep 600 & echo done");
    quick.env.insert("LAUNCH_TEST_MARK".to_owned(), mark.clone());
    let begun = Instant::now();
    assert_eq!(quick.run().await.unwrap().stdout, b"done\n");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    wait_for("the leftover to be gone", || marked(&mark).is_empty().then_some(())).await;
}
