//! `docs/cli.md` shows the help of every command as the program says it.
//!
//! To write it anew: `OPENTIGER_TEST_WRITE_PAGE=1 cargo nextest run -p opentiger page`.

use std::path::Path;

use crate::world::World;

const BEGIN: &str = "<!-- help -->\n";
const COMMANDS: &[&str] = &[
    "",
    "up",
    "down",
    "status",
    "doctor",
    "gc",
    "task add",
    "task list",
    "task show",
    "task logs",
    "task cancel",
    "task retry",
    "task diff",
    "task apply",
    "config get",
    "config set",
    "completion",
];

#[tokio::test]
async fn the_page_shows_the_help_of_every_command() {
    let world = World::without_database();
    let mut expected = String::from(BEGIN);
    for command in COMMANDS {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        args.push("--help");
        let help = world.call(&args).await.done().out;
        assert!(!help.contains('\x1b'), "{help}");
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let title = format!("opentiger {command}");
        let title = title.trim_end();
        expected.extend([
            "
### ",
            title,
            "

```text
",
            lines
                .join(
                    "
",
                )
                .trim_end(),
            "
```
",
        ]);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (head, shown) = page.split_once(BEGIN).expect("the page has a place for it");
    if std::env::var_os("OPENTIGER_TEST_WRITE_PAGE").is_some() {
        std::fs::write(&path, format!("{head}{expected}")).expect("the page can be written");
        return;
    }
    let shown = format!("{BEGIN}{shown}");
    assert!(shown == expected, "docs/cli.md is not what --help says; see the head of this file");
}
