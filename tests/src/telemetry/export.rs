use std::fs;
use std::time::Duration;

use runtrail_audit::{BulkStorage, RunStats, RunStatus, SkillRun, SkillRunLog, Storage, Usage};
use serde_json::json;

use super::exporter::{Span, run_id};
use super::server::{Server, Stored, settled, types};
use crate::fixture::*;

/// Exports all runs as traces to a file, and returns its lines.
fn exported(cli: &Cli, name: &str) -> Vec<String> {
    cli.succeeds(&["export", "--otlp", name]);
    let text = fs::read_to_string(cli.path(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// What a receiver on another database stores of an export.
async fn received(backend: Backend, lines: &[String]) -> Stored {
    let database = TestDatabase::create(backend).await;
    let store = database.store().await;
    let server = Server::start(&store).await;
    for line in lines {
        let request = serde_json::from_str(line).unwrap();
        let answer = server.post("/v1/traces", &request).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    }
    server.flush().await;
    settled(&store).await;
    let stored = Stored::read(&store).await;
    drop(server);
    store.close().await.unwrap();
    database.drop().await;
    stored
}

on_each_backend! {
    /// Ids and events included.
    async fn received_runs_are_the_same_after_an_export(database) {
        let cli = Cli::on(database).await;
        let server = Server::start(&cli.store).await;
        let question = json!([{"role": "user", "parts": [{"type": "text", "content": "Why?"}]}]);
        let answer = json!([{"role": "assistant", "parts": [{"type": "text", "content": "So."}]}]);
        let call = Span::chat(3, 100).below(2).during(1_100, 2_000).with(json!({
            "gen_ai.response.model": "gpt-5-2026",
            "gen_ai.request.temperature": 0.5,
            "gen_ai.response.id": "answer-1",
            "gen_ai.response.finish_reasons": "[\"stop\"]",
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.cache_write.input_tokens": 20,
            "gen_ai.usage.reasoning.output_tokens": 5,
            "gen_ai.usage.cost": 0.0042,
            "gen_ai.system_instructions": "Be short.",
            "gen_ai.input.messages": question.to_string(),
            "gen_ai.output.messages": answer.to_string(),
            "server.port": 443,
        }));
        let tool = Span::tool(4, "search").below(2).during(2_500, 3_000).with(json!({
            "gen_ai.tool.call.id": "call-1",
            "gen_ai.tool.call.arguments": "{\"query\":\"tides\"}",
            "gen_ai.tool.call.result": "2 hits",
        }));
        let agent = Span::agent(2, "lead").below(1).during(1_000, 8_000).with(json!({
            "user.id": "alice",
            "gen_ai.conversation.id": "chat-7",
            "gen_ai.input.messages": question.to_string(),
            "gen_ai.output.messages": answer.to_string(),
        }));
        server.record(1, &[
            call,
            tool,
            Span::new(9, "think").below(2).during(3_000, 3_100).with(json!({"depth": 3})),
            Span::chat(7, 5).below(6).during(3_300, 3_700),
            Span::agent(6, "inner").below(5).during(3_200, 3_800).failed("no answer"),
            Span::tool(5, "delegate").below(2).during(3_100, 4_000).failed("inner failed"),
            agent,
            Span::new(1, "request"),
        ]).await;
        let original = Stored::read(&cli.store).await;
        assert!(original.is_over(3), "{original:#?}");
        let lead = original.run(&run_id(1, 2));
        assert_eq!((lead.total_input_tokens, lead.tool_calls), (100, 2));
        let events = types(original.events(&lead.id));
        assert_eq!(events, ["model_call", "tool_call", "span", "tool_call"]);

        let lines = exported(&cli, "traces.jsonl");
        assert_eq!(received(database.backend(), &lines).await, original);
    }

    async fn recorded_runs_keep_their_contents_in_an_export(database) {
        let cli = Cli::on(database).await;
        let usage = |tokens| {
            let usage = Usage::new().provider("anthropic").model("claude-5");
            usage.input_tokens(tokens).cache_read_tokens(1).output_tokens(7).cost_micros(4_200)
        };
        let lead = SkillRun::new("lead-run", "lead", at(0))
            .caller("alice")
            .channel("chat-7")
            .inputs(object(json!({"question": "why?", "depth": 3})))
            .label("service", "desk")
            .finished(at(20), RunStats::new(RunStatus::OK).output("because"));
        let inner = SkillRun::new("inner-run", "inner", at(5))
            .parent("lead-run")
            .input("prompt", "Look it up.")
            .finished(at(9), RunStats::new(RunStatus::ERROR).error("no answer"));
        let orphan = SkillRun::new("orphan", "inner", at(6))
            .parent("purged")
            .finished(at(7), RunStats::new(RunStatus::TIMEOUT).error("too late"));
        for run in [&lead, &inner, &orphan, &running("open")] {
            cli.store.start_run(run).await.unwrap();
        }
        let event = |run: &str, sequence, event_type: &str, payload| {
            SkillRunLog::new(run, sequence, event_type, payload)
                .created_at(at(5 + i64::try_from(sequence).unwrap()))
        };
        let second = Duration::from_secs(1);
        let search = json!({"tool": "search", "arguments": {"q": "tides"}, "result": ["a", "b"]});
        cli.store.append_logs(&[
            event("lead-run", 0, "stdout", json!({"text": "starting"})),
            event("lead-run", 1, "model_call", json!({"text": "x"})).duration(second).usage(usage(100)),
            event("lead-run", 2, "tool_call", search).duration(second),
            event("lead-run", 3, "exit", json!({"code": 0})),
            event("inner-run", 0, "model_call", json!({})).usage(usage(50)),
        ]).await.unwrap();

        let lines = exported(&cli, "traces.jsonl");
        assert_eq!(exported(&cli, "again.jsonl"), lines);
        let stored = received(database.backend(), &lines).await;
        assert!(stored.is_over(3), "{stored:#?}");
        let by_skill = |skill: &str, parent: bool| {
            let is_it = |run: &SkillRun| {
                run.skill_id == skill && run.parent_run_id.is_some() == parent
            };
            &stored.0.iter().find(|(run, _)| is_it(run)).unwrap().0
        };
        let top = by_skill("lead", false);
        for (run, expected) in [
            (top, &lead),
            (by_skill("inner", true), &inner),
            (by_skill("inner", false), &orphan),
        ] {
            let contents = |run: &SkillRun| (
                [run.caller_id.clone(), run.channel_id.clone()],
                [run.output.clone(), run.error.clone()],
                run.inputs.clone(),
                run.labels.clone(),
                [Some(run.started_at), run.finished_at],
            );
            assert_eq!(contents(run), contents(expected));
        }
        assert_eq!(by_skill("inner", true).parent_run_id.as_ref(), Some(&top.id));
        assert_eq!(by_skill("inner", true).status, RunStatus::ERROR);
        // OTLP knows only success and failure.
        assert_eq!(by_skill("inner", false).status, RunStatus::ERROR);
        assert_eq!((top.total_input_tokens, top.tool_calls), (100, 1));

        let events = stored.events(&top.id);
        assert_eq!(types(events), ["model_call", "tool_call"]);
        assert_eq!(events[0].usage, Some(usage(100)));
        assert_eq!((events[0].created_at, events[0].duration), (Some(at(6)), Some(second)));
        assert_eq!(events[1].payload["arguments"], json!({"q": "tides"}));
        assert_eq!(events[1].payload["result"], json!(["a", "b"]));
        let inner = stored.events(&by_skill("inner", true).id);
        assert_eq!(inner[0].usage, Some(usage(50)));
    }

    /// A history of `exec --otel`: the program's run has an id of its own.
    async fn agents_stay_below_the_run_of_their_program(database) {
        let cli = Cli::on(database).await;
        let program = SkillRun::new("program", "python", at(0))
            .finished(at(20), RunStats::new(RunStatus::OK));
        cli.store.start_run(&program).await.unwrap();
        let agent = SkillRun::new(run_id(1, 2), "lead", at(1))
            .parent("program")
            .finished(at(10), RunStats::new(RunStatus::OK));
        cli.store.start_run(&agent).await.unwrap();
        let stored = received(database.backend(), &exported(&cli, "traces.jsonl")).await;
        assert_eq!(stored.skills(), ["lead", "python"]);
        let [(program, _), (agent, _)] = &stored.0[..] else {
            panic!("{stored:#?}");
        };
        assert_eq!(agent.parent_run_id.as_ref(), Some(&program.id));
        assert!(agent.id.ends_with("-0000000000000002"), "{}", agent.id);
    }
}
