//! `export --otlp`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use runtrail_audit::{BulkStorage, RunStats, RunStatus, SkillRun, SkillRunLog, Storage};
use runtrail_store::AuditStore;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::serve::Serve;
use crate::fixture::*;

/// Two finished runs, one with a call, and a running one.
async fn small_history(store: &AuditStore) {
    let lead = SkillRun::new("lead", "lead", at(0)).finished(at(9), RunStats::new(RunStatus::OK));
    let inner = SkillRun::new("inner", "inner", at(1))
        .parent("lead")
        .finished(at(8), RunStats::new(RunStatus::ERROR).error("no answer"));
    for run in [&lead, &inner, &running("open")] {
        store.start_run(run).await.unwrap();
    }
    let call = SkillRunLog::new("lead", 0, "tool_call", json!({"tool": "search"}));
    store.append_logs(&[call.created_at(at(3))]).await.unwrap();
}

/// A receiver that gives these answers: a status and a body. Answers 200 to all further requests.
struct Receiver {
    url: String,
    requests: Arc<Mutex<Vec<Bytes>>>,
}

impl Receiver {
    async fn answering(answers: &[(u16, &'static str)]) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        let received = requests.clone();
        let answer = move |body: Bytes| async move {
            received.lock().unwrap().push(body);
            let (status, body) = answers.lock().unwrap().pop_front().unwrap_or((200, "{}"));
            let headers = [("Retry-After", "0"), ("Content-Type", "application/json")];
            (StatusCode::from_u16(status).unwrap(), headers, body)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, requests }
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

on_each_backend! {
    async fn traces_that_are_sent_to_serve_become_the_same_runs(database) {
        let cli = Cli::on(database).await;
        small_history(&cli.store).await;
        let target_database = TestDatabase::create(database.backend()).await;
        let target = Cli::on(&target_database).await;
        std::fs::write(target.path("token"), "open sesame").unwrap();
        let serve = Serve::start(&target, &["--token-file", "token"]);

        let refused = cli.fails(1, &["export", "--otlp", &serve.url]);
        assert!(refused.contains("/v1/traces has answered with status 401"), "{refused}");
        let header = ["--otlp-header", "Authorization=Bearer open sesame"];
        for _ in 0..2 {
            let arguments = [&["export", "--otlp", &serve.url], &header[..]].concat();
            let output = cli.output(&arguments);
            assert!(output.status.success(), "{}", stderr(&output));
            assert_eq!(stdout(&output), "");
            assert_eq!(
                stderr(&output),
                "exported 2 runs as 3 spans\n\
                 left out 1 running run; export again once they have finished\n"
            );
        }
        assert_eq!(serve.end("TERM"), "");
        let listed = target.json(&["list", "--json"]);
        assert_eq!(listed.len(), 2, "{listed:?}");
        let failed = target.json(&["list", "--json", "--skill", "inner"]);
        assert_eq!(failed[0]["status"], "error");
        assert_eq!(failed[0]["error"], "no answer");
        let parents = target.json(&["list", "--json", "--top-level"]);
        assert_eq!(parents[0]["id"], failed[0]["parent_run_id"]);
        target.store.close().await.unwrap();
        target_database.drop().await;
    }

    async fn traces_are_written_to_a_file_or_stdout(database) {
        let cli = Cli::on(database).await;
        small_history(&cli.store).await;
        let printed = cli.succeeds(&["export", "--otlp", "-"]);
        cli.succeeds(&["export", "--otlp", "traces.jsonl"]);
        assert_eq!(std::fs::read_to_string(cli.path("traces.jsonl")).unwrap(), printed);
        let request: Value = serde_json::from_str(&printed).unwrap();
        let spans = &request["resourceSpans"][0]["scopeSpans"][0]["spans"];
        let names: Vec<_> = spans.as_array().unwrap().iter().map(|span| &span["name"]).collect();
        assert_eq!(names, ["execute_tool search", "invoke_agent lead", "invoke_agent inner"]);

        // The filters are those of an export.
        let one = cli.succeeds(&["export", "--otlp", "-", "--skill", "inner"]);
        assert!(one.contains("invoke_agent inner") && !one.contains("search"), "{one}");
        assert_eq!(cli.succeeds(&["export", "--otlp", "-", "--skill", "none"]), "");
    }

    async fn a_request_is_repeated_while_the_receiver_is_unavailable(database) {
        let cli = Cli::on(database).await;
        small_history(&cli.store).await;
        let receiver = Receiver::answering(&[(503, ""), (429, ""), (502, ""), (504, "")]).await;
        cli.succeeds(&["export", "--otlp", &receiver.url]);
        assert_eq!(receiver.requests(), 5);
        let requests = receiver.requests.lock().unwrap();
        assert!(requests.iter().all(|request| *request == requests[0]));
    }

    async fn an_answer_that_is_no_success_is_reported(database) {
        let cli = Cli::on(database).await;
        small_history(&cli.store).await;
        let answers = [
            (400, r#"{"code": 3, "message": "no such tenant"}"#),
            (302, "moved"),
            (200, r#"{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}"#),
        ];
        let receiver = Receiver::answering(&answers).await;
        let refused = cli.fails(1, &["export", "--otlp", &receiver.url]);
        assert!(refused.ends_with("with status 400: no such tenant\n"), "{refused}");
        let moved = cli.fails(1, &["export", "--otlp", &receiver.url]);
        assert!(moved.ends_with("with status 302: moved\n"), "{moved}");
        let output = cli.output(&["export", "--otlp", &receiver.url]);
        assert_eq!(output.status.code(), Some(1));
        let messages = stderr(&output);
        assert!(messages.contains("too old"), "{messages}");
        assert!(messages.contains("has rejected 2 spans"), "{messages}");
        assert_eq!(receiver.requests(), 3);

        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let unreachable = cli.fails(1, &["export", "--otlp", &url]);
        assert!(unreachable.contains("can't be reached"), "{unreachable}");
        let header = ["--otlp-header", "secret"];
        for arguments in [
            &["--otlp", "grpc://localhost:4317"][..],
            &[&["--otlp", &url], &header[..]].concat(),
            &[&["--otlp", "traces.jsonl", "--otlp-header"], &["a=b"][..]].concat(),
        ] {
            let refused = cli.fails(2, &[&["export"], arguments].concat());
            assert!(!refused.contains("secret"), "{refused}");
        }
        assert!(!cli.path("traces.jsonl").exists());
    }
}
