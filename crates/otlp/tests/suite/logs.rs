use axum::http::StatusCode;
use chrono::DateTime;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use prost::Message;
use runtrail_telemetry::LogRecord;
use serde_json::{Value, json};

use crate::fixture::*;

#[tokio::test]
async fn a_log_is_the_same_in_both_encodings() {
    let mut sent = log("hello");
    sent.severity_number = 14;
    sent.event_name = "codex.tool_result".to_owned();
    sent.trace_id = span(1, 2).trace_id;
    sent.span_id = span(1, 2).span_id;
    sent.attributes = vec![
        attribute("b", ProtoValue::IntValue(1)),
        attribute("a", ProtoValue::DoubleValue(1.0)),
    ];
    let request = logs(vec![sent]);
    let receiver = Receiver::new();
    let protobuf = receiver.logs_of(PROTOBUF, request.encode_to_vec()).await;
    let json = receiver.logs_of(JSON, encode(&request, JSON)).await;
    assert_eq!(protobuf, json);

    let log = only(protobuf);
    assert_eq!(log.id.len(), 32);
    assert_eq!(
        log.trace_id.as_deref(),
        Some("00000000000000000000000000000001")
    );
    assert_eq!(log.span_id.as_deref(), Some("0000000000000002"));
    assert_eq!(log.event_name, "codex.tool_result");
    assert_eq!(log.severity, "WARN2");
    assert_eq!(log.at, DateTime::from_timestamp(1_700_000_000, 0).unwrap());
    assert_eq!(log.body, json!("hello"));
    assert_eq!(json!(log.attributes), json!({ "a": 1.0, "b": 1 }));
    assert_eq!(log.source.resource["service.name"], json!("help-desk"));
}

#[tokio::test]
async fn a_batch_sent_again_has_the_same_ids() {
    let mut without_time = log("tick");
    without_time.time_unix_nano = 0;
    let batch = vec![
        log("tick"),
        without_time,
        log("tick"),
        log("tock"),
        log("tick"),
    ];
    let request = logs(batch);
    let receiver = Receiver::new();
    let first = ids(&receiver.logs_of(PROTOBUF, encode(&request, PROTOBUF)).await);
    let again = ids(&receiver.logs_of(PROTOBUF, encode(&request, PROTOBUF)).await);
    let json = ids(&receiver.logs_of(JSON, encode(&request, JSON)).await);
    assert_eq!(first, again);
    assert_eq!(first, json);
    let mut distinct = first.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 5, "{first:?}");
}

fn ids(logs: &[LogRecord]) -> Vec<String> {
    logs.iter().map(|it| it.id.clone()).collect()
}

#[tokio::test]
async fn every_part_of_a_log_changes_its_id() {
    let base = log("tick");
    let mut variants = vec![base; 8];
    variants[1].time_unix_nano += 1;
    variants[2].observed_time_unix_nano = 1;
    variants[3].severity_text = "INFO".to_owned();
    variants[4].event_name = "tick".to_owned();
    variants[5].body = Some(any_value(ProtoValue::IntValue(1)));
    variants[6].attributes = vec![attribute("tick", ProtoValue::IntValue(1))];
    variants[7].trace_id = span(1, 1).trace_id;
    let receiver = Receiver::new();
    let mut seen = Vec::new();
    for variant in variants {
        let body = logs(vec![variant]).encode_to_vec();
        seen.extend(ids(&receiver.logs_of(PROTOBUF, body).await));
    }
    let mut other_scope = logs(vec![log("tick")]);
    other_scope.resource_logs[0].scope_logs[0].scope = None;
    seen.extend(ids(&receiver
        .logs_of(PROTOBUF, other_scope.encode_to_vec())
        .await));
    let mut other_resource = logs(vec![log("tick")]);
    other_resource.resource_logs[0].resource = None;
    seen.extend(ids(&receiver
        .logs_of(PROTOBUF, other_resource.encode_to_vec())
        .await));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 10);
}

#[tokio::test]
async fn severities_have_names() {
    let receiver = Receiver::new();
    for (sent, severity) in [
        (json!({ "severityNumber": 9 }), "INFO"),
        (
            json!({ "severityNumber": "SEVERITY_NUMBER_FATAL4" }),
            "FATAL4",
        ),
        (
            json!({ "severityNumber": "SEVERITY_NUMBER_UNSPECIFIED" }),
            "",
        ),
        (
            json!({ "severityNumber": 1, "severityText": "trace" }),
            "trace",
        ),
        (json!({ "severityNumber": 25 }), ""),
        (json!({}), ""),
    ] {
        let log = only(receiver.logs_of(JSON, json_log(&sent)).await);
        assert_eq!(log.severity, severity, "{sent}");
    }
}

fn json_log(fields: &Value) -> String {
    let scope = json!({ "logRecords": [fields] });
    json!({ "resourceLogs": [{ "scopeLogs": [scope] }] }).to_string()
}

#[tokio::test]
async fn a_log_needs_neither_time_nor_ids() {
    let receiver = Receiver::new();
    let sent = json!({ "traceId": "00000000000000000000000000000000", "spanId": "zz" });
    let log = only(receiver.logs_of(JSON, json_log(&sent)).await);
    assert_eq!(log.at, received_at());
    assert_eq!((log.trace_id, log.span_id), (None, None));
    assert_eq!(log.body, Value::Null);

    let sent = json!({ "observedTimeUnixNano": START_NANOS.to_string() });
    let log = only(receiver.logs_of(JSON, json_log(&sent)).await);
    assert_eq!(log.at, DateTime::from_timestamp(1_700_000_000, 0).unwrap());
}

#[tokio::test]
async fn a_malformed_log_is_rejected_alone() {
    let receiver = Receiver::new();
    let scope = json!({ "logRecords": [{ "timeUnixNano": [] }, { "body": {} }] });
    let body = json!({ "resourceLogs": [{ "scopeLogs": [scope] }] }).to_string();
    let answer = receiver.post("/v1/logs", JSON, body).await;
    let partial_success = json!({
        "rejectedLogRecords": "1",
        "errorMessage": "the first rejected log record has a time that can't be read",
    });
    assert_eq!(answer.json(), json!({ "partialSuccess": partial_success }));
    assert_eq!(receiver.take_logs().len(), 1);

    // A span among the logs.
    let mut body = logs(vec![log("hello")]).encode_to_vec();
    body.extend(traces(vec![span(1, 1)]).encode_to_vec());
    let answer = receiver.post("/v1/logs", PROTOBUF, body).await;
    let answer = ExportLogsServiceResponse::decode(&*answer.body).unwrap();
    assert_eq!(answer.partial_success.unwrap().rejected_log_records, 1);
    assert_eq!(receiver.take_logs().len(), 1);
}

#[tokio::test]
async fn the_wrong_path_is_answered_with_the_right_one() {
    let receiver = Receiver::new();
    let logs = logs(vec![log("hello")]);
    let traces = traces(vec![span(1, 1)]);
    for content_type in [PROTOBUF, JSON] {
        let body = encode(&logs, content_type);
        let answer = receiver.post("/v1/traces", content_type, body).await;
        answer.assert_error(StatusCode::BAD_REQUEST, content_type, 3);
        let message = answer.rpc_status().message;
        assert!(message.contains("/v1/logs"), "{message}");

        let body = encode(&traces, content_type);
        let answer = receiver.post("/v1/logs", content_type, body).await;
        answer.assert_error(StatusCode::BAD_REQUEST, content_type, 3);
        let message = answer.rpc_status().message;
        assert!(message.contains("/v1/traces"), "{message}");
    }
    assert_eq!(receiver.take_logs(), []);
    assert_eq!(receiver.take_spans(), []);
}

#[tokio::test]
async fn at_the_root_the_content_decides() {
    let receiver = Receiver::new();
    let logs = logs(vec![log("hello")]);
    let traces = traces(vec![span(1, 1)]);
    for content_type in [PROTOBUF, JSON] {
        let body = encode(&logs, content_type);
        let answer = receiver.post("/", content_type, body).await;
        answer.assert_success(content_type);
        assert_eq!(receiver.take_logs().len(), 1);

        let body = encode(&traces, content_type);
        let answer = receiver.post("/", content_type, body).await;
        answer.assert_success(content_type);
        assert_eq!(receiver.take_spans().len(), 1);
    }
    let answer = receiver
        .post("/", JSON, r#"{"resourceMetrics":[{"scopeMetrics":[]}]}"#)
        .await;
    answer.assert_success(JSON);
}
