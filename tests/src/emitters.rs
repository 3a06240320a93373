//! Agents written with other projects, recorded by `runtrail exec --otel`. Their models run offline.
//!
//! `tests/emitters` has the scripts and the versions of their packages. The script and its telemetry
//! contain nothing of Runtrail: all settings come from the environment that `exec` sets.

use runtrail_audit::{SkillRun, SkillRunLog, Storage, Usage};
use runtrail_test_servers::install_emitter;
use serde_json::{Value, json};

use crate::fixture::*;

/// The id of the run that `exec` records.
const TOP: &str = "top";

/// What an emitter has left in a history.
struct Recorded {
    cli: Cli,
    /// The line that the script has printed: the tokens that the emitter itself counts.
    counted: Value,
}

impl Recorded {
    async fn of(database: &TestDatabase, emitter: &str, arguments: &[&str]) -> Self {
        let command = install_emitter(emitter).unwrap();
        let cli = Cli::on(database).await;
        let exec = |options: &[&str]| {
            let mut exec = cli.command(&[&["exec", "--otel"], options, &["--"]].concat());
            let output = exec.args(&command).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            serde_json::from_str(&stdout(&output)).unwrap()
        };
        let counted = exec(&["--id", TOP]);
        exec(&["--id", "without-content", "--no-content"]);
        Self { cli, counted }
    }

    fn counted(&self, pointer: &str) -> [u64; 2] {
        let count = |kind| self.counted.pointer(&format!("{pointer}/{kind}"));
        ["input", "output"].map(|kind| count(kind).and_then(Value::as_u64).unwrap())
    }

    /// Returns the children of a run in the order in which they started.
    async fn children(&self, id: &str) -> Vec<SkillRun> {
        let mut children = self.cli.store.list_children_by_parent(id).await.unwrap();
        children.reverse();
        assert!(children.iter().all(|run| !run.is_running()), "{children:?}");
        children
    }

    /// Returns the children of `exec`'s run, and expects that these are their skills.
    async fn agents<const N: usize>(&self, skills: [&str; N]) -> [SkillRun; N] {
        assert_eq!(self.cli.run(TOP).await.status.as_str(), "ok");
        let agents = self.children(TOP).await;
        let found: Vec<_> = agents.iter().map(|run| run.skill_id.as_str()).collect();
        assert_eq!(found, skills);
        agents.try_into().unwrap()
    }

    /// Returns the only child of a run.
    async fn child(&self, run: &SkillRun) -> SkillRun {
        let children = self.children(&run.id).await;
        let [child] = children.try_into().unwrap();
        child
    }

    async fn calls(&self, run: &SkillRun, event_type: &str) -> Vec<SkillRunLog> {
        let mut events = self.cli.events(&run.id).await;
        events.retain(|event| event.event_type == event_type);
        events
    }

    async fn model_calls(&self, run: &SkillRun) -> Vec<SkillRunLog> {
        self.calls(run, "model_call").await
    }

    /// Returns the name, arguments and result of each tool call of a run, sorted by name.
    async fn tools(&self, run: &SkillRun) -> Vec<Value> {
        let calls = self.calls(run, "tool_call").await;
        assert_eq!(run.tool_calls, calls.len() as u64);
        let mut tools: Vec<_> = calls
            .iter()
            .map(|call| {
                assert!(call.payload["call_id"].is_string(), "{call:?}");
                json!([
                    call.payload["tool"],
                    call.payload["arguments"],
                    call.payload["result"]
                ])
            })
            .collect();
        tools.sort_by_key(Value::to_string);
        tools
    }

    /// Returns the error of the only tool call of a run.
    async fn error_of_the_tool(&self, run: &SkillRun) -> Value {
        let [call] = self.calls(run, "tool_call").await.try_into().unwrap();
        call.payload["error"].clone()
    }

    /// Adds up the input and output tokens of the model calls of a run, which are also its totals.
    async fn tokens(&self, run: &SkillRun) -> [u64; 2] {
        let mut sums = [0; 2];
        for call in self.model_calls(run).await {
            let usage = usage(&call);
            sums[0] += usage.input_tokens.unwrap_or_default();
            sums[1] += usage.output_tokens.unwrap_or_default();
        }
        assert_eq!(sums, [run.total_input_tokens, run.total_output_tokens]);
        sums
    }

    /// Expects that the events of a run contain this text once, and all its messages in order.
    async fn has_messages_once(&self, run: &SkillRun, text: &str) {
        let mut stored = 0;
        for call in self.model_calls(run).await {
            let earlier = call.payload["earlier_messages"].as_u64().unwrap_or(0);
            assert_eq!(earlier, stored, "{}", call.payload);
            stored += call.payload["messages"].as_array().unwrap().len() as u64;
        }
        let calls = self.model_calls(run).await;
        let texts = calls.iter().map(|call| call.payload.to_string());
        let found: usize = texts.map(|payload| payload.matches(text).count()).sum();
        assert_eq!(found, 1, "{text}");
    }

    /// Expects none of these texts below the run that was recorded with `--no-content`.
    async fn has_left_out(&self, texts: &[&str]) {
        let mut runs = self.children("without-content").await;
        assert!(!runs.is_empty());
        while let Some(run) = runs.pop() {
            let events = self.cli.events(&run.id).await;
            assert!(!events.is_empty(), "{run:?}");
            let stored = format!("{run:?} {events:?}");
            for text in texts {
                assert!(!stored.contains(text), "{text}: {stored}");
            }
            runs.extend(self.children(&run.id).await);
        }
    }
}

fn usage(call: &SkillRunLog) -> Usage {
    call.usage.clone().unwrap()
}

/// The status, output and error of a run.
fn outcome(run: &SkillRun) -> (&str, &str, &str) {
    (run.status.as_str(), &run.output, &run.error)
}

#[test]
fn agents_of_pydantic_ai_are_recorded() {
    on_database(Backend::Sqlite, async |database| {
        let recorded = Recorded::of(database, "pydantic-ai", &[]).await;
        let agents = recorded.agents(["coordinator", "unlucky", "clumsy"]).await;
        let [coordinator, unlucky, clumsy] = agents;
        let researcher = recorded.child(&coordinator).await;
        assert_eq!(researcher.skill_id, "researcher");

        assert_eq!(outcome(&coordinator), ("ok", "Pack a light jacket.", ""));
        let prompt = "What do I need for Lisbon in May?";
        let message = json!({"role": "user", "parts": [{"type": "text", "content": prompt}]});
        assert_eq!(
            Value::from(coordinator.inputs.clone()),
            json!({"messages": [message]})
        );
        assert!(!coordinator.channel_id.is_empty());
        recorded.has_messages_once(&coordinator, prompt).await;

        assert_eq!(
            recorded.tokens(&coordinator).await,
            recorded.counted("/coordinator")
        );
        assert_eq!(
            recorded.tokens(&researcher).await,
            recorded.counted("/researcher")
        );
        for (run, model) in [(&coordinator, "large"), (&researcher, "small")] {
            let calls = recorded.model_calls(run).await;
            assert_eq!(calls.len(), 2);
            for call in &calls {
                let usage = usage(call);
                assert_eq!(usage.provider.as_deref(), Some("test"));
                assert_eq!(usage.model.as_deref(), Some(model));
            }
        }
        assert_eq!(
            recorded.tools(&coordinator).await,
            [
                json!(["currency", {"country": "a"}, "euro"]),
                json!(["research", {"topic": "a"}, "Lisbon is mild in May."]),
            ]
        );
        assert_eq!(
            recorded.tools(&researcher).await,
            [json!(["climate", {"city": "a"}, {"high": 22, "low": 14}])]
        );

        let error = "RuntimeError: the model is unavailable";
        assert_eq!(outcome(&unlucky), ("error", "", error));
        let calls = recorded.model_calls(&unlucky).await;
        assert_eq!(calls[0].payload["error"], error);
        let error = "ValueError: the tool is broken";
        assert_eq!(outcome(&clumsy), ("error", "", error));
        assert_eq!(recorded.error_of_the_tool(&clumsy).await, error);

        let texts = [prompt, "You plan", "You know", "euro", "jacket", "Try it"];
        recorded.has_left_out(&texts).await;
    });
}

#[test]
fn agents_of_langchain_are_recorded() {
    on_database(Backend::Sqlite, async |database| {
        let recorded = Recorded::of(database, "langchain", &[]).await;
        let [boss, printer] = recorded.agents(["boss", "printer"]).await;
        let clerk = recorded.child(&boss).await;
        assert_eq!(clerk.skill_id, "clerk");
        // Its node is called `agent`.
        assert!(recorded.children(&printer.id).await.is_empty());

        assert_eq!(outcome(&boss), ("ok", "We have 7 boxes.", ""));
        assert_eq!(outcome(&clerk), ("ok", "7 boxes.", ""));
        assert_eq!(boss.channel_id, "thread-1");
        recorded.has_messages_once(&boss, "Do we have bolts?").await;

        let [mut input, mut output] = [0; 2];
        for run in [&boss, &clerk, &printer] {
            let tokens = recorded.tokens(run).await;
            input += tokens[0];
            output += tokens[1];
        }
        assert_eq!([input, output], recorded.counted(""));
        let calls = recorded.model_calls(&clerk).await;
        let last = usage(&calls[1]);
        assert_eq!(last.model.as_deref(), Some("fake-1"));
        assert_eq!(
            (last.input_tokens, last.cache_read_tokens),
            (Some(130), Some(90))
        );

        let arguments = json!({"question": "How many bolts?", "urgent": true});
        assert_eq!(
            recorded.tools(&boss).await,
            [json!(["ask_clerk_agent", arguments, "7 boxes."])]
        );
        assert_eq!(
            recorded.tools(&clerk).await,
            [json!(["stock", {"item": "bolts", "unit": "boxes"}, "7 boxes of bolts"])]
        );

        let error = "ValueError: the printer is jammed";
        assert_eq!(outcome(&printer), ("error", "", error));
        assert_eq!(recorded.error_of_the_tool(&printer).await, error);

        let texts = ["bolts", "boxes", "You know", "Print the list"];
        recorded.has_left_out(&texts).await;
    });
}

/// Expects what both versions of the names have in common, and returns the calls of the first agent.
async fn check_vercel_ai(recorded: &Recorded) -> Vec<SkillRunLog> {
    let agents = recorded
        .agents(["weather", "counter", "clumsy", "unlucky"])
        .await;
    let [weather, counter, clumsy, unlucky] = agents;
    let geographer = recorded.child(&weather).await;
    assert_eq!(geographer.skill_id, "geographer");

    assert_eq!(outcome(&weather), ("ok", "Take an umbrella.", ""));
    assert_eq!(outcome(&geographer), ("ok", "In Norway.", ""));
    assert_eq!(outcome(&counter), ("ok", "One, two.", ""));
    let prompt = "Do I need an umbrella in Oslo?";
    assert!(
        Value::from(weather.inputs.clone())
            .to_string()
            .contains(prompt)
    );
    recorded.has_messages_once(&weather, prompt).await;

    assert_eq!(recorded.tokens(&weather).await, recorded.counted(""));
    assert_eq!(recorded.tokens(&geographer).await, [20, 5]);
    assert_eq!(recorded.tokens(&counter).await, [7, 4]);
    assert_eq!(recorded.tokens(&clumsy).await, [25, 5]);
    let calls = recorded.model_calls(&weather).await;
    let cached: Vec<_> = calls
        .iter()
        .map(|call| usage(call).cache_read_tokens)
        .collect();
    assert_eq!(cached, [Some(60), Some(100)]);
    for call in &calls {
        let usage = usage(call);
        assert_eq!(usage.provider.as_deref(), Some("mock.chat"));
        assert_eq!(usage.model.as_deref(), Some("mock-large-2026"));
        assert_eq!(call.payload["request"]["model"], "mock-large");
    }
    assert_eq!(
        recorded.tools(&weather).await,
        [
            json!(["ask_geographer", {"question": "Where is Oslo?"}, "In Norway."]),
            json!(["forecast", {"city": "Oslo"}, {"city": "Oslo", "rain": true}]),
        ]
    );

    // The model has seen the error of its tool, and gone on.
    assert_eq!(outcome(&clumsy), ("ok", "It failed.", ""));
    assert_eq!(
        recorded.error_of_the_tool(&clumsy).await,
        "the tool is broken"
    );
    assert_eq!(outcome(&unlucky), ("error", "", "the model is unavailable"));

    recorded
        .has_left_out(&["umbrella", "Oslo", "You know", "Norway", "Hello?"])
        .await;
    calls
}

#[test]
fn agents_of_vercel_ai_are_recorded() {
    on_database(Backend::Sqlite, async |database| {
        let recorded = Recorded::of(database, "vercel-ai", &[]).await;
        let calls = check_vercel_ai(&recorded).await;
        let output = &calls[0].payload["output"][0]["parts"];
        assert_eq!(output[1]["arguments"], json!({"city": "Oslo"}));
    });
}

#[test]
fn agents_of_vercel_ai_are_recorded_by_its_older_names_too() {
    on_database(Backend::Sqlite, async |database| {
        let recorded = Recorded::of(database, "vercel-ai", &["legacy"]).await;
        let calls = check_vercel_ai(&recorded).await;
        // Only these names include reasoning.
        assert_eq!(usage(&calls[0]).thinking_tokens, Some(10));
    });
}
