use std::time::Duration;

use runtrail_audit::{RunStatus, Storage};
use runtrail_otlp::{HostRun, Policy, ReceiverOptions};
use serde_json::json;

use super::exporter::{Span, run_id, span_id, traces};
use super::server::{Server, Stored, settled, types, waiting};
use crate::fixture::*;

on_each_backend! {
    async fn an_agent_becomes_a_run_with_its_calls(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let agent = Span::agent(1, "researcher").with(json!({
            "user.id": "alice",
            "gen_ai.conversation.id": "conversation-1",
            "gen_ai.input.messages": [{"role": "user", "content": "why?"}],
            "gen_ai.output.messages": [{"role": "assistant", "content": "because"}],
            // Reported again by the calls.
            "gen_ai.usage.input_tokens": 999,
        }));
        let call = Span::chat(2, 100).below(1).during(1_000, 3_500).with(json!({
            "gen_ai.response.model": "gpt-5-2026",
            "gen_ai.response.id": "answer-1",
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.reasoning.output_tokens": 5,
            "gen_ai.output.messages": [{"role": "assistant", "content": "let me look"}],
        }));
        let tool = Span::tool(3, "search").below(1).during(4_000, 5_250).with(json!({
            "gen_ai.tool.call.id": "call-1",
            "gen_ai.tool.call.arguments": r#"{"query":"tides"}"#,
            "gen_ai.tool.call.result": "2 hits",
        }));
        let failed = Span::tool(4, "fetch").below(1).during(5_000, 6_000).failed("timeout");
        let step = Span::new(5, "think").below(1).during(6_000, 7_000);
        let last = Span::chat(6, 50).below(5).during(6_100, 6_900);
        server.record(1, &[agent, call, tool, failed, step, last]).await;

        let stored = Stored::read(&store).await;
        assert_eq!(stored.0.len(), 1, "{stored:#?}");
        let run = stored.run(&run_id(1, 1));
        assert_eq!((run.skill_id.as_str(), &run.status), ("researcher", &RunStatus::OK));
        assert_eq!(run.caller_id, "alice");
        assert_eq!(run.channel_id, "conversation-1");
        assert_eq!(run.parent_run_id, None);
        let messages = json!([{"role": "user", "content": "why?"}]);
        assert_eq!(run.inputs, object(json!({"messages": messages})));
        assert_eq!((run.output.as_str(), run.error.as_str()), ("because", ""));
        assert_eq!((run.started_at, run.finished_at), (at(0), Some(at(10))));
        assert_eq!(run.runtime_seconds, 10.0);
        assert_eq!(run.tool_calls, 2);
        // The sum over the calls, not the total of the run.
        assert_eq!((run.total_input_tokens, run.total_output_tokens), (150, 75));
        assert_eq!(run.total_thinking_tokens, 5);
        assert_eq!(run.labels.get("service").map(String::as_str), Some("tests"));

        let events = stored.events(&run.id);
        let expected = ["model_call", "tool_call", "tool_call", "model_call", "span"];
        assert_eq!(types(events), expected);
        assert!(events.is_sorted_by_key(|event| event.sequence));
        let ends: Vec<_> = events.iter().map(|event| event.created_at.unwrap()).collect();
        let expected = [3_500, 5_250, 6_000, 6_900, 7_000];
        assert_eq!(ends, expected.map(|end| at(0) + chrono::TimeDelta::milliseconds(end)));
        let durations: Vec<_> = events.iter().map(|event| event.duration.unwrap()).collect();
        let expected = [2_500, 1_250, 1_000, 800, 1_000];
        assert_eq!(durations, expected.map(Duration::from_millis));

        let usage = events[0].usage.clone().unwrap();
        assert_eq!(usage.provider.as_deref(), Some("openai"));
        assert_eq!(usage.model.as_deref(), Some("gpt-5-2026"));
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(100), Some(50)));
        assert_eq!((usage.cache_read_tokens, usage.thinking_tokens), (Some(60), Some(5)));
        assert_eq!(events[0].payload["response_id"], "answer-1");
        assert_eq!(events[0].payload["span_id"], span_id(2));
        assert_eq!(events[1].payload["tool"], "search");
        assert_eq!(events[1].payload["call_id"], "call-1");
        assert_eq!(events[1].payload["arguments"], json!({"query": "tides"}));
        assert_eq!(events[1].payload["result"], "2 hits");
        assert_eq!(events[2].payload["error"], "timeout");
        assert_eq!(events[4].payload["name"], "think");
        assert_eq!(events[4].usage, None);
    }

    async fn spans_that_arrive_before_those_above_them_wait(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let step = Span::new(2, "step").below(1).during(1, 9_000);
        server.record(1, &[Span::chat(3, 10).below(2).during(2, 3)]).await;
        assert_eq!(Stored::read(&store).await.0, []);
        server.record(1, &[step]).await;
        assert_eq!(Stored::read(&store).await.0, []);
        assert_eq!(waiting(&store).await, 1);
        server.record(1, &[Span::agent(1, "late")]).await;
        let stored = Stored::read(&store).await;
        assert_eq!(stored.skills(), ["late"]);
        assert_eq!(types(stored.events(&run_id(1, 1))), ["model_call", "span"]);
        assert_eq!(stored.run(&run_id(1, 1)).total_input_tokens, 10);
        assert_eq!(waiting(&store).await, 0);
    }

    async fn an_agent_inside_a_tool_becomes_a_child_run(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let inner = [
            Span::agent(3, "translator").below(2).during(2_000, 4_000),
            Span::chat(4, 10).below(3).during(2_500, 3_000),
        ];
        let outer = [
            Span::agent(1, "lead"),
            Span::tool(2, "translate").below(1).during(1_000, 5_000),
            Span::chat(5, 100).below(1).during(6_000, 7_000),
        ];
        server.record(1, &inner).await;
        assert_eq!(Stored::read(&store).await.0, []);
        server.record(1, &outer).await;
        let stored = Stored::read(&store).await;
        assert_eq!(stored.skills(), ["lead", "translator"]);
        let (lead, translator) = (stored.run(&run_id(1, 1)), stored.run(&run_id(1, 3)));
        assert_eq!(translator.parent_run_id.as_ref(), Some(&lead.id));
        assert_eq!((lead.total_input_tokens, translator.total_input_tokens), (100, 10));
        assert_eq!((lead.tool_calls, translator.tool_calls), (1, 0));
        assert_eq!(types(stored.events(&lead.id)), ["tool_call", "model_call"]);
        assert_eq!(types(stored.events(&translator.id)), ["model_call"]);
    }

    async fn the_root_above_an_agent_becomes_the_run_above(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let request = Span::new(1, "POST /ask").with(json!({"http.request.method": "POST"}));
        let handler = Span::new(2, "handler").below(1).during(1, 9_000);
        let agent = Span::agent(3, "support").below(2).during(2, 8_000);
        server.record(1, &[agent, Span::chat(4, 10).below(3).during(3, 7_000)]).await;
        server.record(1, &[request, handler]).await;
        let stored = Stored::read(&store).await;
        assert_eq!(stored.skills(), ["POST /ask", "support"]);
        let (root, agent) = (stored.run(&run_id(1, 1)), stored.run(&run_id(1, 3)));
        assert_eq!(agent.parent_run_id.as_ref(), Some(&root.id));
        assert_eq!(types(stored.events(&root.id)), ["span"]);
        assert_eq!((root.finished_at, &root.status), (Some(at(10)), &RunStatus::OK));
    }

    async fn a_trace_without_agents_is_dropped_once_it_has_waited(database) {
        let store = database.store().await;
        let patience = Duration::from_secs(2);
        let server = Server::with(&store, ReceiverOptions::new().patience(patience)).await;
        let plain = [Span::new(1, "GET /"), Span::new(2, "SELECT").below(1)];
        server.send(1, &plain).await;
        assert_eq!(waiting(&store).await, 1);
        // One whose agent arrives in time is kept.
        server.send(2, &plain).await;
        server.send(2, &[Span::agent(3, "support").below(2)]).await;
        let stored = Stored::once(&store, |stored| stored.is_over(2)).await;
        assert_eq!(stored.skills(), ["GET /", "support"]);
        settled(&store).await;
        assert_eq!(Stored::read(&store).await, stored);
    }

    async fn a_failed_span_ends_its_run_as_an_error(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let failed = Span::agent(1, "failed").failed("the model is overloaded");
        let with_type = Span::agent(2, "typed").with(json!({"error.type": "timeout"}));
        server.record(1, &[failed]).await;
        server.record(2, &[with_type]).await;
        let stored = Stored::read(&store).await;
        let failed = stored.run(&run_id(1, 1));
        assert_eq!(failed.status, RunStatus::ERROR);
        assert_eq!(failed.error, "the model is overloaded");
        let typed = stored.run(&run_id(2, 2));
        assert_eq!((&typed.status, typed.error.as_str()), (&RunStatus::ERROR, "timeout"));
    }

    async fn the_tokens_of_a_run_count_only_if_no_call_has_any(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let total = json!({"gen_ai.usage.input_tokens": 30, "gen_ai.usage.output_tokens": 7});
        let agent = |id| Span::agent(id, "agent").with(total.clone());
        server.record(1, &[agent(1)]).await;
        server.record(2, &[agent(1), Span::unmeasured_chat(2).below(1)]).await;
        server.record(3, &[agent(1), Span::chat(2, 20).below(1)]).await;
        let stored = Stored::read(&store).await;
        let tokens = [1, 2, 3].map(|trace| {
            let run = stored.run(&run_id(trace, 1));
            (run.total_input_tokens, run.total_output_tokens)
        });
        assert_eq!(tokens, [(30, 7), (30, 7), (20, 10)]);
    }

    async fn a_call_inside_a_call_is_counted_once(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let agent = Span::agent(1, "agent");
        let inner = |id, above| Span::chat(id, 100).below(above).during(2_000, 3_000);
        let outer = Span::chat(2, 100).below(1).during(1_000, 4_000);
        server.record(1, &[agent.clone(), outer.clone(), inner(3, 2), inner(4, 1)]).await;
        // In batches, as spans end.
        server.record(2, &[inner(3, 5)]).await;
        server.record(2, &[Span::new(5, "POST").below(2).during(1_500, 3_500)]).await;
        server.record(2, &[outer]).await;
        server.record(2, &[agent]).await;
        let stored = Stored::read(&store).await;
        let [both, batches] = [1, 2].map(|trace| stored.run(&run_id(trace, 1)));
        assert_eq!((both.total_input_tokens, both.total_output_tokens), (200, 100));
        assert_eq!((batches.total_input_tokens, batches.total_output_tokens), (100, 50));
        assert_eq!(types(stored.events(&batches.id)), ["model_call", "span", "model_call"]);
        let outer = &stored.events(&batches.id)[2].usage;
        assert_eq!(outer.as_ref().and_then(|usage| usage.model.as_deref()), Some("gpt-5"));
    }

    async fn the_tokens_that_only_the_outer_of_two_calls_has_are_counted(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let spans = [
            Span::agent(1, "agent"),
            Span::chat(2, 100).below(1).during(1_000, 4_000),
            Span::unmeasured_chat(3).below(2).during(2_000, 3_000),
        ];
        server.record(1, &spans).await;
        let stored = Stored::read(&store).await;
        assert_eq!(stored.run(&run_id(1, 1)).total_input_tokens, 100, "{stored:#?}");
    }

    async fn events_that_end_in_the_same_microsecond_are_all_kept(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let tools = [2, 3, 4].map(|id| Span::tool(id, "t").below(1).during(id as i64, 5_000));
        server.send(1, &[Span::agent(1, "agent")]).await;
        server.record(1, &tools[..2]).await;
        server.record(1, &tools[2..]).await;
        let stored = Stored::read(&store).await;
        let events = stored.events(&run_id(1, 1));
        let mut spans: Vec<_> = events.iter().map(|event| &event.payload["span_id"]).collect();
        spans.sort_by_key(|id| id.to_string());
        assert_eq!(spans, [&span_id(2), &span_id(3), &span_id(4)]);
    }

    async fn spans_below_a_given_run_become_its_descendants(database) {
        let store = database.store().await;
        store.start_run(&running("above")).await.unwrap();
        let host_run = HostRun::new("above", format!("{:032x}", 1), span_id(77));
        let options = ReceiverOptions::new().host_run(host_run);
        let server = Server::with(&store, options).await;
        let below = [Span::agent(1, "below").below(77), Span::agent(2, "inner").below(1)];
        server.record(1, &below).await;
        server.record(2, &[Span::agent(3, "root")]).await;
        // Above an agent, a span that says nothing of agents is a run.
        let command = Span::new(4, "command").below(77);
        server.record(1, &[command, Span::agent(5, "nested").below(4)]).await;
        let stored = Stored::read(&store).await;
        let parent = |id: String| stored.run(&id).parent_run_id.clone().unwrap();
        assert_eq!(parent(run_id(1, 1)), "above");
        assert_eq!(parent(run_id(1, 2)), run_id(1, 1));
        assert_eq!(parent(run_id(2, 3)), "above");
        assert_eq!(parent(run_id(1, 4)), "above");
        assert_eq!(parent(run_id(1, 5)), run_id(1, 4));
        assert!(stored.run("above").is_running());
    }

    async fn without_content_no_text_is_stored(database) {
        let store = database.store().await;
        let options = ReceiverOptions::new().policy(Policy::default().without_content());
        let server = Server::with(&store, options).await;
        let message = json!([{"role": "user", "content": "a secret"}]);
        let texts = json!({
            "gen_ai.input.messages": message,
            "gen_ai.output.messages": message,
            "gen_ai.tool.call.arguments": "a secret",
            "gen_ai.tool.call.result": "a secret",
        });
        let spans = [
            Span::agent(1, "agent"),
            Span::chat(2, 10).below(1),
            Span::tool(3, "tool").below(1),
        ];
        server.record(1, &spans.map(|span| span.with(texts.clone()))).await;
        let stored = Stored::read(&store).await;
        assert_eq!(types(stored.events(&run_id(1, 1))), ["model_call", "tool_call"]);
        assert_eq!(stored.run(&run_id(1, 1)).total_input_tokens, 10);
        assert!(!format!("{stored:?}").contains("secret"), "{stored:#?}");
    }

    /// A span that can't be decoded is reported to the sender; the others are stored.
    async fn a_malformed_span_does_not_affect_the_others(database) {
        let store = database.store().await;
        let server = Server::start(&store).await;
        let mut request = traces(1, &[Span::agent(1, "agent"), Span::agent(2, "broken")]);
        request["resourceSpans"][0]["scopeSpans"][0]["spans"][1]["spanId"] = "".into();
        let answer = server.post("/v1/traces", &request).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains(r#""rejectedSpans":"1""#), "{}", answer.body);
        server.flush().await;
        assert_eq!(Stored::read(&store).await.skills(), ["agent"]);
    }
}
