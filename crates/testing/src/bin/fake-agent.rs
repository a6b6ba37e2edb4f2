//! A scripted stand-in for the agent's command line, for tests of whoever runs it.
//!
//! It takes any arguments, reads the prompt from standard input and behaves as the first `[fake: NAME]` in it
//! says; an unknown name ends it with code 2 and the list of names. Further marks: `[file: PATH]` is the file
//! that a change is made in (relative to the working directory), `[seconds: N]` and `[megabytes: N]` are sizes.
//! It needs no model and no network.

use std::{
    io::{self, Read as _, Write},
    os::unix::process::CommandExt as _,
    process::ExitCode,
    time::Duration,
};

use serde_json::{Value, json};

/// What it can do, as the marks spell it.
const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("ok", ok),
    ("nothing", nothing),
    ("hang", hang),
    ("silent", silent),
    ("flood", flood),
    ("ignore-term", ignore_term),
    (DEAF, hang),
    ("fork-away", fork_away),
    ("exit-zero", exit_zero),
    ("crash", crash),
    ("slow", slow),
    ("oom", oom),
    ("lingering", lingering),
    ("garbage", garbage),
];
/// The second half of `ignore-term`, which it starts itself as.
const DEAF: &str = "hang-deaf";
/// The argument that names the behaviour instead of the prompt.
const BEHAVIOUR_ARGUMENT: &str = "--fake-behaviour=";
const SESSION: &str = "00000000-0000-4000-8000-000000000001";

type Behaviour = fn(&mut Agent) -> io::Result<ExitCode>;

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        complain(&format!("fake-agent: {error}"));
        ExitCode::from(70)
    })
}

fn run() -> io::Result<ExitCode> {
    let named =
        std::env::args().find_map(|arg| arg.strip_prefix(BEHAVIOUR_ARGUMENT).map(str::to_owned));
    let mut prompt = String::new();
    if named.is_none() {
        io::stdin().lock().read_to_string(&mut prompt)?;
    }
    let mut agent = Agent { prompt };
    let name = named.or_else(|| agent.mark("fake")).unwrap_or_default();
    match BEHAVIOURS.iter().find(|(known, _)| *known == name) {
        Some((_, behaviour)) => behaviour(&mut agent),
        None => {
            let known: Vec<&str> = BEHAVIOURS.iter().map(|(known, _)| *known).collect();
            complain(&format!("fake-agent: no behaviour `{name}`; allowed: {}", known.join(", ")));
            Ok(ExitCode::from(2))
        }
    }
}

/// Writes a file and says so.
fn ok(agent: &mut Agent) -> io::Result<ExitCode> {
    agent.hello()?;
    agent.change()?;
    agent.finish("wrote the file")
}

/// Says it is done and has done nothing.
fn nothing(agent: &mut Agent) -> io::Result<ExitCode> {
    agent.hello()?;
    agent.finish("there was nothing to do")
}

/// Says hello and never anything again.
fn hang(agent: &mut Agent) -> io::Result<ExitCode> {
    agent.hello()?;
    sleep_for_ever()
}

/// Never says anything.
fn silent(_: &mut Agent) -> io::Result<ExitCode> {
    sleep_for_ever()
}

/// Prints as fast as it can (200 MB unless `[megabytes: N]`): messages nobody knows, and noise on both streams.
fn flood(agent: &mut Agent) -> io::Result<ExitCode> {
    agent.hello()?;
    let mut line = json!({"type": "flood", "text": "x".repeat(64 * 1024)}).to_string();
    line.push('\n');
    let lines = agent.number("megabytes").unwrap_or(200) * 16;
    for number in 0..lines {
        io::stdout().lock().write_all(line.as_bytes())?;
        if number % 100 == 0 {
            writeln!(io::stdout().lock(), "noise {number}")?;
            writeln!(io::stderr().lock(), "complaint {number}")?;
        }
    }
    agent.finish("said a lot")
}

/// Ignores every polite signal and hangs: ignored signals stay ignored over an exec.
fn ignore_term(_: &mut Agent) -> io::Result<ExitCode> {
    let own = std::env::current_exe()?;
    let error = shell(r#"trap '' TERM INT HUP; exec "$0" "$1""#)
        .arg(own)
        .arg(format!("{BEHAVIOUR_ARGUMENT}{DEAF}"))
        .exec();
    Err(error)
}

/// Leaves a process in a session of its own, forked twice, that would write `FILE.late` in some seconds.
fn fork_away(agent: &mut Agent) -> io::Result<ExitCode> {
    agent.hello()?;
    agent.change()?;
    let seconds = agent.number("seconds").unwrap_or(5);
    let late = format!("{}.late", agent.file());
    #[expect(
        clippy::disallowed_methods,
        reason = "leaving a process behind is what this program is for"
    )]
    let mut setsid = std::process::Command::new("setsid");
    let script = r#"(sleep "$0"; echo late > "$1") </dev/null >/dev/null 2>&1 &"#;
    setsid.args(["--fork", "sh", "-c", script]).arg(seconds.to_string()).arg(late);
    let status = setsid.status()?;
    if !status.success() {
        return Err(io::Error::other(format!("setsid ended with {status}")));
    }
    agent.finish("left something behind")
}

/// Ends with code 0 and no word.
fn exit_zero(_: &mut Agent) -> io::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}

/// Ends with code 3 and a complaint.
fn crash(agent: &mut Agent) -> io::Result<ExitCode> {
    agent.hello()?;
    complain("fatal: something broke");
    Ok(ExitCode::from(3))
}

/// Works steadily for `[seconds: N]`, then writes the file.
fn slow(agent: &mut Agent) -> io::Result<ExitCode> {
    const BEAT: Duration = Duration::from_millis(200);
    agent.hello()?;
    for beat in 0..agent.number("seconds").unwrap_or(3) * 5 {
        agent.text(&format!("still at it ({beat})"))?;
        std::thread::sleep(BEAT);
    }
    agent.change()?;
    agent.finish("wrote the file in the end")
}

/// Takes more and more memory, up to `[megabytes: N]` (1,024 unless said), and complains if nothing stopped it.
fn oom(agent: &mut Agent) -> io::Result<ExitCode> {
    agent.hello()?;
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    for _ in 0..agent.number("megabytes").unwrap_or(1024) {
        eaten.push(vec![1; 1024 * 1024]);
    }
    let total = eaten.iter().map(Vec::len).sum::<usize>();
    complain(&format!("nothing stopped me at {total} bytes"));
    Ok(ExitCode::from(4))
}

/// Gives its result and does not exit.
fn lingering(agent: &mut Agent) -> io::Result<ExitCode> {
    agent.hello()?;
    agent.change()?;
    agent.finish("wrote the file")?;
    sleep_for_ever()
}

/// Prints what is no UTF-8, no JSON, or of another shape than usual, then a result.
fn garbage(agent: &mut Agent) -> io::Result<ExitCode> {
    agent.hello()?;
    agent.change()?;
    let lines: [&[u8]; 7] = [
        b"\xff\xfe\x00\x01 no text\n",
        b"{\"type\":\"assistant\",\"message\":\n",
        b"[1,2,3]\n",
        b"{\"type\":7}\n",
        b"{\"type\":\"assistant\",\"message\":{\"content\":\"a text\"}}\n",
        b"{\"type\":\"user\",\"message\":{\"content\":[{\"type\":\"tool_result\"}]}}\n",
        b"\n\r\n{}\n",
    ];
    for line in lines {
        io::stdout().lock().write_all(line)?;
    }
    agent.finish("made sense in the end")
}

/// One run.
struct Agent {
    prompt: String,
}

impl Agent {
    /// The value of the first `[name: VALUE]` in the prompt.
    fn mark(&self, name: &str) -> Option<String> {
        let (_, rest) = self.prompt.split_once(&format!("[{name}:"))?;
        let (value, _) = rest.split_once(']')?;
        Some(value.trim().to_owned())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.mark(name)?.parse().ok()
    }

    fn file(&self) -> String {
        self.mark("file").unwrap_or_else(|| "fake-agent.txt".to_owned())
    }

    fn hello(&mut self) -> io::Result<()> {
        say(&json!({
            "type": "system", "subtype": "init", "session_id": SESSION, "model": "fake",
            "claude_code_version": "0.0.0", "apiKeySource": "none", "permissionMode": "dontAsk",
            "tools": ["Bash", "Write"],
        }))
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.answer(&json!({"type": "text", "text": text}))
    }

    /// Writes the file, as a call of a tool that worked.
    fn change(&mut self) -> io::Result<()> {
        let file = self.file();
        let call = json!({
            "type": "tool_use", "id": "toolu_fake_1", "name": "Write",
            "input": {"file_path": file, "content": "made by fake-agent\n"},
        });
        self.answer(&call)?;
        std::fs::write(&file, "made by fake-agent\n")?;
        say(&json!({
            "type": "user", "session_id": SESSION,
            "message": {"role": "user", "content": [{
                "type": "tool_result", "tool_use_id": "toolu_fake_1", "content": "file written",
            }]},
        }))
    }

    fn answer(&mut self, block: &Value) -> io::Result<()> {
        say(&json!({
            "type": "assistant", "session_id": SESSION,
            "message": {
                "id": "msg_fake", "role": "assistant", "model": "fake", "content": [block],
                "usage": {"input_tokens": 100, "output_tokens": 10},
            },
        }))
    }

    fn finish(&mut self, text: &str) -> io::Result<ExitCode> {
        self.text(text)?;
        say(&json!({
            "type": "result", "subtype": "success", "is_error": false, "result": text,
            "session_id": SESSION, "num_turns": 2, "duration_ms": 1, "total_cost_usd": 0.001,
            "usage": {"input_tokens": 100, "output_tokens": 20}, "permission_denials": [],
            "modelUsage": {"fake": {"inputTokens": 100, "outputTokens": 20, "costUSD": 0.001}},
            "terminal_reason": "completed", "api_error_status": null,
        }))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints one message.
fn say(message: &Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{message}")?;
    stdout.flush()
}

/// Prints a complaint; one that cannot be printed is dropped.
fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

fn sleep_for_ever() -> io::Result<ExitCode> {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn shell(script: &str) -> std::process::Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "becoming another process is what this program is for"
    )]
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(script);
    shell
}
