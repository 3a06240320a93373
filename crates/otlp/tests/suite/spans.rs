use std::time::Duration;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValueList};
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use prost::Message;
use runtrail_telemetry::SpanStatus;
use serde_json::json;

use crate::fixture::*;

#[tokio::test]
async fn a_span_is_the_same_in_both_encodings() {
    let mut sent = span(1, 2);
    sent.parent_span_id = vec![0, 0, 0, 0, 0, 0, 0, 3];
    sent.kind = 5;
    sent.status = Some(Status {
        code: 2,
        message: "rate limit".to_owned(),
    });
    sent.trace_state = "vendor=1".to_owned();
    sent.flags = 0x301;
    sent.links = vec![Link::default()];
    sent.attributes = vec![
        attribute("text", ProtoValue::StringValue("naïve".to_owned())),
        attribute("flag", ProtoValue::BoolValue(true)),
        attribute("least", ProtoValue::IntValue(i64::MIN)),
        attribute("half", ProtoValue::DoubleValue(0.5)),
        attribute("picture", ProtoValue::BytesValue(vec![7; 10])),
        attribute(
            "list",
            ProtoValue::ArrayValue(ArrayValue {
                values: vec![any_value(ProtoValue::IntValue(1)), AnyValue::default()],
            }),
        ),
        attribute(
            "object",
            ProtoValue::KvlistValue(KeyValueList {
                values: vec![attribute("key", ProtoValue::IntValue(-1))],
            }),
        ),
    ];
    sent.events = vec![Event {
        time_unix_nano: START_NANOS + 1_000,
        name: "exception".to_owned(),
        attributes: vec![attribute("line", ProtoValue::IntValue(3))],
        ..Event::default()
    }];
    let request = traces(vec![sent]);
    let receiver = Receiver::new();
    let protobuf = receiver.spans_of(PROTOBUF, request.encode_to_vec()).await;
    let json = receiver.spans_of(JSON, encode(&request, JSON)).await;
    assert_eq!(protobuf, json);

    let span = only(protobuf);
    assert_eq!(span.trace_id, "00000000000000000000000000000001");
    assert_eq!(span.span_id, "0000000000000002");
    assert_eq!(span.parent_id.as_deref(), Some("0000000000000003"));
    assert_eq!(span.name, "chat");
    assert!(span.is_server);
    assert_eq!(span.started_at, at(START_NANOS));
    assert_eq!(span.duration, Duration::from_millis(1_500));
    assert_eq!(span.status, SpanStatus::Error("rate limit".to_owned()));
    assert_eq!(span.source.resource["service.name"], json!("help-desk"));
    assert_eq!(span.source.scope, "tests");
    let attributes = json!({
        "text": "naïve",
        "flag": true,
        "least": i64::MIN,
        "half": 0.5,
        "picture": { "bytes": 10 },
        "list": [1, null],
        "object": { "key": -1 },
    });
    assert_eq!(json!(span.attributes), attributes);
    let event = only(span.events);
    assert_eq!(event.name, "exception");
    assert_eq!(event.at, at(START_NANOS + 1_000));
    assert_eq!(json!(event.attributes), json!({ "line": 3 }));
}

fn at(nanos: u64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(i64::try_from(nanos).unwrap())
}

#[tokio::test]
async fn json_may_have_upper_case_ids_names_of_enums_and_unknown_fields() {
    let receiver = Receiver::new();
    let body = json_span(&json!({
        "traceId": "5B8EFFF798038103D269B633813FC60C",
        "spanId": "eEE19B7EC3C1B174",
        "parentSpanId": null,
        "kind": "SPAN_KIND_SERVER",
        "startTimeUnixNano": START_NANOS,
        "endTimeUnixNano": "1.7000000001e18",
        "status": { "code": "STATUS_CODE_OK" },
        "attributes": null,
        "future": [{ "field": {} }],
    }));
    let span = only(receiver.spans_of(JSON, body).await);
    assert_eq!(span.trace_id, "5b8efff798038103d269b633813fc60c");
    assert_eq!(span.span_id, "eee19b7ec3c1b174");
    assert_eq!(span.parent_id, None);
    assert!(span.is_server);
    assert_eq!(span.started_at, at(START_NANOS));
    assert_eq!(span.duration, Duration::from_millis(100));
    assert_eq!(span.status, SpanStatus::Ok);

    for (kind, is_server) in [
        (json!("SPAN_KIND_CLIENT"), false),
        (json!("SPAN_KIND_CONSUMER"), true),
        (json!(2), true),
        (json!("2"), true),
        (json!(99), false),
    ] {
        let mut span = minimal_json();
        span["kind"] = kind.clone();
        let span = only(receiver.spans_of(JSON, json_span(&span)).await);
        assert_eq!(span.is_server, is_server, "{kind}");
    }
}

fn minimal_json() -> serde_json::Value {
    json!({ "traceId": "0123456789abcdef0123456789abcdef", "spanId": "0123456789abcdef" })
}

#[tokio::test]
async fn a_malformed_json_span_is_rejected_alone() {
    let receiver = Receiver::new();
    let mut not_a_number = minimal_json();
    not_a_number["startTimeUnixNano"] = json!("yesterday");
    let mut not_hex = minimal_json();
    not_hex["traceId"] = json!("W47/95gDgQPSabYzgT/GDA==");
    let mut not_a_list = minimal_json();
    not_a_list["attributes"] = json!({ "a": 1 });
    let mut unknown_kind = minimal_json();
    unknown_kind["kind"] = json!("SPAN_KIND_ROBOT");
    let body = json_spans(&[
        not_a_number,
        minimal_json(),
        not_hex,
        not_a_list,
        unknown_kind,
        json!(7),
    ]);
    let answer = receiver.post("/v1/traces", JSON, body).await;
    assert_eq!(answer.status, StatusCode::OK);
    let partial_success = json!({
        "rejectedSpans": "5",
        "errorMessage": "the first rejected span has a time that can't be read",
    });
    assert_eq!(answer.json(), json!({ "partialSuccess": partial_success }));
    assert_eq!(receiver.take_spans().len(), 1);
}

#[tokio::test]
async fn spans_without_ids_are_rejected_alone() {
    let mut no_trace = span(1, 1);
    no_trace.trace_id.clear();
    let mut short = span(1, 1);
    short.span_id.pop();
    let request = traces(vec![no_trace, span(1, 1), span(0, 1), span(1, 0), short]);
    let receiver = Receiver::new();
    for content_type in [PROTOBUF, JSON] {
        let body = encode(&request, content_type);
        let answer = receiver.post("/v1/traces", content_type, body).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("content-type"), Some(content_type));
        assert_eq!(receiver.take_spans().len(), 1, "{content_type}");
        if content_type == PROTOBUF {
            let answer = ExportTraceServiceResponse::decode(&*answer.body).unwrap();
            let partial_success = answer.partial_success.unwrap();
            assert_eq!(partial_success.rejected_spans, 4);
            let message = "the first rejected span has no valid trace id";
            assert_eq!(partial_success.error_message, message);
        } else {
            assert_eq!(answer.json()["partialSuccess"]["rejectedSpans"], json!("4"));
        }
    }
}

#[tokio::test]
async fn a_malformed_protobuf_span_is_rejected_alone() {
    let good = span(1, 1).encode_to_vec();
    // A kind that is a text.
    let malformed = [good.as_slice(), &[6 << 3 | 2, 1, b'x']].concat();
    // An attribute that is cut off.
    let cut = [good.as_slice(), &[9 << 3 | 2, 100]].concat();
    let field = |number: u8, message: &[u8]| {
        let mut field = vec![number << 3 | 2];
        prost::encode_length_delimiter(message.len(), &mut field).unwrap();
        field.extend_from_slice(message);
        field
    };
    let spans = [malformed, good, cut].map(|it| field(2, &it)).concat();
    let body = field(1, &field(2, &spans));
    let receiver = Receiver::new();
    let answer = receiver.post("/v1/traces", PROTOBUF, body).await;
    let answer = ExportTraceServiceResponse::decode(&*answer.body).unwrap();
    assert_eq!(answer.partial_success.unwrap().rejected_spans, 2);
    assert_eq!(only(receiver.take_spans()).name, "chat");
}

#[tokio::test]
async fn a_parent_of_zeros_or_the_span_itself_is_no_parent() {
    let mut zeros = span(1, 1);
    zeros.parent_span_id = vec![0; 8];
    let mut itself = span(1, 2);
    itself.parent_span_id.clone_from(&itself.span_id);
    let mut short = span(1, 3);
    short.parent_span_id = vec![1; 7];
    let mut child = span(1, 4);
    child.parent_span_id = span(1, 1).span_id;
    let request = traces(vec![zeros, itself, short, child]);
    let receiver = Receiver::new();
    for content_type in [PROTOBUF, JSON] {
        let spans = receiver
            .spans_of(content_type, encode(&request, content_type))
            .await;
        let parents: Vec<_> = spans.iter().map(|it| it.parent_id.as_deref()).collect();
        assert_eq!(parents, [None, None, None, Some("0000000000000001")]);
    }
}

#[tokio::test]
async fn every_time_of_a_sender_can_be_stored() {
    let received = received_at();
    let end_of_nanos = DateTime::from_timestamp_micros(18_446_744_073_709_551).unwrap();
    let cases = [
        // Start and end as sent; start and duration in microseconds as stored.
        (0, 0, received, 0),
        (START_NANOS, 0, at(START_NANOS), 0),
        (0, START_NANOS, at(START_NANOS), 0),
        (START_NANOS, START_NANOS - 1, at(START_NANOS), 0),
        (START_NANOS + 999, START_NANOS + 1_001, at(START_NANOS), 1),
        (u64::MAX, u64::MAX, end_of_nanos, 0),
        (1, 1_000, DateTime::UNIX_EPOCH, 1),
    ];
    let receiver = Receiver::new();
    for (start, end, started_at, micros) in cases {
        let mut sent = span(1, 1);
        sent.start_time_unix_nano = start;
        sent.end_time_unix_nano = end;
        let request = traces(vec![sent]);
        for content_type in [PROTOBUF, JSON] {
            let spans = receiver.spans_of(content_type, encode(&request, content_type));
            let span = only(spans.await);
            assert_eq!(span.started_at, started_at, "{start} {end}");
            assert_eq!(
                span.duration,
                Duration::from_micros(micros),
                "{start} {end}"
            );
        }
    }
    for time in [json!("99999999999999999999999"), json!(-1), json!("")] {
        let mut sent = minimal_json();
        sent["startTimeUnixNano"] = time.clone();
        let span = only(receiver.spans_of(JSON, json_span(&sent)).await);
        assert_eq!(span.started_at, received, "{time}");
    }
}

#[tokio::test]
async fn numbers_that_json_lacks_become_texts() {
    let numbers = [
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ];
    let receiver = Receiver::new();
    for (number, text) in numbers {
        let mut sent = span(1, 1);
        sent.attributes = vec![attribute("number", ProtoValue::DoubleValue(number))];
        let body = traces(vec![sent]).encode_to_vec();
        let protobuf = only(receiver.spans_of(PROTOBUF, body).await);

        let mut sent = minimal_json();
        sent["attributes"] = json!([{ "key": "number", "value": { "doubleValue": text } }]);
        let json = only(receiver.spans_of(JSON, json_span(&sent)).await);
        for span in [protobuf, json] {
            assert_eq!(span.attributes["number"], json!(text));
        }
    }
}

#[tokio::test]
async fn texts_that_were_cut_within_a_character_are_stored() {
    let receiver = Receiver::new();
    let body =
        json_span(&minimal_json()).replace("\"spanId\"", r#""name":"a\ud83d\u0000","spanId""#);
    let span = only(receiver.spans_of(JSON, body).await);
    assert!(span.name.starts_with("a\u{FFFD}"), "{:?}", span.name);
    assert!(span.name.ends_with('\u{FFFD}'), "{:?}", span.name);

    let mut body = traces(vec![span_named("ab")]).encode_to_vec();
    let position = body.windows(2).position(|it| it == b"ab").unwrap();
    body[position + 1] = 0xf0;
    let span = only(receiver.spans_of(PROTOBUF, body).await);
    assert_eq!(span.name, "a\u{FFFD}");
}

fn span_named(name: &str) -> opentelemetry_proto::tonic::trace::v1::Span {
    let mut span = span(1, 1);
    span.name = name.to_owned();
    span
}

#[tokio::test]
async fn a_request_may_be_empty() {
    let receiver = Receiver::new();
    for (content_type, body) in [
        (PROTOBUF, ""),
        (JSON, "{}"),
        (JSON, "{\"resourceSpans\":[]}"),
    ] {
        for path in ["/v1/traces", "/v1/logs", "/"] {
            let answer = receiver.post(path, content_type, body).await;
            answer.assert_success(content_type);
        }
    }
}
