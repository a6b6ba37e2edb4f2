//! How much pages weigh and how soon they show, with 100,000 tasks; and the picture in the README.

use serde_json::{Value, json};
use testing::{database::TestDatabase, wait::wait_for};

use super::{
    chromium::{Browser, PATIENCE},
    world::serve,
};

/// How often each page is loaded.
const LOADS: usize = 9;
/// What a browser knows of a load that is over; nothing before anything was painted.
const LOAD: &str = r"
    const [load] = performance.getEntriesByType('navigation');
    const paint = performance.getEntriesByName('first-contentful-paint')[0];
    if (!paint || !load.loadEventEnd || document.querySelector('[data-load][aria-busy]')) return null;
    const parts = performance.getEntriesByType('resource').filter((part) => part.transferSize > 0);
    const sum = (entries) => entries.reduce((bytes, entry) => bytes + entry.transferSize, 0);
    const first = parts.filter((part) => ['link', 'script', 'img'].includes(part.initiatorType));
    return [load.transferSize, sum([load, ...first]), sum([load, ...parts]), load.responseStart - load.requestStart, paint.startTime];
";

/// What a team of agents may have done in a few months: 100,000 tasks with their runs, a few of them going on.
const MONTHS: &str = r#"
    CREATE TEMP TABLE made AS
    SELECT n, gen_random_uuid() AS id, now() - (100000 - n) * interval '75 seconds' - interval '2 minutes' AS at,
        (ARRAY['Fix', 'Explain', 'Speed up', 'Test', 'Simplify', 'Document', 'Check', 'Tidy'])[1 + n % 8] || ' ' ||
        (ARRAY['the import of orders', 'dates before 1970', 'the retry of webhooks', 'the search in German', 'rounding of taxes',
            'the export to CSV', 'time zones of invoices', 'the login after a restart', 'uploads over 2 GiB',
            'empty baskets', 'the order of addresses', 'the cache of prices', 'names with accents'])[1 + n % 13] AS title,
        'acme/' || (ARRAY['shop', 'billing', 'search', 'website', 'warehouse'])[1 + n % 5] AS repository,
        CASE WHEN n > 99994 THEN 'running' WHEN n > 99970 THEN 'queued' WHEN n % 211 = 0 AND n > 99400 THEN 'blocked'
            WHEN n % 23 = 0 THEN 'failed' WHEN n % 101 = 0 THEN 'cancelled' ELSE 'done' END AS status
    FROM generate_series(1, 100000) AS n;
    INSERT INTO tasks (id, title, goal, role, priority, risk, repository, verification, executor, max_attempts, created_by,
        rank, status, block_reason, reason, attempts, lease_number, current_run, created_at, updated_at, finished_at)
    SELECT id, title, title, (ARRAY['worker', 'worker', 'tester', 'docser'])[1 + n % 4], 0, 'low',
        json_build_object('mode', 'git', 'url', 'https://git.example/' || repository || '.git'), '[["cargo", "test"]]',
        CASE WHEN n % 5 = 0 THEN 'opencode' ELSE 'claude_code' END, 3, 'night', n, status,
        CASE status WHEN 'blocked' THEN 'attempts_exhausted' END,
        CASE status WHEN 'blocked' THEN 'three runs failed: 2 of 184 tests do not pass' WHEN 'failed' THEN 'the verification failed' END,
        CASE status WHEN 'queued' THEN 0 ELSE 1 END, CASE status WHEN 'queued' THEN 0 ELSE 1 END,
        CASE status WHEN 'running' THEN gen_random_uuid() END, at,
        CASE WHEN status IN ('queued', 'running') THEN at ELSE at + interval '7 minutes' END,
        CASE WHEN status IN ('done', 'failed', 'cancelled') THEN at + (200 + n % 400) * interval '1 second' END
    FROM made ORDER BY n;
    INSERT INTO runs (id, task, lease_number, host, status, outcome, message, input_tokens, output_tokens, cost_microusd,
        turns, claimable_at, created_at, started_at, ended_at, ending)
    SELECT coalesce(current_run, gen_random_uuid()), id, 1, 'mill', CASE status WHEN 'running' THEN 'running' ELSE 'ended' END,
        CASE status WHEN 'done' THEN 'succeeded' WHEN 'cancelled' THEN 'cancelled' WHEN 'running' THEN NULL
            ELSE 'verification_failed' END,
        CASE WHEN status IN ('failed', 'blocked') THEN '`cargo test` ended with exit code 101' END,
        40000 + rank % 90000, 2000 + rank % 9000, 90000 + rank % 400000, 5 + rank % 40,
        created_at, created_at + (5 + rank % 50) * interval '1 second', created_at + (9 + rank % 50) * interval '1 second',
        CASE WHEN status <> 'running' THEN coalesce(finished_at, updated_at) END, CASE WHEN status <> 'running' THEN '{}'::json END
    FROM tasks WHERE status <> 'queued' ORDER BY rank;
    INSERT INTO agents (id, name, role, host, pid, start_ticks, boot_id, version, run, registered_at, last_beat)
    SELECT gen_random_uuid(), 'worker-' || row_number() OVER (), 'worker', 'mill', 1, 1, 'b', '0', id, now(),
        now() + interval '1 hour' FROM runs WHERE status = 'running';
    INSERT INTO spend (day, executor, input_tokens, output_tokens, cost_microusd)
    SELECT (now() AT TIME ZONE 'UTC')::date - n, executor, 60000000 + n * 7919 % 17 * 2000000, 6000000, 210000000 + n * 7919 % 17 * 9000000
    FROM generate_series(0, 13) AS n, unnest(ARRAY['claude_code', 'opencode']) AS executor;
    INSERT INTO run_events (run, seq, at, kind, event)
    SELECT id, n, now(), 'text', json_build_object('kind', 'text', 'text', 'line ' || n || ' of what the agent says')
    FROM (SELECT id FROM runs WHERE status = 'running' ORDER BY seq DESC LIMIT 1) AS one, generate_series(1, 5000) AS n;
"#;

#[ignore = "a measurement: `cargo xtask bench pages`"]
#[tokio::test(flavor = "multi_thread")]
async fn pages_are_measured_with_100_000_tasks() {
    let database = TestDatabase::new().await;
    database.run(MONTHS).await;
    for table in ["tasks", "runs", "run_events"] {
        database.run(&format!("VACUUM ANALYZE {table}")).await;
    }
    let mut server = serve(&database, &[]);
    let browser = Browser::start(&server.address()).await;
    browser.tell("Network.enable", json!({})).await;
    browser.tell("Network.setCacheDisabled", json!({ "cacheDisabled": true })).await;
    println!(
        "{:<34}{:>9}{:>11}{:>11}{:>13}{:>15}",
        "page", "HTML, B", "first, B", "whole, B", "answer, ms", "painted, ms"
    );
    for path in paths(&browser).await {
        let mut loads = Vec::new();
        for _ in 0..LOADS {
            loads.push(load(&browser, &path).await);
        }
        let middle = |column: usize| {
            let mut values: Vec<f64> =
                loads.iter().filter_map(|load| load[column].as_f64()).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let [html, first, whole, answer, painted] = [0, 1, 2, 3, 4].map(middle);
        let name = path.split("-0").next().unwrap_or_default().chars().take(33).collect::<String>();
        println!("{name:<34}{html:>9.0}{first:>11.0}{whole:>11.0}{answer:>13.1}{painted:>15.1}");
    }
    // What is to be seen of it without scrolling would be half.
    let whole = json!({ "width": 1280, "height": 2560, "deviceScaleFactor": 1, "mobile": false });
    browser.tell("Emulation.setDeviceMetricsOverride", whole).await;
    browser.tell("Emulation.setScrollbarsHidden", json!({ "hidden": true })).await;
    browser.open("/").await;
    browser.picture("readme").await;
}

/// What people open; for a task and a run those of one that goes on.
async fn paths(browser: &Browser) -> Vec<String> {
    browser.open("/ui/tasks?status=running").await;
    let task =
        browser.script("return document.querySelector('#tasks a').getAttribute('href')").await;
    let task = task.as_str().expect("a task runs").to_owned();
    browser.open(&task).await;
    let run = browser.script("return document.querySelector('#runs a').getAttribute('href')").await;
    let run = run.as_str().expect("it has a run").to_owned();
    let more = [
        "/ui/tasks?view=board",
        "/ui/tasks?q=accents&status=failed",
        "/ui/tasks/new",
        "/ui/runs",
        "/ui/runs?outcome=verification_failed",
        "/ui/agents",
        "/ui/system",
        "/ui/system/switch?to=sandbox",
        "/ui/system/settings",
        "/ui/system/settings/TASK_MAX_ATTEMPTS",
        "/ui/login",
    ];
    ["/", "/ui/tasks"].into_iter().chain(more).map(ToOwned::to_owned).chain([task, run]).collect()
}

async fn load(browser: &Browser, path: &str) -> Value {
    browser.open(path).await;
    wait_for(&format!("{path} to be painted"), PATIENCE, async || {
        let seen = browser.script(LOAD).await;
        if seen.is_array() { Ok(seen) } else { Err(seen) }
    })
    .await
}
