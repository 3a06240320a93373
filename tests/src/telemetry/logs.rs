use std::time::Duration;

use runtrail_audit::{RunStatus, SkillRunLog};
use serde_json::{Value, json};

use super::exporter::{Log, Span, run_id};
use super::server::{LONG, Server, Stored, types, waiting};
use crate::fixture::*;

/// The logs of a prompt, without a span: numbers are texts, as Claude Code sends them.
fn session() -> Vec<Log> {
    vec![
        Log::of_claude_code(
            "user_prompt",
            0,
            json!({"prompt": "why?", "prompt_length": "4"}),
        ),
        Log::of_claude_code(
            "api_request",
            3_000,
            json!({
                "model": "claude-opus-5",
                "input_tokens": "2",
                "output_tokens": "1200",
                "cache_read_tokens": "84562",
                "cache_creation_tokens": "7096",
                "cost_usd": "0.0875",
                "duration_ms": "2500",
            }),
        ),
        Log::of_claude_code(
            "tool_result",
            4_000,
            json!({
                "tool_name": "Bash",
                "tool_use_id": "toolu_1",
                "success": "true",
                "duration_ms": "800",
                "tool_parameters": r#"{"bash_command":"ls"}"#,
            }),
        ),
        Log::of_claude_code("assistant_response", 5_000, json!({"response": "because"})),
    ]
}

const PROMPT: &str = "0c5f2a52-2d5b-4d0c-8f6f-6f0a4f1f6a01";

/// The messages of the calls of a conversation: each repeats those before it.
fn call(id: u64, texts: &[&str]) -> Span {
    let messages = texts
        .iter()
        .map(|text| json!({"role": "user", "content": text}));
    let second = 1_000 * id as i64;
    Span::chat(id, 10)
        .below(1)
        .during(second, second + 500)
        .with(json!({"gen_ai.input.messages": messages.collect::<Vec<_>>()}))
}

/// For each event, the texts of its new messages and the number of earlier ones.
fn messages(events: &[SkillRunLog]) -> Vec<(Vec<&str>, u64)> {
    let mut all = Vec::new();
    for SkillRunLog { payload, .. } in events {
        let new = payload["messages"].as_array().unwrap().iter();
        let texts = new.map(|message| message["content"].as_str().unwrap());
        let earlier = payload.get("earlier_messages").and_then(Value::as_u64);
        all.push((texts.collect(), earlier.unwrap_or(0)));
    }
    all
}

on_each_backend! {
    async fn the_logs_of_a_prompt_without_spans_become_a_run(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let id = format!("claude_code-{PROMPT}");
        for batch in session().chunks(2) {
            server.send_logs(PROMPT, batch).await;
        }
        server.flush().await;
        let stored = Stored::read(&store).await;
        assert!(stored.run(&id).is_running());
        server.receiver.finish(LONG).await.unwrap();

        let stored = Stored::read(&store).await;
        assert_eq!(stored.0.len(), 1, "{stored:#?}");
        let run = stored.run(&id);
        assert_eq!((run.skill_id.as_str(), &run.status), ("claude-code", &RunStatus::OK));
        assert_eq!((run.caller_id.as_str(), run.channel_id.as_str()), ("alice", "session-1"));
        assert_eq!(run.inputs["prompt"], "why?");
        assert_eq!(run.output, "because");
        assert_eq!((run.started_at, run.finished_at), (at(0), Some(at(5))));
        assert_eq!((run.total_input_tokens, run.total_output_tokens), (91_660, 1_200));
        assert_eq!(run.tool_calls, 1);
        let events = stored.events(&id);
        assert_eq!(types(events), ["log", "model_call", "tool_call", "log"]);
        let usage = events[1].usage.clone().unwrap();
        assert_eq!(usage.model.as_deref(), Some("claude-opus-5"));
        assert_eq!((usage.input_tokens, usage.cache_read_tokens), (Some(91_660), Some(84_562)));
        assert_eq!(usage.cost_micros, Some(87_500));
        assert_eq!(events[1].duration, Some(Duration::from_millis(2_500)));
        assert_eq!(events[1].created_at, Some(at(3)));
        assert_eq!(events[2].payload["tool"], "Bash");
        assert_eq!(events[2].payload["arguments"], json!({"bash_command": "ls"}));
        assert_eq!(waiting(&store).await, 0);

        server.send_logs(PROMPT, &session()).await;
        server.receiver.finish(LONG).await.unwrap();
        assert_eq!(Stored::read(&store).await, stored);
    }

    async fn each_message_of_a_conversation_is_stored_once(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let agent = || Span::agent(1, "agent").during(0, 20_000);
        let calls = [
            call(2, &["a"]),
            call(3, &["a", "b", "c"]),
            // Another conversation of the same run.
            call(4, &["x"]),
            call(5, &["a", "b", "c", "d"]),
            call(6, &["x", "y"]),
        ];
        server.record(1, &calls).await;
        server.record(1, &[agent()]).await;
        let stored = Stored::read(&store).await;
        let expected = [
            (vec!["a"], 0),
            (vec!["b", "c"], 1),
            (vec!["x"], 0),
            (vec!["d"], 3),
            (vec!["y"], 1),
        ];
        assert_eq!(messages(stored.events(&run_id(1, 1))), expected);
    }

    async fn messages_are_stored_once_across_receivers(database) {
        let store = database.store().await;
        let root = Span::agent(1, "agent").during(0, 20_000);
        Server::start(&store).await.record(1, &[root.clone(), call(2, &["a"])]).await;
        Server::start(&store).await.record(1, &[call(3, &["a", "b"])]).await;
        Server::start(&store).await.record(1, &[call(4, &["a", "b", "c"])]).await;
        let stored = Stored::read(&store).await;
        let expected = [(vec!["a"], 0), (vec!["b"], 1), (vec!["c"], 2)];
        assert_eq!(messages(stored.events(&run_id(1, 1))), expected);
        // Another run stores them again.
        Server::start(&store).await.record(2, &[root, call(2, &["a"])]).await;
        let stored = Stored::read(&store).await;
        assert_eq!(messages(stored.events(&run_id(2, 1))), [(vec!["a"], 0)]);
    }
}
