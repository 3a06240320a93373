//! Random bodies, valid ones with damage, and random values.

use axum::http::StatusCode;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};
use opentelemetry_proto::tonic::trace::v1::span::Event;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::runtime;

use crate::fixture::*;

/// A change to a body.
#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Remove(Index, Index),
    Repeat(Index, Index),
    Insert(Index, Vec<u8>),
}

impl Damage {
    fn apply(&self, body: &mut Vec<u8>) {
        if body.is_empty() {
            return;
        }
        let range = |start: &Index, end: &Index| {
            let (start, end) = (start.index(body.len()), end.index(body.len()));
            start.min(end)..start.max(end)
        };
        match self {
            Self::Set(at, byte) => {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            Self::Remove(start, end) => {
                body.drain(range(start, end));
            }
            Self::Repeat(start, end) => body.extend_from_within(range(start, end)),
            Self::Insert(at, bytes) => {
                let at = at.index(body.len());
                body.splice(at..at, bytes.iter().copied());
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = || any::<Index>();
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (index(), index()).prop_map(|(start, end)| Damage::Remove(start, end)),
        (index(), index()).prop_map(|(start, end)| Damage::Repeat(start, end)),
        (index(), vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

fn rich_body(is_traces: bool, content_type: &str) -> Vec<u8> {
    let attributes = vec![
        attribute("text", ProtoValue::StringValue("\u{1F980}".to_owned())),
        attribute("number", ProtoValue::DoubleValue(0.1)),
        attribute("bytes", ProtoValue::BytesValue(vec![1, 2, 3])),
        attribute(
            "object",
            ProtoValue::KvlistValue(KeyValueList {
                values: vec![attribute(
                    "list",
                    ProtoValue::ArrayValue(ArrayValue {
                        values: vec![crate::fixture::any_value(ProtoValue::IntValue(-7))],
                    }),
                )],
            }),
        ),
    ];
    if is_traces {
        let mut span = span(1, 1);
        span.attributes.clone_from(&attributes);
        span.events = vec![Event {
            name: "event".to_owned(),
            attributes,
            ..Event::default()
        }];
        encode(&traces(vec![span.clone(), span]), content_type)
    } else {
        let mut log = log("hello");
        log.attributes = attributes;
        encode(&logs(vec![log.clone(), log]), content_type)
    }
}

fn content_type() -> impl Strategy<Value = &'static str> {
    select(vec![PROTOBUF, JSON])
}

fn path() -> impl Strategy<Value = &'static str> {
    select(vec!["/v1/traces", "/v1/logs", "/"])
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future);
}

/// Sends a body, and checks the answer: success, perhaps of a part, or a bad request.
fn check(path: &str, content_type: &str, body: Vec<u8>) {
    block_on(async {
        let receiver = Receiver::new();
        let answer = receiver.post(path, content_type, body).await;
        let stored = receiver.take_spans().len() + receiver.take_logs().len();
        match answer.status {
            StatusCode::OK => assert_eq!(answer.header("content-type"), Some(content_type)),
            _ => {
                answer.assert_error(StatusCode::BAD_REQUEST, content_type, 3);
                assert_eq!(stored, 0);
            }
        }
    });
}

fn proto_value() -> impl Strategy<Value = ProtoValue> {
    let leaf = prop_oneof![
        any::<String>().prop_map(ProtoValue::StringValue),
        any::<bool>().prop_map(ProtoValue::BoolValue),
        any::<i64>().prop_map(ProtoValue::IntValue),
        // The official types write NaN and infinity as null.
        (-1e300..1e300).prop_map(ProtoValue::DoubleValue),
        vec(any::<u8>(), 0..9).prop_map(ProtoValue::BytesValue),
    ];
    leaf.prop_recursive(4, 32, 4, |value| {
        let values = vec(value.clone(), 0..4).prop_map(|values| {
            let values = values.into_iter().map(any_value).collect();
            ProtoValue::ArrayValue(ArrayValue { values })
        });
        let entries = vec((any::<String>(), value), 0..4).prop_map(|entries| {
            let values = entries
                .into_iter()
                .map(|(key, value)| attribute(&key, value))
                .collect();
            ProtoValue::KvlistValue(KeyValueList { values })
        });
        prop_oneof![values, entries]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bodies_have_a_clear_answer(
        path in path(),
        content_type in content_type(),
        body in vec(any::<u8>(), 0..200),
    ) {
        check(path, content_type, body);
    }

    #[test]
    fn damaged_bodies_have_a_clear_answer(
        path in path(),
        content_type in content_type(),
        is_traces in any::<bool>(),
        damages in vec(damage(), 1..5),
    ) {
        let mut body = rich_body(is_traces, content_type);
        for damage in damages {
            damage.apply(&mut body);
        }
        check(path, content_type, body);
    }

    #[test]
    fn a_value_is_the_same_in_both_encodings(value in proto_value()) {
        let mut sent = span(1, 1);
        sent.attributes = vec![attribute("value", value)];
        let request = traces(vec![sent]);
        block_on(async {
            let receiver = Receiver::new();
            let protobuf = receiver.spans_of(PROTOBUF, encode(&request, PROTOBUF)).await;
            let json = receiver.spans_of(JSON, encode(&request, JSON)).await;
            assert_eq!(protobuf, json);
        });
    }
}
