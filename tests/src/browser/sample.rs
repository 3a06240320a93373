use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use runtrail_audit::{BulkStorage, Clock, RunStats, SkillRun, SkillRunLog, Storage, Usage};
use runtrail_store::AuditStore;
use serde_json::{Value, json};

use crate::fixture::*;

/// The run with the most to show: a tree with calls of models and tools.
pub(super) const TICKET: &str = "0193a5c2-ticket-4711";

/// The time at which the page is looked at.
pub(super) fn clock() -> ManualClock {
    ManualClock::default()
}

fn ago(milliseconds: i64) -> DateTime<Utc> {
    clock().now() - TimeDelta::milliseconds(milliseconds)
}

/// Stores the runs of a week.
pub(super) async fn help_desk(store: &AuditStore) {
    join_all((1..90).map(|number| ordinary(store, number))).await;
    ticket(store).await;
    let night = SkillRun::new("0193a5c4-report", "nightly-report", ago(95_000))
        .caller("scheduler")
        .channel("cron")
        .label("environment", "production");
    store.start_run(&night).await.unwrap();
}

/// One of the runs of the week, with one call of a model.
async fn ordinary(store: &AuditStore, number: u64) {
    const SKILLS: [&str; 5] = [
        "answer-ticket",
        "summarise-thread",
        "answer-ticket",
        "triage",
        "translate",
    ];
    const CALLERS: [&str; 4] = ["anna", "ben", "carla", "scheduler"];
    const CHANNELS: [&str; 3] = ["email", "chat", "api"];
    const MODELS: [(&str, &str); 3] = [
        ("anthropic", "claude-sonnet-4-5"),
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-4o"),
    ];

    let pick = number as usize;
    // Fewer at night.
    let hours = number * 163 / 89 + number % 3;
    let started_at = ago(hours as i64 * 3_600_000 + (number * 977_131 % 3_000_000) as i64);
    let took = 900 + (number * number * 389) % 47_000;
    let (status, error) = match number % 11 {
        4 => (
            "error",
            "the mail server refused the message: 550 no such user",
        ),
        9 => ("timeout", "no answer within 60 s"),
        _ => ("ok", ""),
    };
    let (input, output) = (400 + number * 7_919 % 9_000, 60 + number * 1_543 % 1_200);
    let id = format!("0193a5b{}-{number:04}", number % 10);
    let stats = RunStats::new(status)
        .error(error)
        .output(if error.is_empty() { "Done." } else { "" })
        .runtime_seconds(took as f64 / 1e3)
        .tool_calls(number % 4)
        .input_tokens(input)
        .output_tokens(output);
    let finished_at = started_at + TimeDelta::milliseconds(took as i64);
    let run = SkillRun::new(id.as_str(), SKILLS[pick % 5], started_at)
        .caller(CALLERS[pick % 4])
        .channel(CHANNELS[pick % 3])
        .label(
            "environment",
            if number.is_multiple_of(6) {
                "staging"
            } else {
                "production"
            },
        )
        .input("ticket", 4_000 + number)
        .finished(finished_at, stats);
    store.start_run(&run).await.unwrap();
    let (provider, model) = MODELS[pick % 3];
    let usage = Usage::new()
        .provider(provider)
        .model(model)
        .input_tokens(input)
        .output_tokens(output)
        .cost_micros(input * 3 + output * 15);
    let call = SkillRunLog::new(id, 0, "model_call", json!({"request": {"model": model}}))
        .created_at(finished_at)
        .duration(Duration::from_millis(took / 2))
        .usage(usage);
    store.append_log(&call).await.unwrap();
}

/// Milliseconds before the time of the clock at which the ticket's run started.
const TICKET_AGE: i64 = 260_000;

async fn ticket(store: &AuditStore) {
    let question = "My order 88-1204 arrived without the power supply. Can you send one by Friday?";
    let answer = "## Reply to Ms Okafor\n\nWe are sorry about the missing **power supply**. \
        A replacement leaves our warehouse today:\n\n\
        - parcel `1Z 999 AA1 01 2345`\n- arrives on *Thursday*\n\n\
        The [terms](https://shop.example/terms) apply, and nothing is charged.";
    let top = SkillRun::new(TICKET, "answer-ticket", ago(TICKET_AGE))
        .caller("anna")
        .channel("email")
        .label("environment", "production")
        .label("queue", "returns")
        .input("ticket", 4_711)
        .input("question", question)
        .input(
            "customer",
            json!({"name": "Ada Okafor", "since": 2019, "orders": [881_204, 880_977]}),
        )
        .finished(
            ago(TICKET_AGE - 18_600),
            RunStats::new("ok")
                .output(answer)
                .runtime_seconds(18.6)
                .tool_calls(4)
                .input_tokens(9_420)
                .output_tokens(812)
                .thinking_tokens(240),
        );
    store.start_run(&top).await.unwrap();
    let children = [
        (
            "0193a5c2-search-docs",
            "search-docs",
            2_200,
            5_400,
            "ok",
            "",
        ),
        (
            "0193a5c2-search-orders",
            "search-orders",
            2_300,
            7_300,
            "error",
            "the order service is down",
        ),
        ("0193a5c2-review", "review-answer", 13_600, 17_800, "ok", ""),
    ];
    for (id, skill, from, to, status, error) in children {
        let stats = RunStats::new(status)
            .error(error)
            .output(if error.is_empty() { "3 passages" } else { "" })
            .runtime_seconds((to - from) as f64 / 1e3)
            .input_tokens(1_800)
            .output_tokens(140);
        let child = SkillRun::new(id, skill, ago(TICKET_AGE - from))
            .parent(TICKET)
            .caller("answer-ticket")
            .channel("email")
            .input("query", "replacement of missing parts")
            .finished(ago(TICKET_AGE - to), stats);
        store.start_run(&child).await.unwrap();
    }
    let text = |role: &str, content: &str| {
        let part = json!({"type": "text", "content": content});
        json!({"role": role, "parts": [part]})
    };
    let plan = json!({"role": "assistant", "parts": [
        {"type": "text", "content": "I look up the order and our policy on *missing parts*."},
        {"type": "tool_call", "id": "call-1", "name": "search_docs",
            "arguments": {"query": "missing parts", "limit": 3}},
    ]});
    let first = json!({
        "request": {"model": "claude-sonnet-4-5", "temperature": 0.2},
        "messages": [text("system", "You answer the tickets of a shop."), text("user", question)],
        "output": [plan],
        "finish_reasons": ["tool_calls"],
    });
    let second = json!({
        "request": {"model": "claude-sonnet-4-5", "temperature": 0.2},
        "earlier_messages": 3,
        "messages": [text("tool", "A missing part is sent free of charge within two days.")],
        "output": [text("assistant", answer)],
        "finish_reasons": ["stop"],
    });
    let passages = json!([
        {"title": "Missing parts", "score": 0.91, "url": "https://shop.example/help/missing"},
        {"title": "Express parcels", "score": 0.74, "url": "https://shop.example/help/express"},
    ]);
    let found = json!({
        "tool": "search_docs", "call_id": "call-1", "arguments": {"query": "missing parts"},
        "result": passages,
    });
    let orders = json!({
        "tool": "find_order", "arguments": {"id": "88-1204"}, "error": "connection refused",
    });
    let sent = json!({
        "tool": "send_reply", "arguments": {"ticket": 4_711, "to": "ada@example.com"},
        "result": {"accepted": true, "id": "msg-20931"},
    });
    let events = [
        (TICKET, 0, "model_call", first, 100, 2_100),
        (
            TICKET,
            1,
            "span",
            json!({"name": "load customer"}),
            2_100,
            2_190,
        ),
        (TICKET, 2, "model_call", second, 7_500, 13_500),
        (TICKET, 3, "tool_call", sent, 18_000, 18_400),
        (
            TICKET,
            4,
            "stdout",
            json!({"text": "reply msg-20931 accepted"}),
            18_500,
            18_500,
        ),
        (
            "0193a5c2-search-docs",
            0,
            "model_call",
            json!({"request": {"model": "gpt-4o-mini"}}),
            2_250,
            3_100,
        ),
        ("0193a5c2-search-docs", 1, "tool_call", found, 3_150, 5_300),
        (
            "0193a5c2-search-orders",
            0,
            "tool_call",
            orders,
            2_400,
            7_200,
        ),
        (
            "0193a5c2-review",
            0,
            "model_call",
            json!({"request": {"model": "gpt-4o"}}),
            13_700,
            17_700,
        ),
    ];
    for (run, sequence, event_type, payload, from, to) in events {
        let model = payload["request"]["model"].as_str().map(str::to_owned);
        let mut event = SkillRunLog::new(run, sequence, event_type, payload)
            .created_at(ago(TICKET_AGE - to))
            .duration(Duration::from_millis((to - from) as u64));
        if let Some(model) = model {
            let provider = if model.starts_with("gpt") {
                "openai"
            } else {
                "anthropic"
            };
            event = event.usage(
                Usage::new()
                    .provider(provider)
                    .model(model)
                    .input_tokens(1_710 + sequence * 3_000)
                    .cache_read_tokens(1_024)
                    .output_tokens(206)
                    .cost_micros(8_220 + sequence * 4_000),
            );
        }
        store.append_log(&event).await.unwrap();
    }
}

/// Stores this many short runs, a second apart.
pub(super) async fn many(store: &AuditStore, runs: i64) {
    let store_run = async |number: i64| {
        let started_at = ago(number * 1_000);
        let stats = RunStats::new("ok").runtime_seconds(0.5);
        let run = SkillRun::new(format!("run-{number:05}"), "resize-image", started_at)
            .caller(format!("worker-{}", number % 7))
            .finished(started_at + TimeDelta::milliseconds(500), stats);
        store.start_run(&run).await.unwrap();
    };
    let numbers: Vec<_> = (0..runs).collect();
    for numbers in numbers.chunks(200) {
        join_all(numbers.iter().map(|number| store_run(*number))).await;
    }
}

/// Stores a running run with this many events.
pub(super) async fn long(store: &AuditStore, id: &str, events: u64) {
    let started_at = ago(900_000);
    let run = SkillRun::new(id, "crawl", started_at).caller("anna");
    store.start_run(&run).await.unwrap();
    let event = |sequence: u64| {
        let ended_at = started_at + TimeDelta::milliseconds(10 * sequence as i64);
        let payload = json!({"name": format!("page {sequence}"), "status": 200});
        SkillRunLog::new(id, sequence, "span", payload)
            .created_at(ended_at)
            .duration(Duration::from_millis(8))
    };
    let sequences: Vec<u64> = (0..events).collect();
    for sequences in sequences.chunks(1_000) {
        let batch: Vec<_> = sequences.iter().map(|sequence| event(*sequence)).collect();
        store.append_logs(&batch).await.unwrap();
    }
}

/// Finishes a run of [`long`].
pub(super) async fn finish(store: &AuditStore, id: &str) {
    let stats = RunStats::new("ok")
        .finished_at(ago(1_000))
        .output("all pages read");
    store.finish_run(id, &stats).await.unwrap();
}

/// Texts that try to become more than text.
pub(super) fn hostile() -> Vec<String> {
    vec![
        "<script>document.title = 'owned'</script>".into(),
        "<img src=x onerror=\"document.title='owned'\">".into(),
        "[click](javascript:document.title='owned')".into(),
        "![pixel](http://tracker.example/pixel.png)".into(),
        "\"><svg onload=\"document.title='owned'\">".into(),
        "\u{202E}txt.exe\u{2066}".into(),
        "\u{1B}[31mred\u{1B}[0m \u{7}bell".into(),
        "</textarea></title></style></script><base href=//evil.example/>".into(),
    ]
}

/// Stores a run and a child in which every text is hostile, and one line of a megabyte. Returns
/// the id of the run.
pub(super) async fn hostile_run(store: &AuditStore) -> String {
    let texts = hostile();
    let all = texts.join("\n\n");
    let id = format!("{}/../%2F?#", texts[0]);
    let run = SkillRun::new(id.as_str(), texts[1].as_str(), ago(60_000))
        .caller(texts[4].as_str())
        .channel(texts[5].as_str())
        .label("note", texts[0].as_str())
        .input(texts[0].as_str(), all.as_str())
        .input(
            "nested",
            json!({"list": texts, texts[1].as_str(): {"deep": all}}),
        )
        .finished(
            ago(30_000),
            RunStats::new(texts[2].as_str())
                .output(all.as_str())
                .error(all.as_str()),
        );
    store.start_run(&run).await.unwrap();
    let message = json!({"role": texts[0], "parts": [
        {"type": "text", "content": all},
        {"type": "tool_call", "id": texts[0], "name": texts[1], "arguments": {"a": texts[4]}},
    ]});
    let line: Value = "<b>x</b> ".repeat(115_000).into();
    let payloads = [
        (
            "model_call",
            json!({"messages": [message], "output": [message], "request": {"model": texts[0]}}),
        ),
        (
            "tool_call",
            json!({"tool": texts[1], "arguments": all, "result": {"html": all}, "error": all}),
        ),
        ("stdout", json!({"text": all})),
        ("stdout", json!({"text": line})),
        ("span", json!({"name": texts[4]})),
    ];
    for (sequence, (event_type, payload)) in payloads.into_iter().enumerate() {
        let usage = Usage::new()
            .model(texts[1].as_str())
            .provider(texts[0].as_str())
            .input_tokens(1);
        let event = SkillRunLog::new(id.as_str(), sequence as u64, event_type, payload)
            .created_at(ago(50_000))
            .usage(usage);
        store.append_log(&event).await.unwrap();
    }
    let event = SkillRunLog::new(id.as_str(), 5, texts[0].as_str(), json!(all));
    store.append_log(&event).await.unwrap();
    id
}
