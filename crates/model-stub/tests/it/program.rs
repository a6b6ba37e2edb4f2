//! The scripted model as a program.

use std::{path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::Child,
};

use crate::run::command;

const DEADLINE: Duration = Duration::from_secs(20);

fn start(args: &[&str]) -> Child {
    let mut program = command(Path::new(env!("CARGO_BIN_EXE_model-stub")));
    program.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program.kill_on_drop(true).spawn().unwrap()
}

/// The one line it prints.
async fn line(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line =
        tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("it says its address");
    line.unwrap().unwrap_or_default()
}

#[tokio::test]
async fn says_its_address_and_ends_on_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = start(&["--listen", "127.0.0.1:0", "--script", "demo"]);
        let line = line(&mut child).await;
        let address = line.split_once("http://").expect("an address").1;
        TcpStream::connect(address).await.expect("it listens");
        let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let status = tokio::time::timeout(DEADLINE, child.wait()).await.expect("it ends").unwrap();
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn bad_arguments_are_told_and_start_nothing() {
    for (args, told) in [
        (["--listen", "0.0.0.0:0"], "loopback"),
        (["--script", "no-such-script"], "overloaded"),
        (["--listen", "127.0.0.1"], "invalid"),
    ] {
        let output = tokio::time::timeout(DEADLINE, start(&args).wait_with_output()).await;
        let output = output.expect("it ends").unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(told), "{args:?}: {said}");
    }
}
