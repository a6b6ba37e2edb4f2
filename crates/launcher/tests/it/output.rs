use std::time::Duration;

use futures_util::StreamExt as _;
use launcher::{
    launcher::Launcher as _,
    outcome::Outcome,
    output::{LogContent, LogCursor, LogStream},
    spec::{Input, OutputLimits},
};

use crate::support::{Scratch, is_root, read_all, shell};

#[tokio::test]
async fn flood_keeps_head_and_tail_with_an_exact_gap() {
    let scratch = Scratch::new();
    let mut spec = shell("seq 1 400000");
    spec.output = OutputLimits { head_bytes: 64 << 10, tail_bytes: 64 << 10 };
    let handle = scratch.start("flood", &spec).await;
    let report = handle.exited().await;
    let expected: String = (1..=400_000).map(|number| format!("{number}\n")).collect();
    let expected = expected.as_bytes();
    assert_eq!(report.log_end, expected.len() as u64);

    let mut logs = handle.logs(LogCursor::START);
    let (mut kept, mut gaps) = (0, Vec::new());
    while let Some(chunk) = logs.next().await {
        let chunk = chunk.unwrap();
        let (from, to) = (chunk.offset as usize, chunk.next.0 as usize);
        match chunk.content {
            LogContent::Output { data, .. } => {
                assert!(data == expected[from..to], "the bytes from {from} are others");
                kept += data.len();
            }
            LogContent::Gap { dropped_bytes } => gaps.push((from, dropped_bytes)),
        }
    }
    let [(gap_at, dropped)] = gaps[..] else { panic!("{gaps:?}") };
    assert_eq!(dropped, report.dropped_bytes);
    assert_eq!(kept as u64 + dropped, report.log_end);
    assert!(gap_at > 60 << 10 && gap_at < 64 << 10, "head of {gap_at}");
    let tail = expected.len() - gap_at - dropped as usize;
    assert!(tail > 48 << 10 && tail < 64 << 10, "tail of {tail}");
    let files = std::fs::read_dir(scratch.launch("flood")).unwrap().flatten();
    let logs = files.filter(|entry| entry.file_name().to_string_lossy().starts_with("out"));
    let on_disk: u64 = logs.map(|entry| entry.metadata().unwrap().len()).sum();
    assert!(on_disk <= 128 << 10, "{on_disk} bytes on disk");
}

#[tokio::test]
async fn reader_that_is_lost_over_and_over_misses_and_repeats_nothing() {
    let scratch = Scratch::new();
    // Lines of 50 kB of a three-byte character in writes that cut it anywhere, then one character
    // at a time in two pieces.
    let script = r"line=$(printf '%16667s' | sed 's/ /東/g')
        for i in 1 2 3 4 5 6 7 8 9 10; do echo $line; done | dd bs=997 status=none
        i=0
        while [ $i -lt 60 ]; do printf '\346'; sleep 0.004; printf '\235\261'; i=$((i+1)); done
        echo end";
    let handle = scratch.start("lossy", &shell(script)).await;
    let mut bytes = Vec::new();
    let mut cursor = LogCursor::START;
    let mut readers = 0;
    loop {
        readers += 1;
        let mut logs = handle.logs(cursor);
        // Every reader is dropped after a chunk or two, also in the middle of waiting.
        for _ in 0..=readers % 2 {
            let chunk = tokio::time::timeout(Duration::from_millis(3), logs.next()).await;
            let Ok(Some(chunk)) = chunk else { break };
            let chunk = chunk.unwrap();
            assert_eq!(chunk.offset, cursor.0);
            cursor = chunk.next;
            let LogContent::Output { data, .. } = chunk.content else { panic!("a gap") };
            bytes.extend_from_slice(&data);
        }
        if bytes.ends_with(b"end\n") {
            break;
        }
    }
    let line = format!("{}\n", "東".repeat(16_667));
    let expected = format!("{}{}end\n", line.repeat(10), "東".repeat(60));
    assert!(bytes == expected.into_bytes(), "{} bytes by {readers} readers", bytes.len());
    assert!(readers > 50, "only {readers} readers");
    assert_eq!(handle.exited().await.outcome, Outcome::Exited(0));
}

#[tokio::test]
async fn streams_are_told_apart_and_read_live() {
    let scratch = Scratch::new();
    let spec = shell("echo out; read go; echo err >&2; exit 1");
    // Standard input has ended, so `read` returns at once: two writes, two streams.
    let handle = scratch.start("streams", &spec).await;
    let mut found = Vec::new();
    let mut logs = handle.logs(LogCursor::START);
    while let Some(chunk) = logs.next().await {
        if let LogContent::Output { stream, data } = chunk.unwrap().content {
            found.push((stream, String::from_utf8(data.to_vec()).unwrap()));
        }
    }
    let expected =
        [(LogStream::Stdout, "out\n".to_owned()), (LogStream::Stderr, "err\n".to_owned())];
    found.sort_by_key(|(stream, _)| *stream == LogStream::Stderr);
    assert_eq!(found, expected);

    let handle = scratch.start("live", &shell("echo first; sleep 600")).await;
    let chunk = handle.logs(LogCursor::START).next().await.unwrap().unwrap();
    assert_eq!(chunk.offset, 0);
    assert!(matches!(*handle.state().borrow(), launcher::handle::LaunchState::Running { .. }));
    handle.stop(launcher::handle::StopRequest::new("seen", Duration::ZERO)).await;
}

#[tokio::test]
async fn reader_that_never_reads_holds_nobody_up() {
    let scratch = Scratch::new();
    let mut spec = shell("head -c 20000000 /dev/zero; exit 9");
    spec.output = OutputLimits { head_bytes: 1 << 20, tail_bytes: 1 << 20 };
    let handle = scratch.start("unread", &spec).await;
    let _never_polled = handle.logs(LogCursor::START);
    let report = handle.exited().await;
    assert_eq!((report.outcome, report.log_end), (Outcome::Exited(9), 20_000_000));
}

#[tokio::test]
async fn command_that_does_not_read_its_input_is_not_held_up() {
    let scratch = Scratch::new();
    let input = Input { stdin: vec![b'x'; 8 << 20], ..Input::default() };
    let launched =
        scratch.launcher().launch(&"deaf".parse().unwrap(), &shell("exit 6"), input).await;
    assert_eq!(launched.unwrap().into_handle().exited().await.outcome, Outcome::Exited(6));
}

#[tokio::test]
async fn full_disk_costs_output_and_nothing_else() {
    if !is_root() {
        // Making a small disk needs root; the counting of what is dropped is the same as above.
        return;
    }
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.state()).unwrap();
    let options = c"size=4m";
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", scratch.state(), "tmpfs", flags, options).unwrap();
    let _mounted = Mounted(scratch.state());
    let handle = scratch.start("full", &shell("head -c 30000000 /dev/zero; exit 8")).await;
    let report = handle.exited().await;
    assert_eq!((report.outcome.clone(), report.log_end), (Outcome::Exited(8), 30_000_000));
    assert!(report.dropped_bytes > 25_000_000, "{report:?}");
    let (kept, dropped) = read_all(&handle).await;
    assert_eq!(dropped, report.dropped_bytes);
    assert_eq!(kept.len() as u64 + dropped, report.log_end);
}

#[tokio::test]
async fn removed_output_is_gone_and_no_gap() {
    let scratch = Scratch::new();
    let handle = scratch.start("removed", &shell("echo something")).await;
    let mut early = handle.logs(LogCursor::START);
    handle.exited().await;
    handle.destroy(launcher::handle::Destroy::Everything).await.unwrap();
    for logs in [&mut early, &mut handle.logs(LogCursor::START)] {
        let found = logs.next().await;
        assert!(matches!(found, Some(Err(launcher::error::LogError::Gone))), "{found:?}");
        assert!(logs.next().await.is_none());
    }
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).ok();
    }
}
