//! The layer that records the spans of agents.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use runtrail_audit::{
    Owner, Ownership, Page, RunFilter, RunStatus, RunTree, SkillRun, SkillRunLog, Storage,
};
use runtrail_record::{Recorder, layer};
use runtrail_store::AuditStore;
use serde_json::{Value, json};
use tracing::instrument::WithSubscriber;
use tracing::{Span, field, info_span};
use tracing_subscriber::prelude::*;

use crate::fixture::*;

const LONG: Duration = Duration::from_secs(60);

fn recorder(store: &AuditStore) -> Recorder {
    Recorder::new(Arc::new(store.clone()))
}

/// Runs a function whose spans are recorded.
fn recorded<T>(recorder: &Recorder, function: impl FnOnce() -> T) -> T {
    let subscriber = tracing_subscriber::registry().with(layer(recorder));
    tracing::subscriber::with_default(subscriber, function)
}

/// All runs, oldest first, once everything is written.
async fn runs(recorder: &Recorder, store: &AuditStore) -> Vec<SkillRun> {
    let unwritten = recorder.shutdown(LONG).await;
    assert!(unwritten.is_empty(), "{unwritten:?}");
    let mut runs = store
        .list_runs_filtered(&RunFilter::new(), Page::ALL)
        .await
        .unwrap();
    runs.reverse();
    runs
}

async fn events(store: &AuditStore, run: &SkillRun) -> Vec<SkillRunLog> {
    store.list_logs_by_run(&run.id).await.unwrap()
}

/// The skill, the status and the error of each run.
fn outcomes(runs: &[SkillRun]) -> Vec<(&str, &str, &str)> {
    runs.iter()
        .map(|run| {
            (
                run.skill_id.as_str(),
                run.status.as_str(),
                run.error.as_str(),
            )
        })
        .collect()
}

fn types(events: &[SkillRunLog]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event.event_type.as_str())
        .collect()
}

/// The spans of rig 0.44.
mod rig {
    use super::*;

    pub(super) fn agent(name: &str) -> Span {
        info_span!(
            parent: None,
            "invoke_agent",
            gen_ai.operation.name = "invoke_agent",
            gen_ai.agent.name = name,
            gen_ai.prompt = field::Empty,
            gen_ai.completion = field::Empty,
            gen_ai.usage.input_tokens = field::Empty,
            gen_ai.usage.output_tokens = field::Empty,
        )
    }

    /// A model call without an answer.
    pub(super) fn unanswered_chat(agent: &str) -> Span {
        let span = info_span!(
            target: "rig::agent_chat",
            "chat",
            rig.completion_parent = true,
            gen_ai.operation.name = "chat",
            gen_ai.agent.name = agent,
            gen_ai.provider.name = field::Empty,
            gen_ai.request.model = field::Empty,
            gen_ai.response.model = field::Empty,
            gen_ai.response.id = field::Empty,
            gen_ai.usage.input_tokens = field::Empty,
            gen_ai.usage.output_tokens = field::Empty,
            gen_ai.usage.cache_read.input_tokens = field::Empty,
            gen_ai.usage.reasoning_tokens = field::Empty,
            gen_ai.output.messages = field::Empty,
        );
        span.record("gen_ai.provider.name", "openai");
        span.record("gen_ai.request.model", "gpt-5");
        span
    }

    pub(super) fn chat(agent: &str) -> Span {
        let span = unanswered_chat(agent);
        span.record("gen_ai.response.model", "gpt-5-2026");
        span.record("gen_ai.response.id", "answer-1");
        span.record("gen_ai.usage.input_tokens", 100_u64);
        span.record("gen_ai.usage.output_tokens", 20_u64);
        span.record("gen_ai.usage.cache_read.input_tokens", 60_u64);
        span.record("gen_ai.usage.reasoning_tokens", 5_u64);
        span.record("gen_ai.output.messages", "secret answer");
        span
    }

    pub(super) fn tool(name: &str, arguments: &str) -> Span {
        let span = info_span!(
            "execute_tool",
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = field::Empty,
            gen_ai.tool.call.arguments = field::Empty,
            gen_ai.tool.call.result = field::Empty,
            gen_ai.tool.error.type = field::Empty,
        );
        span.record("gen_ai.tool.name", name);
        span.record("gen_ai.tool.call.arguments", arguments);
        span
    }
}

on_each_backend! {
    async fn an_agent_becomes_a_run_with_its_calls(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        recorded(&recorder, || {
            let agent = rig::agent("researcher");
            agent.record("gen_ai.prompt", "why?");
            agent.in_scope(|| {
                rig::chat("researcher").in_scope(|| ());
                rig::tool("search", r#"{"query":"tides"}"#).in_scope(|| {
                    tracing::warn!(tries = 2, "slow");
                });
                let failed = rig::tool("fetch", "not JSON");
                failed.record("gen_ai.tool.error.type", "timeout");
                drop(failed);
                rig::chat("researcher").in_scope(|| tracing::info!("not recorded"));
            });
            agent.record("gen_ai.completion", "because");
            agent.record("gen_ai.usage.input_tokens", 999_u64);
        });
        let runs = runs(&recorder, &store).await;
        let [run] = &runs[..] else { panic!("{runs:?}") };
        assert_eq!((run.skill_id.as_str(), &run.status), ("researcher", &RunStatus::OK));
        assert_eq!(run.inputs, object(json!({"prompt": "why?"})));
        assert_eq!(run.output, "because");
        assert_eq!(run.tool_calls, 2);
        // The sum over the calls, not the total that the agent's span reports again.
        assert_eq!(run.total_input_tokens, 200);
        assert_eq!((run.total_output_tokens, run.total_thinking_tokens), (40, 10));

        let events = events(&store, run).await;
        assert_eq!(types(&events), ["model_call", "log", "tool_call", "tool_call", "model_call"]);
        let usage = events[0].usage.clone().unwrap();
        assert_eq!(usage.provider.as_deref(), Some("openai"));
        assert_eq!(usage.model.as_deref(), Some("gpt-5-2026"));
        assert_eq!((usage.input_tokens, usage.cache_read_tokens), (Some(100), Some(60)));
        assert_eq!(events[0].payload["gen_ai.response.id"], "answer-1");
        assert!(events[0].duration.is_some());
        assert_eq!(events[1].payload["message"], "slow");
        assert_eq!(events[1].payload["fields"], json!({"tries": 2}));
        assert_eq!(events[2].payload["tool"], "search");
        assert_eq!(events[2].payload["arguments"], json!({"query": "tides"}));
        assert_eq!(events[3].payload["arguments"], "not JSON");
        assert_eq!(events[3].payload["gen_ai.tool.error.type"], "timeout");
    }

    async fn an_agent_inside_a_tool_becomes_a_child_run(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        recorded(&recorder, || {
            rig::agent("lead").in_scope(|| {
                drop(rig::chat("lead"));
                let tool = rig::tool("translate", r#"{"text":"In short"}"#);
                // rig adopts the tool's span for the inner agent.
                tool.in_scope(|| {
                    drop(rig::chat("translator"));
                    drop(rig::tool("dictionary", "{}"));
                    drop(rig::chat("translator"));
                });
                tool.record("gen_ai.tool.call.result", "En bref");
                drop(tool);
                drop(rig::chat("lead"));
            });
        });
        let runs = runs(&recorder, &store).await;
        let [lead, translator] = &runs[..] else { panic!("{runs:?}") };
        assert_eq!((lead.skill_id.as_str(), translator.skill_id.as_str()), ("lead", "translator"));
        assert_eq!(translator.parent_run_id.as_ref(), Some(&lead.id));
        assert_eq!(translator.inputs, object(json!({"text": "In short"})));
        assert_eq!(translator.output, "En bref");
        assert_eq!((lead.total_input_tokens, translator.total_input_tokens), (200, 200));
        assert_eq!(types(&events(&store, lead).await), ["model_call", "tool_call", "model_call"]);
        let inner = events(&store, translator).await;
        assert_eq!(types(&inner), ["model_call", "tool_call", "model_call"]);
        assert_eq!(inner[1].payload["tool"], "dictionary");
        assert_eq!(store.list_subtree(&lead.id).await.unwrap().len(), 2);
    }

    async fn the_outermost_span_around_a_call_becomes_the_run(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        recorded(&recorder, || {
            let request = info_span!("answer_ticket", user.id = "alice", session.id = "s-1");
            request.in_scope(|| {
                drop(info_span!("before"));
                info_span!("agent loop").in_scope(|| drop(rig::chat("support")));
                drop(info_span!("after", rows = 3));
                drop(tracing::debug_span!("detail"));
            });
            // No call of a model or tool.
            info_span!("another request").in_scope(|| drop(info_span!("inner")));
            // No span around it.
            drop(rig::chat("alone"));
        });
        let runs = runs(&recorder, &store).await;
        let [ticket, alone] = &runs[..] else { panic!("{runs:?}") };
        assert_eq!(ticket.skill_id, "support");
        assert_eq!((ticket.caller_id.as_str(), ticket.channel_id.as_str()), ("alice", "s-1"));
        // What happened before the first call isn't known to belong to an agent.
        let recorded = events(&store, ticket).await;
        assert_eq!(types(&recorded), ["model_call", "span", "span"]);
        assert_eq!(recorded[1].payload["name"], "agent loop");
        assert_eq!(recorded[2].payload["fields"], json!({"rows": 3}));
        assert_eq!(alone.skill_id, "alone");
        assert_eq!(types(&events(&store, alone).await), ["model_call"]);
        assert_eq!((ticket.total_input_tokens, alone.total_input_tokens), (100, 100));
    }

    async fn a_call_inside_a_call_is_counted_once(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        recorded(&recorder, || {
            rig::agent("a").in_scope(|| rig::chat("a").in_scope(|| drop(rig::chat("a"))));
            // The outer call is itself the run.
            rig::chat("b").in_scope(|| rig::chat("b").in_scope(|| drop(rig::chat("b"))));
            // Only the outer call knows the tokens.
            rig::agent("c").in_scope(|| {
                rig::chat("c").in_scope(|| {
                    drop(info_span!("request", gen_ai.operation.name = "chat"));
                });
            });
        });
        let runs = runs(&recorder, &store).await;
        for (run, calls) in runs.iter().zip([2, 3, 2]) {
            assert_eq!(run.total_input_tokens, 100, "{run:?}");
            let events = events(&store, run).await;
            let with_usage = events.iter().filter(|event| event.usage.is_some());
            assert_eq!((types(&events).len(), with_usage.count()), (calls, 1), "{run:?}");
        }
        assert_eq!(runs.len(), 3);
    }

    /// Of a failed call or run, rig records only that the answer is missing.
    async fn a_run_whose_last_call_has_no_answer_ends_as_an_error(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        recorded(&recorder, || {
            rig::agent("unreachable").in_scope(|| drop(rig::unanswered_chat("a")));
            rig::agent("retried").in_scope(|| {
                drop(rig::unanswered_chat("a"));
                drop(rig::chat("a"));
            });
            let replaced = rig::agent("replaced");
            replaced.in_scope(|| drop(rig::unanswered_chat("a")));
            replaced.record("gen_ai.completion", "from a cache");
            drop(replaced);
            drop(rig::unanswered_chat("alone"));
        });
        let runs = runs(&recorder, &store).await;
        let no_answer = "the last model call had no answer";
        assert_eq!(
            outcomes(&runs),
            [
                ("unreachable", "error", no_answer),
                ("retried", "ok", ""),
                ("replaced", "ok", ""),
                ("alone", "error", no_answer),
            ]
        );
        let retried = events(&store, &runs[1]).await;
        assert_eq!(retried[0].payload["error"], "no answer");
        assert_eq!(retried[1].payload.get("error"), None);
    }

    async fn a_run_that_panics_ends_as_an_error(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        recorded(&recorder, || {
            let task = || rig::agent("a").in_scope(|| resume_unwind(Box::new("stop")));
            catch_unwind(AssertUnwindSafe(task)).unwrap_err();
        });
        let runs = runs(&recorder, &store).await;
        assert_eq!((&runs[0].status, runs[0].error.as_str()), (&RunStatus::ERROR, "panicked"));
    }

    /// Formatting a value runs a host's code, while the layer processes the span.
    async fn a_value_that_logs_or_panics_when_it_is_formatted_does_no_harm(database) {
        struct Logs;

        impl fmt::Debug for Logs {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                tracing::warn!("formatted");
                f.write_str("logs")
            }
        }

        struct Panics;

        impl fmt::Debug for Panics {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                resume_unwind(Box::new("stop"))
            }
        }

        let store = database.store().await;
        let recorder = recorder(&store);
        recorded(&recorder, || {
            let agent = rig::agent("a");
            let _entered = agent.enter();
            agent.record("gen_ai.prompt", field::debug(Logs));
            let record = || agent.record("gen_ai.prompt", field::debug(Panics));
            catch_unwind(AssertUnwindSafe(record)).unwrap_err();
            agent.record("gen_ai.completion", "done");
        });
        let runs = runs(&recorder, &store).await;
        assert_eq!((&runs[0].status, runs[0].output.as_str()), (&RunStatus::OK, "done"));
        assert_eq!(runs[0].inputs, object(json!({"prompt": "logs"})));
        assert_eq!(types(&events(&store, &runs[0]).await), ["log"]);
    }

    async fn a_second_layer_of_a_subscriber_records_no_further_runs(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        let subscriber =
            tracing_subscriber::registry().with(layer(&recorder)).with(layer(&recorder));
        tracing::subscriber::with_default(subscriber, || {
            rig::agent("a").in_scope(|| drop(rig::chat("a")));
        });
        let runs = runs(&recorder, &store).await;
        assert_eq!(runs.len(), 1);
        assert_eq!(types(&events(&store, &runs[0]).await), ["model_call"]);
    }

    /// The last span may be closed by the destructor of a thread's value, after tokio's own.
    async fn a_span_that_a_thread_closes_when_it_ends_is_recorded(database) {
        thread_local! {
            static SPANS: RefCell<Vec<Span>> = const { RefCell::new(Vec::new()) };
        }

        let store = database.store().await;
        let recorder = recorder(&store);
        let subscriber = tracing_subscriber::registry().with(layer(&recorder));
        let dispatch = tracing::Dispatch::new(subscriber);
        let thread = thread::spawn(move || {
            SPANS.with_borrow_mut(|spans| spans.reserve(1));
            tracing::dispatcher::with_default(&dispatch, || {
                let agent = rig::agent("a");
                agent.in_scope(|| drop(rig::chat("a")));
                SPANS.with_borrow_mut(|spans| spans.push(agent));
            });
        });
        thread.join().unwrap();
        let runs = runs(&recorder, &store).await;
        assert_eq!((&runs[0].status, runs[0].total_input_tokens), (&RunStatus::OK, 100));
    }

    async fn fields_that_are_recorded_later_describe_the_run(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        recorded(&recorder, || {
            let request = info_span!("request", user.id = field::Empty, session.id = field::Empty);
            request.in_scope(|| drop(rig::chat("a")));
            request.record("user.id", "alice");
            request.record("session.id", "s-1");
        });
        let runs = runs(&recorder, &store).await;
        assert_eq!((runs[0].caller_id.as_str(), runs[0].channel_id.as_str()), ("alice", "s-1"));
        assert_eq!(runs.len(), 1);
    }

    /// As in an application that runs each request in a runtime of its own.
    async fn the_layer_outlives_the_runtime_in_which_it_was_created(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        let created = recorder.clone();
        let layer = thread::spawn(move || runtime().block_on(async { layer(&created) }));
        let subscriber = tracing_subscriber::registry().with(layer.join().unwrap());
        tracing::subscriber::with_default(subscriber, || {
            rig::agent("a").in_scope(|| drop(rig::chat("a")));
        });
        // Without `shutdown`, which would start the task.
        let written = async {
            loop {
                let runs = store.list_runs_filtered(&RunFilter::new(), Page::ALL).await.unwrap();
                if runs.first().is_some_and(|run| run.status == RunStatus::OK) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, written).await.unwrap();
    }

    async fn dropping_a_subscriber_ends_its_runs(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        recorded(&recorder, || {
            // The span stays open, but no handle keeps the subscriber alive.
            let agent = rig::agent("a");
            let id = agent.id().unwrap();
            tracing::dispatcher::get_default(|dispatch| dispatch.clone_span(&id));
        });
        let runs = runs(&recorder, &store).await;
        assert_eq!(runs[0].status, RunStatus::ERROR);
        assert!(runs[0].error.starts_with("dropped"), "{}", runs[0].error);
    }

    async fn an_error_in_the_span_of_a_run_fails_the_run(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        recorded(&recorder, || {
            rig::agent("event").in_scope(|| tracing::error!(error = "no answer", "failed"));
            rig::agent("inner event").in_scope(|| {
                info_span!("retried").in_scope(|| tracing::error!("first try failed"));
            });
            let fields = info_span!(
                "invoke_agent",
                gen_ai.operation.name = "invoke_agent",
                gen_ai.agent.name = "fields",
                error.type = field::Empty,
                otel.status_code = field::Empty,
            );
            fields.record("error.type", "rate_limit");
            fields.record("otel.status_code", "ERROR");
        });
        let runs = runs(&recorder, &store).await;
        assert_eq!(
            outcomes(&runs),
            [
                ("event", "error", "no answer"),
                ("inner event", "ok", ""),
                ("fields", "error", "rate_limit"),
            ]
        );
    }

    async fn contradictory_and_hostile_fields_are_recorded_as_far_as_they_can_be_stored(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        recorded(&recorder, || {
            let name = format!("nul \0 {}", "\u{e4}".repeat(300));
            rig::agent(&name).in_scope(|| {
                let call = |input: u64, cached: u64| {
                    info_span!(
                        "chat",
                        gen_ai.operation.name = "chat",
                        gen_ai.request.model = "m".repeat(300),
                        // A sender that doesn't count cached tokens as input.
                        gen_ai.usage.input_tokens = input,
                        gen_ai.usage.cache_read.input_tokens = cached,
                        text = "x".repeat(1 << 20),
                    )
                };
                drop(call(2, 80_000));
                drop(call(u64::MAX, 1));
                drop(call(i64::MAX as u64, i64::MAX as u64));
                drop(info_span!("chat", gen_ai.operation.name = "chat", answer = f64::NAN));
            });
        });
        let runs = runs(&recorder, &store).await;
        assert!(runs[0].skill_id.starts_with("nul \u{FFFD} \u{e4}"));
        let events = events(&store, &runs[0]).await;
        assert_eq!(types(&events), ["model_call"; 4]);
        let usage = events[0].usage.clone().unwrap();
        assert_eq!((usage.input_tokens, usage.cache_read_tokens), (Some(80_002), Some(80_000)));
        let text = events[0].payload["text"].as_str().unwrap();
        assert!(text.len() < 70_000 && text.ends_with("(1048576 bytes)"));
        assert_eq!(events[3].payload["answer"], Value::Null);
    }

    async fn content_can_be_left_out(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        let subscriber = tracing_subscriber::registry().with(layer(&recorder).without_content());
        tracing::subscriber::with_default(subscriber, || {
            let agent = rig::agent("a");
            agent.record("gen_ai.prompt", "secret prompt");
            agent.in_scope(|| {
                drop(rig::chat("a"));
                let tool = rig::tool("search", "secret arguments");
                tool.record("gen_ai.tool.call.result", "secret result");
            });
            agent.record("gen_ai.completion", "secret completion");
        });
        let runs = runs(&recorder, &store).await;
        let everything = format!("{runs:?} {:?}", events(&store, &runs[0]).await);
        assert!(!everything.contains("secret"), "{everything}");
        assert_eq!((runs[0].tool_calls, runs[0].total_input_tokens), (1, 100));
    }

    /// The store's own spans and statements would otherwise be recorded, and cause more of them.
    async fn spans_caused_by_recording_are_not_recorded(database) {
        let store = database.store().await;
        let recorder = recorder(&store);
        let subscriber = tracing_subscriber::registry().with(layer(&recorder));
        async {
            let agent = rig::agent("a");
            let _entered = agent.enter();
            // In the agent's span, on this task.
            store.start_run(&running("by hand")).await.unwrap();
            store.get_run("unknown").await.unwrap_err();
            store.finish_run("by hand", &stats()).await.unwrap();
        }
        .with_subscriber(subscriber)
        .await;
        let runs = runs(&recorder, &store).await;
        let run = runs.iter().find(|run| run.skill_id == "a").unwrap();
        assert_eq!(events(&store, run).await, []);
    }

    async fn spans_of_many_threads_are_recorded_while_the_store_is_busy(database) {
        const THREADS: usize = 8;
        const RUNS: usize = 25;

        let store = database.store().await;
        let recorder = recorder(&store);
        let subscriber = tracing_subscriber::registry().with(layer(&recorder));
        let dispatch = tracing::Dispatch::new(subscriber);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                // These threads belong to no runtime.
                scope.spawn(|| {
                    tracing::dispatcher::with_default(&dispatch, || {
                        for _ in 0..RUNS {
                            let agent = rig::agent("a");
                            let call = agent.in_scope(|| rig::chat("a"));
                            let tool = agent.in_scope(|| rig::tool("t", "{}"));
                            // Out of order.
                            drop(agent);
                            drop(call);
                            drop(tool);
                        }
                    });
                });
            }
        });
        let runs = runs(&recorder, &store).await;
        assert_eq!(runs.len(), THREADS * RUNS);
        for run in &runs {
            let totals = (run.total_input_tokens, run.tool_calls);
            assert_eq!((run.status.as_str(), totals), ("ok", (100, 1)));
            assert_eq!(types(&events(&store, run).await), ["model_call", "tool_call"]);
        }
    }

    async fn a_full_buffer_loses_events_but_no_run(database) {
        let store = database.store().await;
        let recorder = recorder(&store).with_buffer(10, 1 << 20);
        recorded(&recorder, || {
            for _ in 0..20 {
                rig::agent("a").in_scope(|| drop(rig::chat("a")));
            }
        });
        let unwritten = recorder.shutdown(LONG).await;
        assert_eq!((unwritten.starts, unwritten.events, unwritten.runs), (0, 0, 0));
        let runs = store.list_runs_filtered(&RunFilter::new(), Page::ALL).await.unwrap();
        assert_eq!(runs.len(), 20);
        let mut recorded = 0;
        for run in &runs {
            assert_eq!((run.status.as_str(), run.total_input_tokens), ("ok", 100));
            for event in events(&store, run).await {
                match event.event_type.as_str() {
                    "model_call" => recorded += 1,
                    other => assert_eq!((other, &event.payload["events"]), ("dropped", &json!(1))),
                }
            }
        }
        assert_eq!(recorded + unwritten.lost, 20);
    }

    /// While nothing is written, for example because the store is unavailable.
    async fn runs_in_a_full_buffer_lose_their_texts(database) {
        const RUNS: usize = 100;

        let store = database.store().await;
        let recorder = recorder(&store).with_buffer(1_000, 100_000);
        thread::scope(|scope| {
            // Without a runtime nothing is written before `shutdown`.
            scope.spawn(|| {
                recorded(&recorder, || {
                    for _ in 0..RUNS {
                        let agent = rig::agent("a");
                        agent.record("gen_ai.prompt", "p".repeat(1_000));
                        agent.record("gen_ai.completion", "c".repeat(1_000));
                    }
                });
            });
        });
        let unwritten = recorder.shutdown(LONG).await;
        assert_eq!((unwritten.starts, unwritten.runs), (0, 0));
        let runs = store.list_runs_filtered(&RunFilter::new(), Page::ALL).await.unwrap();
        assert_eq!(runs.len(), RUNS);
        let mut lost = 0;
        for run in &runs {
            assert_eq!(run.status, RunStatus::OK);
            let texts = [run.inputs.is_empty(), run.output.is_empty()];
            let lost_texts = texts.iter().filter(|is_lost| **is_lost).count();
            let events = events(&store, run).await;
            let reports = events.iter().map(|event| event.payload["events"].as_u64().unwrap());
            assert_eq!(reports.sum::<u64>(), lost_texts as u64);
            lost += lost_texts as u64;
        }
        assert!((80..=120).contains(&lost), "{lost}");
        assert_eq!(unwritten.lost, lost);
    }

    async fn a_run_whose_span_is_never_closed_is_swept(database) {
        let store = database.store().await;
        let url = database.url();
        // The runtime ends, as it does when the process dies.
        let process = thread::spawn(move || {
            runtime().block_on(async {
                let store = AuditStore::connect(url).await.unwrap();
                let recorder = recorder(&store.with_owner(Owner::new("").id("o")));
                let agent = recorded(&recorder, || {
                    let agent = rig::agent("a");
                    agent.in_scope(|| drop(rig::chat("a")));
                    agent
                });
                let unwritten = recorder.shutdown(LONG).await;
                assert!(unwritten.is_empty(), "{unwritten:?}");
                std::mem::forget(agent);
            });
        });
        process.join().unwrap();
        let db = database.connection().await;
        execute(&db, "UPDATE runtrail_owners SET last_seen_at = 1").await;
        assert_eq!(store.sweep_interrupted().await.unwrap(), 1);
        let runs = store.list_runs_filtered(&RunFilter::new(), Page::ALL).await.unwrap();
        assert_eq!(runs[0].status, RunStatus::INTERRUPTED);
        assert_eq!(types(&events(&store, &runs[0]).await), ["model_call"]);
    }
}
