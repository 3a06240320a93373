use std::sync::Arc;

use runtrail_telemetry::{Policy, Record, Source, SpanStatus, read_log};
use serde_json::json;

use crate::fixture::*;

#[test]
fn labels_come_from_the_resource() {
    let mut run = span(
        "invoke_agent",
        json!({"gen_ai.operation.name": "invoke_agent"}),
    );
    run.source = Arc::new(Source {
        resource: object(json!({
            "service.name": "support",
            "deployment.environment": "staging",
            "host.name": "h",
            "enduser.id": "alice",
        })),
        scope: String::new(),
    });
    let record = read(run.clone()).run;
    let labels: Vec<_> = record
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(labels, [("environment", "staging"), ("service", "support")]);
    assert_eq!(record.caller, "alice");
    // SDKs send this if the service has no name.
    run.source = source("unknown_service:node", "");
    assert!(read(run).run.labels.is_empty());
}

#[test]
fn a_span_fails_by_its_status_or_an_error() {
    let error = |status, attributes, exception: bool| {
        let mut span = span("plan", attributes);
        span.status = status;
        if exception {
            span.events = vec![span_event(
                "exception",
                json!({"exception.message": "broken"}),
            )];
        }
        read(span).run.error
    };
    let failed = || SpanStatus::Error(String::new());
    let message = SpanStatus::Error("told".to_owned());
    assert_eq!(
        error(message, json!({"error.type": "x"}), true).as_deref(),
        Some("told")
    );
    assert_eq!(
        error(failed(), json!({"error.type": "x"}), true).as_deref(),
        Some("broken")
    );
    assert_eq!(
        error(failed(), json!({"error.type": "x"}), false).as_deref(),
        Some("x")
    );
    assert_eq!(error(failed(), json!({}), false).as_deref(), Some(""));
    assert_eq!(
        error(SpanStatus::Unset, json!({}), true).as_deref(),
        Some("broken")
    );
    assert_eq!(
        error(SpanStatus::Unset, json!({"error": true}), false).as_deref(),
        Some("")
    );
    assert_eq!(error(SpanStatus::Unset, json!({}), false), None);
    // An exception that was handled.
    assert_eq!(error(SpanStatus::Ok, json!({}), true), None);
}

#[test]
fn a_log_without_agents_is_kept_only_in_a_span() {
    let mut plain = log("", json!({"rows": 3}));
    plain.body = json!("slow query");
    assert_eq!(read_log(plain.clone(), &Policy::new()), None);
    let record = read_kept_log(in_trace(plain));
    assert!(!record.is_agentic);
    assert_eq!(
        event(&record).payload,
        object(json!({"severity": "INFO", "body": "slow query", "attributes": {"rows": 3}}))
    );
}

#[test]
fn a_record_survives_json() {
    let record = read(span(
        "chat",
        json!({"gen_ai.operation.name": "chat", "a": [1.5]}),
    ));
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    // Written before a field was added.
    let event = serde_json::from_str(r#"{"event_type":"span"}"#);
    let event: runtrail_telemetry::EventPart = event.unwrap();
    assert_eq!(
        (event.event_type.as_str(), event.call_id.as_str()),
        ("span", "")
    );
}
