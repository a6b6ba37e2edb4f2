//! Starting, stopping, and everything that gets in the way of it.

use client::address::AddressFile;
use testing::wait::wait_for;

use crate::world::{DEADLINE, World};

#[tokio::test]
async fn a_database_that_is_down_is_the_error_and_nothing_runs_after_it() {
    let mut world = World::without_database();
    world.set("DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/none");
    let said = world.call(&["up"]).await.with_code(1);
    assert!(
        said.err.contains("connect to the database") && said.err.contains("hint: "),
        "{}",
        said.err
    );
    assert!(!said.err.contains("hunter2") && !said.out.contains("ready"), "{said:?}");
    assert_eq!(world.alive().await, Vec::<String>::new());
    world.call(&["status"]).await.with_code(3);
}

#[tokio::test]
async fn a_server_that_something_else_started_is_left_to_it() {
    let world = World::new().await;
    let program = testing::programs::built_program("api-server", "api-server");
    let mut command = world.command(&program.to_string_lossy(), world.state.path());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("the program is built");
    wait_for("the server to listen", DEADLINE, async || {
        match AddressFile::read(&world.state_dir()) {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let said = world.call(&["down"]).await.with_code(6);
    assert!(said.err.contains("not started by `opentiger up`"), "{}", said.err);
    assert_eq!(child.try_wait().unwrap(), None, "it runs on");
    child.kill().await.unwrap();
}
