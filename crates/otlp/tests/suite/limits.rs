use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
use opentelemetry_proto::tonic::trace::v1::span::Event;
use prost::Message;
use runtrail_otlp::{RouterOptions, router};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;

use crate::answers::Stuck;
use crate::fixture::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn compressed(content_type: &str, encoding: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = post("/v1/traces", content_type, body);
    let headers = request.headers_mut();
    headers.insert("content-encoding", encoding.parse().unwrap());
    request
}

#[tokio::test]
async fn bodies_may_be_compressed_with_gzip() {
    let receiver = Receiver::new();
    for content_type in [PROTOBUF, JSON] {
        let body = encode(&traces(vec![span(1, 1)]), content_type);
        for (encoding, body) in [
            ("gzip", gzip(&body)),
            ("GZIP", gzip(&body)),
            ("gzip", [gzip(&body[..9]), gzip(&body[9..])].concat()),
            ("identity", body.clone()),
        ] {
            let answer = receiver
                .send(compressed(content_type, encoding, body))
                .await;
            answer.assert_success(content_type);
            assert_eq!(receiver.take_spans().len(), 1);
        }
        for encoding in ["deflate", "zstd", "gzip, gzip", ""] {
            let request = compressed(content_type, encoding, body.clone());
            let answer = receiver.send(request).await;
            answer.assert_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, content_type, 3);
        }
    }
}

#[tokio::test]
async fn damaged_gzip_is_a_bad_request() {
    let receiver = Receiver::new();
    let body = gzip(&encode(&traces(vec![span(1, 1)]), PROTOBUF));
    let mut wrong_checksum = body.clone();
    let position = body.len() - 6;
    wrong_checksum[position] ^= 1;
    let mut damaged: Vec<_> = (0..body.len())
        .map(|length| body[..length].to_vec())
        .collect();
    damaged.extend([
        wrong_checksum,
        [&body[..], b"junk"].concat(),
        b"plain".to_vec(),
    ]);
    for body in damaged {
        let answer = receiver.send(compressed(PROTOBUF, "gzip", body)).await;
        answer.assert_error(StatusCode::BAD_REQUEST, PROTOBUF, 3);
    }
    assert_eq!(receiver.take_spans(), []);
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large() {
    const LIMIT: usize = 10_000;

    let options = RouterOptions::default().max_body_bytes(LIMIT);
    let receiver = Receiver::with(options, Recorder::default());
    let mut large = span(1, 1);
    large.name = "x".repeat(LIMIT);
    let large = encode(&traces(vec![large]), PROTOBUF);
    let chunks = large.chunks(100).map(Bytes::copy_from_slice);
    let chunks: Vec<_> = chunks.map(Ok::<_, std::io::Error>).collect();
    let mut declared = post("/v1/traces", PROTOBUF, "");
    let headers = declared.headers_mut();
    headers.insert("content-length", "10001".parse().unwrap());
    for request in [
        post("/v1/traces", PROTOBUF, large.clone()),
        post("/v1/metrics", PROTOBUF, large.clone()),
        post(
            "/v1/traces",
            PROTOBUF,
            Body::from_stream(stream::iter(chunks)),
        ),
        compressed(PROTOBUF, "gzip", gzip(&large)),
        // Nothing, in many members.
        compressed(PROTOBUF, "gzip", gzip(b"").repeat(1_000)),
        declared,
    ] {
        let answer = receiver.send(request).await;
        answer.assert_error(StatusCode::PAYLOAD_TOO_LARGE, PROTOBUF, 8);
    }
    let mut fits = span(1, 1);
    fits.name = "x".repeat(LIMIT - 200);
    let body = encode(&traces(vec![fits]), PROTOBUF);
    assert_eq!(receiver.spans_of(PROTOBUF, body).await.len(), 1);
}

#[tokio::test]
async fn a_zip_bomb_is_too_large() {
    let bomb = gzip(&vec![0; 1 << 20]).repeat(1 << 10);
    let receiver = Receiver::new();
    let answer = receiver.send(compressed(PROTOBUF, "gzip", bomb)).await;
    answer.assert_error(StatusCode::PAYLOAD_TOO_LARGE, PROTOBUF, 8);
}

#[tokio::test]
async fn bodies_beyond_the_memory_of_all_are_sent_later() {
    let options = RouterOptions::default()
        .max_body_bytes(10_000)
        .max_buffered_bytes(10_240);
    let receiver = Receiver::with(options, Recorder::default());
    // The first body never ends. It holds its memory until the request is dropped.
    let (sender, body) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    sender.send(Bytes::from(vec![b' '; 9_000])).unwrap();
    let body = stream::unfold(body, async |mut body| {
        let chunk = body.recv().await?;
        Some((Ok::<_, std::io::Error>(chunk), body))
    });
    let request = post("/v1/traces", JSON, Body::from_stream(body));
    let slow = tokio::spawn(receiver.router.clone().oneshot(request));
    tokio::task::yield_now().await;

    let body = encode(&traces(vec![span(1, 1)]), JSON);
    let padded = || [body.as_slice(), &[b' '; 5_000]].concat();
    let answer = receiver.post("/v1/traces", JSON, padded()).await;
    answer.assert_error(StatusCode::SERVICE_UNAVAILABLE, JSON, 14);
    assert_eq!(answer.header("retry-after"), Some("1"));
    slow.abort();
    assert!(slow.await.unwrap_err().is_cancelled());
    receiver
        .post("/v1/traces", JSON, padded())
        .await
        .assert_success(JSON);
}

#[tokio::test(start_paused = true)]
async fn a_body_counts_until_it_is_stored() {
    let options = RouterOptions::default()
        .max_body_bytes(10_000)
        .max_buffered_bytes(10_240);
    let router = router(Arc::new(Stuck), options);
    let body = encode(&traces(vec![span(1, 1)]), JSON);
    let padded = || [body.as_slice(), &[b' '; 5_000]].concat();
    let export = || router.clone().oneshot(post("/v1/traces", JSON, padded()));
    let first = tokio::spawn(export());
    // Paused time doesn't pass while the body is decoded on another thread.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let second = timeout(Duration::from_secs(10), export()).await;
    let second = second.expect("no answer, as to the first one").unwrap();
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_sent_later() {
    let receiver = Receiver::new();
    let started = tokio::time::Instant::now();
    let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let answer = receiver.post("/v1/traces", JSON, body).await;
    answer.assert_error(StatusCode::SERVICE_UNAVAILABLE, JSON, 14);
    assert_eq!(started.elapsed().as_secs(), 30);

    // One byte a second is no progress.
    let bytes = stream::unfold((), async |()| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
    });
    let answer = receiver
        .post("/v1/traces", JSON, Body::from_stream(bytes))
        .await;
    answer.assert_error(StatusCode::SERVICE_UNAVAILABLE, JSON, 14);
}

#[tokio::test]
async fn a_thousand_attributes_are_kept() {
    let mut sent = span(1, 1);
    let attributes = (0..1_000_000).map(|number| {
        let key = format!("{number:07}");
        attribute(&key, ProtoValue::BoolValue(true))
    });
    sent.attributes = attributes.collect();
    let receiver = Receiver::new();
    let body = traces(vec![sent]).encode_to_vec();
    let span = only(receiver.spans_of(PROTOBUF, body).await);
    assert_eq!(span.attributes.len(), 1_001);
    assert_eq!(
        span.attributes["runtrail.dropped_attributes"],
        json!(999_000)
    );
    assert_eq!(span.attributes["0000999"], json!(true));
}

#[tokio::test]
async fn both_encodings_have_the_same_limits() {
    let mut sent = span(1, 1);
    sent.attributes = vec![attribute(&"k".repeat(257), ProtoValue::BoolValue(true))];
    let many = (0..1_001).map(|it| attribute(&format!("k{it}"), ProtoValue::IntValue(it)));
    sent.attributes.extend(many);
    let event = |number: i64| Event {
        name: number.to_string(),
        attributes: (0..130)
            .map(|it| attribute(&it.to_string(), ProtoValue::IntValue(it)))
            .collect(),
        ..Event::default()
    };
    sent.events = (0..130).map(event).collect();
    let request = traces(vec![sent]);
    let receiver = Receiver::new();
    for content_type in [PROTOBUF, JSON] {
        let spans = receiver.spans_of(content_type, encode(&request, content_type));
        let span = only(spans.await);
        assert_eq!(span.attributes["runtrail.dropped_attributes"], json!(2));
        assert_eq!(span.attributes["runtrail.dropped_events"], json!(2));
        assert_eq!(span.attributes.len(), 1_002);
        assert_eq!(span.attributes["k999"], json!(999));
        assert_eq!(span.events.len(), 128);
        let event = &span.events[127];
        assert_eq!(event.name, "127");
        assert_eq!(event.at, span.started_at);
        assert_eq!(event.attributes["runtrail.dropped_attributes"], json!(2));
    }
}

#[tokio::test]
async fn values_are_nested_up_to_a_depth() {
    let nested = |levels: usize| {
        (0..levels).fold(any_value(ProtoValue::IntValue(1)), |value, _| {
            any_value(ProtoValue::ArrayValue(ArrayValue {
                values: vec![value],
            }))
        })
    };
    let depth_of = |mut value: &Value| {
        let mut depth = 0;
        while let Value::Array(values) = value {
            depth += 1;
            value = &values[0];
        }
        (depth, value.clone())
    };
    let receiver = Receiver::new();
    for (levels, expected) in [
        (19, (19, json!(1))),
        (20, (20, json!("(nested too deeply)"))),
        (1_000, (20, json!("(nested too deeply)"))),
    ] {
        let mut sent = span(1, 1);
        sent.attributes = vec![attribute("deep", ProtoValue::BoolValue(true))];
        sent.attributes[0].value = Some(nested(levels));
        let request = traces(vec![sent]);
        let protobuf = receiver.spans_of(PROTOBUF, request.encode_to_vec()).await;
        let span = only(protobuf);
        assert_eq!(depth_of(&span.attributes["deep"]), expected);

        let value = format!(
            "{}{{\"intValue\":\"1\"}}{}",
            "{\"arrayValue\":{\"values\":[".repeat(levels),
            "]}}".repeat(levels)
        );
        let sent = json!({
            "traceId": span.trace_id,
            "spanId": span.span_id,
            "attributes": [{ "key": "deep", "value": "VALUE" }],
        });
        let body = json_span(&sent).replace("\"VALUE\"", &value);
        let span = only(receiver.spans_of(JSON, body).await);
        assert_eq!(depth_of(&span.attributes["deep"]), expected);
    }
}

#[tokio::test]
async fn a_request_has_a_million_values_at_most() {
    let values = |number: usize| {
        let mut sent = span(1, 1);
        sent.attributes = vec![attribute(
            "list",
            ProtoValue::ArrayValue(ArrayValue {
                values: vec![AnyValue::default(); number],
            }),
        )];
        sent
    };
    let receiver = Receiver::new();
    let body = traces(vec![values(900_000), values(200_000)]).encode_to_vec();
    let answer = receiver.post("/v1/traces", PROTOBUF, body).await;
    assert_eq!(answer.status, StatusCode::OK);
    let message = String::from_utf8_lossy(&answer.body);
    assert!(message.contains("more than 1,000,000 values"), "{message}");
    assert_eq!(receiver.take_spans().len(), 1);
}

#[tokio::test]
async fn a_large_resource_is_not_copied_to_any_number_of_scopes() {
    let mut request = traces(vec![span(1, 1)]);
    let items = &mut request.resource_spans[0];
    let large = ProtoValue::StringValue("x".repeat(1 << 20));
    let resource = items.resource.as_mut().unwrap();
    resource.attributes.push(attribute("large", large));
    items.scope_spans = vec![items.scope_spans[0].clone(); 100];
    let receiver = Receiver::new();
    for content_type in [PROTOBUF, JSON] {
        let body = encode(&request, content_type);
        let answer = receiver.post("/v1/traces", content_type, body).await;
        answer.assert_error(StatusCode::BAD_REQUEST, content_type, 3);
    }
}
