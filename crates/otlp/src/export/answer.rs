use serde::Deserialize;

use crate::wire::protobuf::{read_partial_success, read_refusal};

/// What a receiver has answered to a request with spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceAnswer {
    /// The number of spans that it has rejected. They mustn't be sent again.
    pub rejected_spans: u64,
    /// What is wrong; may be empty.
    pub message: String,
}

/// The parts of an answer as JSON: of a success, and of a failure.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Content {
    partial_success: Option<PartialSuccess>,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PartialSuccess {
    rejected_spans: Count,
    error_message: String,
}

/// A 64-bit number is a string in the JSON of protobuf, but not of every receiver.
#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u64),
    Text(String),
}

impl Default for Count {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl TraceAnswer {
    /// Reads the body of an answer with a status of success, in the format that its `Content-Type`
    /// names. Anything else means that all spans were accepted.
    pub fn of_success(content_type: &str, body: &[u8]) -> Self {
        if content_type.contains("json") {
            let content: Content = serde_json::from_slice(body).unwrap_or_default();
            let partial = content.partial_success.unwrap_or_default();
            return Self {
                rejected_spans: match partial.rejected_spans {
                    Count::Number(count) => count,
                    Count::Text(text) => text.parse().unwrap_or_default(),
                },
                message: partial.error_message,
            };
        }
        let partial = match content_type.contains("protobuf") {
            true => read_partial_success(body).unwrap_or_default(),
            false => Default::default(),
        };
        let (rejected_spans, message) = partial;
        Self {
            rejected_spans,
            message,
        }
    }

    /// Reads the body of an answer with any other status.
    pub fn of_failure(content_type: &str, body: &[u8]) -> Self {
        let message = if content_type.contains("json") {
            let content: Option<Content> = serde_json::from_slice(body).ok();
            content.map(|content| content.message)
        } else if content_type.contains("protobuf") {
            Some(read_refusal(body).unwrap_or_default())
        } else {
            None
        };
        let message = message.filter(|message| !message.is_empty());
        Self {
            rejected_spans: 0,
            message: message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::protobuf::Writer;

    use super::*;

    const JSON: &str = "application/json; charset=utf-8";
    const PROTOBUF: &str = "application/x-protobuf";

    fn partly(rejected_spans: u64, message: &str) -> TraceAnswer {
        TraceAnswer {
            rejected_spans,
            message: message.to_owned(),
        }
    }

    #[test]
    fn rejected_spans_are_read_in_each_format() {
        let partial = Writer::default().varint(1, 2).bytes(2, b"too old");
        let body = Writer::default().bytes(1, partial.as_bytes()).into_bytes();
        assert_eq!(
            TraceAnswer::of_success(PROTOBUF, &body),
            partly(2, "too old")
        );
        for rejected in ["2", "\"2\""] {
            let body = format!(
                "{{\"partialSuccess\":{{\"rejectedSpans\":{rejected},\"errorMessage\":\"too old\"}}}}"
            );
            let read = TraceAnswer::of_success(JSON, body.as_bytes());
            assert_eq!(read, partly(2, "too old"));
        }
        for (content_type, body) in [(PROTOBUF, ""), (JSON, "{}"), (JSON, "no JSON"), ("", "ok")] {
            let read = TraceAnswer::of_success(content_type, body.as_bytes());
            assert_eq!(read, partly(0, ""));
        }
    }

    #[test]
    fn a_failure_has_a_message_in_each_format() {
        let body = Writer::default().varint(1, 3).bytes(2, b"no").into_bytes();
        let read = TraceAnswer::of_failure;
        assert_eq!(read(PROTOBUF, &body), partly(0, "no"));
        assert_eq!(read(JSON, br#"{"code":3,"message":"no"}"#), partly(0, "no"));
        assert_eq!(
            read(JSON, br#"{"detail":"no"}"#),
            partly(0, r#"{"detail":"no"}"#)
        );
        assert_eq!(read("text/plain", b"no"), partly(0, "no"));
    }
}
