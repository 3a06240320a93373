//! Runs the program, and reads the history that it has written to `DATABASE_URL`.

use std::env;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use runtrail::{
    AuditStore, Page, RunFilter, RunStatus, RunSummary, RunTree, SkillRun, SkillRunLog, Storage,
    Usage,
};
use serde_json::{Value, json};

const DRAFT: &str = "Husum has the highest high water today, at 3.8 m. In Cuxhaven it is 3.4 m. \
                     For Helgoland there is no table.";
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

    let calls = researcher_calls();
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
        tool_call("ask_editor", json!({"draft": DRAFT})),
        ("model_call", json!({"text": ANSWER}), Some(&calls[2])),
    ];
    let parent_events = check_run(&store, parent, &expected, 4).await?;

    let calls = editor_calls();
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
    let output = unreachable_model(&mut agent()?).output()?;
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

#[tokio::test]
async fn a_layer_records_the_same_calls_as_the_hooks() -> Result<()> {
    let mut agent = agent()?;
    let output = agent.arg("--traced").env_remove("AGENT_MODEL").output()?;
    ensure!(output.status.success(), "{output:?}");
    let store = store().await?;
    let parent = traced_run(&store, RunStatus::OK).await?;
    let question = "Where is today's high water the highest: Cuxhaven, Husum or Helgoland?";
    assert_eq!(Value::from(parent.inputs), json!({"prompt": question}));

    let mut tree = store.list_subtree(&parent.id).await?;
    tree.sort_by_key(|run| run.started_at);
    let [parent, child] = &tree[..] else {
        anyhow::bail!("not two runs: {tree:?}");
    };
    assert_eq!(child.parent_run_id.as_ref(), Some(&parent.id));
    assert_eq!(child.skill_id, "editor");
    let inputs = store.get_run(&child.id).await?.inputs;
    assert_eq!(Value::from(inputs), json!({"draft": DRAFT}));

    let calls = researcher_calls();
    let expected = [
        ("model_call", json!({}), Some(&calls[0])),
        traced_tool_call("tide_table", json!({"station": "Cuxhaven"}), "3.4"),
        traced_tool_call("tide_table", json!({"station": "Husum"}), "3.8"),
        (
            "tool_call",
            json!({
                "tool": "tide_table",
                "arguments": {"station": "Helgoland"},
                "gen_ai.tool.call.outcome": "error",
                "gen_ai.tool.error.type": "not_found",
                "gen_ai.tool.call.result": "there is no tide table for Helgoland",
            }),
            None,
        ),
        ("model_call", json!({}), Some(&calls[1])),
        traced_tool_call("ask_editor", json!({"draft": DRAFT}), ANSWER),
        ("model_call", json!({}), Some(&calls[2])),
    ];
    check_traced_run(&store, parent, &expected, 4).await?;

    let calls = editor_calls();
    let expected = [
        ("model_call", json!({}), Some(&calls[0])),
        traced_tool_call("count_words", json!({"text": ANSWER}), "12"),
        ("model_call", json!({}), Some(&calls[1])),
    ];
    check_traced_run(&store, child, &expected, 1).await
}

/// rig records no error in a span; the layer sees that the answer is missing.
#[tokio::test]
async fn a_layer_records_that_the_model_cannot_be_reached() -> Result<()> {
    let output = unreachable_model(agent()?.arg("--traced")).output()?;
    ensure!(!output.status.success(), "{output:?}");
    let store = store().await?;

    let run = traced_run(&store, RunStatus::ERROR).await?;
    assert_eq!(run.error, "the last model call had no answer");
    assert_eq!(run.output, "");
    let events = store.list_logs_by_run(&run.id).await?;
    let [event] = &events[..] else {
        anyhow::bail!("not one event: {events:?}");
    };
    assert_eq!(event.event_type, "model_call");
    assert_eq!(event.payload["error"], "no answer");
    let asked = Usage::new().provider("openai").model("gpt-5-mini");
    assert_eq!(event.usage, Some(asked));
    assert!(event.duration.is_some());
    Ok(())
}

fn unreachable_model(command: &mut Command) -> &mut Command {
    command
        .env("AGENT_MODEL", "gpt-5-mini")
        .env("OPENAI_API_KEY", "none")
        // No server listens on port 1.
        .env("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
}

/// Returns the newest run of the researcher that a layer has recorded: it has no caller.
async fn traced_run(store: &AuditStore, status: RunStatus) -> Result<SkillRun> {
    let filter = RunFilter::new()
        .skill("researcher")
        .status(status)
        .caller("");
    let runs = store.list_runs_filtered(&filter, Page::ALL).await?;
    runs.into_iter().next().context("no such run")
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

fn researcher_calls() -> [Usage; 3] {
    [
        call("stand-in-large", [1_420, 0], [96, 40]),
        call("stand-in-large", [1_560, 1_408], [48, 0]),
        call("stand-in-large", [1_640, 1_536], [30, 0]),
    ]
}

fn editor_calls() -> [Usage; 2] {
    [
        call("stand-in-small", [180, 0], [70, 32]),
        call("stand-in-small", [264, 128], [24, 0]),
    ]
}

type ExpectedEvent<'a> = (&'a str, Value, Option<&'a Usage>);

fn tool_call<'a>(tool: &str, arguments: Value) -> ExpectedEvent<'a> {
    let payload = json!({"tool": tool, "arguments": arguments});
    ("tool_call", payload, None)
}

fn traced_tool_call<'a>(tool: &str, arguments: Value, result: &str) -> ExpectedEvent<'a> {
    let payload = json!({
        "tool": tool,
        "arguments": arguments,
        "gen_ai.tool.call.outcome": "success",
        "gen_ai.tool.call.result": result,
    });
    ("tool_call", payload, None)
}

/// Checks a finished run and its events in order.
async fn check_run(
    store: &AuditStore,
    run: &RunSummary,
    expected: &[ExpectedEvent<'_>],
    tool_calls: u64,
) -> Result<Vec<SkillRunLog>> {
    let events = check_outcome(store, run, tool_calls).await?;
    let found = events
        .iter()
        .map(|it| (&*it.event_type, it.payload.clone(), it.usage.as_ref()));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    Ok(events)
}

/// Like [`check_run`], but without the texts of model calls and the ids of tool calls.
async fn check_traced_run(
    store: &AuditStore,
    run: &RunSummary,
    expected: &[ExpectedEvent<'_>],
    tool_calls: u64,
) -> Result<()> {
    let events = check_outcome(store, run, tool_calls).await?;
    let found = events.iter().map(|event| {
        let mut payload = event.payload.clone();
        match payload.as_object_mut() {
            Some(fields) if event.event_type == "tool_call" => {
                fields.remove("gen_ai.tool.type");
                fields.remove("gen_ai.tool.call.id");
            }
            _ => payload = json!({}),
        }
        (&*event.event_type, payload, event.usage.as_ref())
    });
    assert_eq!(found.collect::<Vec<_>>(), expected);
    Ok(())
}

/// Checks a finished run, and that its totals are the sums over its events.
async fn check_outcome(
    store: &AuditStore,
    run: &RunSummary,
    tool_calls: u64,
) -> Result<Vec<SkillRunLog>> {
    let SkillRun { output, error, .. } = store.get_run(&run.id).await?;
    assert_eq!(run.status, RunStatus::OK);
    assert_eq!(output, ANSWER);
    assert_eq!(error, "");
    assert!(run.finished_at.is_some());
    assert!(run.runtime_seconds > 0.0);

    let events = store.list_logs_by_run(&run.id).await?;
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
