//! Runs the program, and reads the history that it has written to `DATABASE_URL`.

use std::env;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use runtrail::{AuditStore, RunStatus, RunSummary, RunTree, SkillRun, SkillRunLog, Storage, Usage};
use serde_json::{Value, json};

const ANSWER: &str = "Husum, with 3.8 m; Cuxhaven has 3.4 m, and Helgoland no table.";

#[tokio::test]
async fn parent_and_child_are_recorded_with_their_calls() -> Result<()> {
    let output = agent()?.env_remove("AGENT_MODEL").output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(
        String::from_utf8_lossy(&output.stdout).contains(ANSWER),
        "{output:?}"
    );
    let store = store().await?;
    let id = run_id(&output)?;

    let mut tree = store.list_subtree(&id).await?;
    tree.sort_by_key(|run| run.started_at);
    let [parent, child] = &tree[..] else {
        anyhow::bail!("not two runs: {tree:?}");
    };
    assert_eq!(parent.id, id);
    assert_eq!(parent.parent_run_id, None);
    assert_eq!(parent.skill_id, "researcher");
    assert_eq!(parent.caller_id, "alice");
    assert_eq!(child.parent_run_id.as_deref(), Some(&*id));
    assert_eq!(child.skill_id, "editor");

    let calls = [
        call("stand-in-large", [1_420, 0], [96, 40]),
        call("stand-in-large", [1_560, 1_408], [48, 0]),
        call("stand-in-large", [1_640, 1_536], [30, 0]),
    ];
    let draft = "Husum has the highest high water today, at 3.8 m. In Cuxhaven it is 3.4 m. \
                 For Helgoland there is no table.";
    let expected = [
        ("model_call", json!({"text": ""}), Some(&calls[0])),
        tool_call("tide_table", json!({"station": "Cuxhaven"})),
        tool_call("tide_table", json!({"station": "Husum"})),
        tool_call("tide_table", json!({"station": "Helgoland"})),
        (
            "tool_error",
            json!({"tool": "tide_table", "error": "there is no tide table for Helgoland"}),
            None,
        ),
        ("model_call", json!({"text": ""}), Some(&calls[1])),
        tool_call("ask_editor", json!({"draft": draft})),
        ("model_call", json!({"text": ANSWER}), Some(&calls[2])),
    ];
    let parent_events = check_run(&store, parent, &expected, 4).await?;

    let calls = [
        call("stand-in-small", [180, 0], [70, 32]),
        call("stand-in-small", [264, 128], [24, 0]),
    ];
    let expected = [
        ("model_call", json!({"text": ""}), Some(&calls[0])),
        tool_call("count_words", json!({"text": ANSWER})),
        ("model_call", json!({"text": ANSWER}), Some(&calls[1])),
    ];
    check_run(&store, child, &expected, 1).await?;

    let asked = parent_events[6].duration.context("no duration")?;
    assert!(asked.as_secs_f64() >= child.runtime_seconds, "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn a_run_whose_model_cannot_be_reached_ends_as_an_error() -> Result<()> {
    let output = agent()?
        .env("AGENT_MODEL", "gpt-5-mini")
        .env("OPENAI_API_KEY", "none")
        // No server listens on port 1.
        .env("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        .output()?;
    ensure!(!output.status.success(), "{output:?}");
    let store = store().await?;
    let id = run_id(&output)?;

    let run = store.get_run(&id).await?;
    assert_eq!(run.status, RunStatus::ERROR);
    assert!(!run.error.is_empty());
    assert!(run.finished_at.is_some());
    let events = store.list_logs_by_run(&id).await?;
    let [event] = &events[..] else {
        anyhow::bail!("not one event: {events:?}");
    };
    assert_eq!(event.event_type, "model_error");
    assert_eq!(event.payload, json!({"error": run.error}));
    assert!(event.duration.is_some());
    Ok(())
}

/// Returns the program, which records into the database of the test.
fn agent() -> Result<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
    command.env("DATABASE_URL", url()?);
    // The stand-in isn't behind a proxy.
    command.env("NO_PROXY", "127.0.0.1");
    Ok(command)
}

fn url() -> Result<String> {
    env::var("DATABASE_URL").context("DATABASE_URL is not set")
}

async fn store() -> Result<AuditStore> {
    Ok(AuditStore::connect(url()?).await?)
}

/// Finds the id of the run in the command that the program prints.
fn run_id(output: &Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut commands = text
        .lines()
        .filter_map(|it| it.split_once("runtrail tree "));
    let (_, id) = commands.next().with_context(|| format!("{output:?}"))?;
    Ok(id.to_owned())
}

fn call(model: &str, input_and_cached: [u64; 2], output_and_thinking: [u64; 2]) -> Usage {
    Usage::new()
        .provider("openai")
        .model(model)
        .input_tokens(input_and_cached[0])
        .cache_read_tokens(input_and_cached[1])
        .output_tokens(output_and_thinking[0])
        .thinking_tokens(output_and_thinking[1])
}

type ExpectedEvent<'a> = (&'a str, Value, Option<&'a Usage>);

fn tool_call<'a>(tool: &str, arguments: Value) -> ExpectedEvent<'a> {
    let payload = json!({"tool": tool, "arguments": arguments});
    ("tool_call", payload, None)
}

/// Checks a finished run, its events in order, and that its totals are the sums over its events.
async fn check_run(
    store: &AuditStore,
    run: &RunSummary,
    expected: &[ExpectedEvent<'_>],
    tool_calls: u64,
) -> Result<Vec<SkillRunLog>> {
    let SkillRun { output, error, .. } = store.get_run(&run.id).await?;
    assert_eq!(run.status, RunStatus::OK);
    assert_eq!(output, ANSWER);
    assert_eq!(error, "");
    assert!(run.finished_at.is_some());
    assert!(run.runtime_seconds > 0.0);

    let events = store.list_logs_by_run(&run.id).await?;
    let found = events
        .iter()
        .map(|it| (&*it.event_type, it.payload.clone(), it.usage.as_ref()));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    for (event, sequence) in events.iter().zip(0..) {
        assert_eq!(event.sequence, sequence);
        let is_call = event.event_type != "tool_error";
        assert_eq!(event.duration.is_some(), is_call, "{event:?}");
    }

    assert_eq!(run.tool_calls, tool_calls);
    let sum = |tokens: fn(&Usage) -> Option<u64>| -> u64 {
        let usages = events.iter().filter_map(|it| it.usage.as_ref());
        usages.filter_map(tokens).sum()
    };
    assert_eq!(run.total_input_tokens, sum(|it| it.input_tokens));
    assert_eq!(run.total_output_tokens, sum(|it| it.output_tokens));
    assert_eq!(run.total_thinking_tokens, sum(|it| it.thinking_tokens));
    Ok(events)
}
