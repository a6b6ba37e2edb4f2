//! What only a terminal sees: a pseudo terminal by python3, which the tests of this workspace need anyway.

use crate::world::{Said, World};

/// Runs the command line on a terminal of 100 columns; what it shows there is what it says.
async fn on_a_terminal(world: &World, args: &[&str]) -> Said {
    const DRIVER: &str = "
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 100, 0, 0))
while True:
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    os.write(1, data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";
    let python = testing::programs::installed_program("python3");
    let mut command = world.command(&python.to_string_lossy(), world.repository.path());
    command.args(["-c", DRIVER, env!("CARGO_BIN_EXE_opentiger")]).args(args);
    let output = command.output().await.expect("python3 runs");
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[tokio::test]
async fn a_terminal_sees_progress_and_colours_and_a_pipe_sees_neither() {
    let mut world = World::new().await;
    world.set("TERM", "xterm-256color");
    let up = on_a_terminal(&world, &["up", "--timeout", "90s"]).await.done();
    assert!(up.out.contains("\r\x1b[2K"), "a line moves: {:?}", up.out);
    assert!(up.out.contains("\x1b[32m"), "colours: {:?}", up.out);
    let status = on_a_terminal(&world, &["status"]).await.done();
    assert!(status.out.contains("\x1b[32mready\x1b[0m"), "{:?}", status.out);

    for (name, value) in [("TERM", "dumb"), ("TERM", "")] {
        let mut plain = World::without_database();
        plain.variables = world.variables.clone();
        plain.set(name, value);
        let status = on_a_terminal(&plain, &["status"]).await.done();
        assert!(!status.out.contains('\x1b'), "{name}={value}: {:?}", status.out);
        // Its state directory is that of the other world, which ends it.
    }
    world.set("NO_COLOR", "1");
    let status = on_a_terminal(&world, &["status"]).await.done();
    assert!(!status.out.contains("\x1b[32m"), "{:?}", status.out);
    world.variables.remove("NO_COLOR");
    let piped = world.call(&["status"]).await.done();
    assert!(!piped.out.contains('\x1b') && !piped.err.contains('\x1b'), "{piped:?}");
}

#[tokio::test]
async fn what_others_wrote_cannot_control_a_terminal() {
    let mut world = World::new().await;
    world.set("TERM", "xterm-256color");
    world.up().await;
    world.call(&["task", "add", "evil \u{202e}txt", "--goal", "[fake: nothing]"]).await.done();
    for args in [&["task", "list"][..], &["task", "show", "@last"]] {
        let shown = on_a_terminal(&world, args).await.done();
        assert!(shown.out.contains("evil \u{fffd}txt"), "{:?}", shown.out);
    }
}
