use runtrail_telemetry::{Policy, read_span};
use serde_json::json;

use crate::fixture::*;

#[test]
fn the_default_service_of_an_export_is_no_label() {
    let mut agent = span(
        "invoke_agent lead",
        json!({"gen_ai.operation.name": "invoke_agent"}),
    );
    agent.source = source("runtrail", "runtrail");
    assert!(read(agent.clone()).run.labels.is_empty());
    agent.source = source("desk", "runtrail");
    assert_eq!(read(agent).run.labels["service"], "desk");
}

#[test]
fn the_payload_of_an_exported_call_is_content() {
    let mut call = span(
        "chat gpt-5",
        json!({"gen_ai.operation.name": "chat", "runtrail.payload": "{\"text\":\"secret\"}"}),
    );
    call.source = source("runtrail", "runtrail");
    let kept = read(call.clone());
    let attributes = &event(&kept).payload["attributes"];
    assert_eq!(attributes["runtrail.payload"], "{\"text\":\"secret\"}");
    let without = read_span(call, &Policy::new().without_content());
    assert_eq!(event(&without).payload.get("attributes"), None);
}
