use std::mem;

use super::attributes::KeyValue;
use super::protobuf;
use super::span::ExportedSpan;
use crate::wire::protobuf::Writer;

/// The most spans of a request.
const MAX_SPANS: usize = 512;

/// The most bytes of a request.
const MAX_BYTES: usize = 4 << 20;

/// What a request has beside its spans and resources, for each of them.
const OVERHEAD: usize = 128;

/// The name of the instrumentation scope.
const SCOPE: &str = "runtrail";

/// Collects spans to requests, each an `ExportTraceServiceRequest` of at most 512 spans and 4 MiB.
#[derive(Clone, Debug)]
pub struct TraceRequest {
    format: Format,
    /// The groups of spans that are complete.
    body: Vec<u8>,
    /// The resource of the last group.
    resource: Option<Encoded>,
    /// The spans of the last group.
    group: Vec<u8>,
    spans: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Protobuf,
}

/// A resource, and how it is encoded.
#[derive(Clone, Debug)]
struct Encoded {
    attributes: Vec<KeyValue>,
    bytes: Vec<u8>,
}

impl TraceRequest {
    /// Creates an empty request in JSON, without line breaks.
    pub fn json() -> Self {
        Self::new(Format::Json)
    }

    /// Creates an empty request in protobuf, which every receiver accepts.
    pub fn protobuf() -> Self {
        Self::new(Format::Protobuf)
    }

    fn new(format: Format) -> Self {
        Self {
            format,
            body: Vec::new(),
            resource: None,
            group: Vec::new(),
            spans: 0,
        }
    }

    /// Adds a span. If the current request is full, returns that request, and the span starts the
    /// next one.
    pub fn push(&mut self, span: &ExportedSpan) -> Option<Vec<u8>> {
        let encoded = self.format.span(span);
        let resource = self.resource.as_ref();
        let is_same = resource.is_some_and(|it| it.attributes == *span.resource);
        let resource = match is_same {
            true => None,
            false => Some(self.format.resource(&span.resource)),
        };
        let added = encoded.len() + resource.as_ref().map_or(0, |it| it.bytes.len()) + OVERHEAD;
        let length = self.body.len() + self.group.len();
        let open = self.resource.as_ref().map_or(0, |it| it.bytes.len()) + OVERHEAD;
        if self.spans > 0 && (self.spans == MAX_SPANS || length + open + added > MAX_BYTES) {
            let full = self.take();
            // Its resource is needed again.
            self.push(span);
            return full;
        }
        if let Some(resource) = resource {
            self.close_group();
            self.resource = Some(resource);
        }
        self.format.append(&mut self.group, &encoded);
        self.spans += 1;
        None
    }

    /// Returns the request with the spans that were added last, if there are any, and starts a new
    /// one.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.close_group();
        let request = mem::replace(self, Self::new(self.format));
        (request.spans > 0).then(|| self.format.request(request.body))
    }

    fn close_group(&mut self) {
        if let Some(resource) = self.resource.take() {
            let group = mem::take(&mut self.group);
            let group = self.format.group(&resource.bytes, group);
            self.format.append(&mut self.body, &group);
        }
    }
}

impl Format {
    fn span(self, span: &ExportedSpan) -> Vec<u8> {
        match self {
            Self::Json => serde_json::to_vec(&span.span).unwrap_or_default(),
            Self::Protobuf => Writer::default()
                .bytes(2, &protobuf::span(&span.span))
                .into_bytes(),
        }
    }

    fn resource(self, attributes: &[KeyValue]) -> Encoded {
        Encoded {
            attributes: attributes.to_vec(),
            bytes: match self {
                Self::Json => serde_json::to_vec(attributes).unwrap_or_default(),
                Self::Protobuf => protobuf::resource(attributes),
            },
        }
    }

    /// Adds an item to a list.
    fn append(self, list: &mut Vec<u8>, item: &[u8]) {
        if self == Self::Json && !list.is_empty() {
            list.push(b',');
        }
        list.extend_from_slice(item);
    }

    /// Returns spans with their resource: `ResourceSpans`.
    fn group(self, resource: &[u8], spans: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Json => [
                br#"{"resource":{"attributes":"#,
                resource,
                br#"},"scopeSpans":[{"scope":{"name":""#,
                SCOPE.as_bytes(),
                br#""},"spans":["#,
                &spans,
                b"]}]}",
            ]
            .concat(),
            Self::Protobuf => {
                let scope = Writer::default().bytes(1, SCOPE.as_bytes());
                let scope = Writer::default().bytes(1, scope.as_bytes()).into_bytes();
                let group = Writer::default()
                    .bytes(1, resource)
                    .bytes(2, &[scope, spans].concat());
                Writer::default().bytes(1, group.as_bytes()).into_bytes()
            }
        }
    }

    fn request(self, groups: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Json => [&br#"{"resourceSpans":["#[..], &groups, b"]}"].concat(),
            Self::Protobuf => groups,
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;
    use runtrail_audit::{RunStats, RunStatus, SkillRun, SkillRunLog, Usage};
    use serde_json::json;

    use super::super::RunSpans;
    use super::*;

    /// Returns the spans of a run with events of every kind.
    fn spans(service: &str, number: u64) -> Vec<ExportedSpan> {
        let at =
            |second: i64| chrono::DateTime::from_timestamp(1_700_000_000 + second, 5_000).unwrap();
        let run = SkillRun::new(format!("run-{number}"), "lead", at(0))
            .parent("run-0")
            .label("service", service)
            .input("prompt", "Why? \u{1F600}\u{0}")
            .finished(at(9), RunStats::new(RunStatus::ERROR).error("no"));
        let event = |sequence, event_type: &str, payload| {
            SkillRunLog::new(&run.id, sequence, event_type, payload).created_at(at(5))
        };
        let call = json!({
            "finish_reasons": ["stop", 1, true, 0.5],
            "attributes": {"flag": true, "negative": -7, "float": -0.25, "deep": {"a": [1]}},
        });
        let usage = Usage::new().model("m").input_tokens(7).cost_micros(1);
        let mut builder = RunSpans::new(&run, "run-0").unwrap();
        let mut spans = Vec::new();
        spans.extend(builder.add(event(0, "model_call", call).usage(usage)));
        for sequence in 1..200 {
            spans.extend(builder.add(event(sequence, "stdout", json!({"text": "a\nb"}))));
        }
        spans.push(builder.finish());
        spans
    }

    #[test]
    fn both_formats_have_the_same_content() {
        let [mut json, mut protobuf] = [TraceRequest::json(), TraceRequest::protobuf()];
        assert_eq!((json.take(), protobuf.take()), (None, None));
        for span in [spans("a", 1), spans("a", 2), spans("b", 3)].concat() {
            assert_eq!((json.push(&span), protobuf.push(&span)), (None, None));
        }
        let json = String::from_utf8(json.take().unwrap()).unwrap();
        assert!(!json.contains('\n'));
        let json: ExportTraceServiceRequest = serde_json::from_str(&json).unwrap();
        let protobuf = ExportTraceServiceRequest::decode(&*protobuf.take().unwrap()).unwrap();
        assert_eq!(json, protobuf);
        let groups = protobuf.resource_spans.iter();
        let spans = groups.map(|group| group.scope_spans[0].spans.len());
        assert_eq!(spans.collect::<Vec<_>>(), [4, 2]);
        let run = &protobuf.resource_spans[0].scope_spans[0].spans[1];
        assert_eq!((run.events.len(), run.dropped_events_count), (128, 71));
    }

    #[test]
    fn requests_have_limits() {
        for mut request in [TraceRequest::json(), TraceRequest::protobuf()] {
            let small = spans("a", 1).swap_remove(0);
            let full: Vec<_> = (0..1_300).filter_map(|_| request.push(&small)).collect();
            assert_eq!(full.len(), 2);
            assert!(
                request
                    .take()
                    .is_some_and(|last| last.len() < full[0].len())
            );

            let at = chrono::DateTime::UNIX_EPOCH;
            let mut run = SkillRun::new("large", "lead", at);
            run = run.finished(at, RunStats::new(RunStatus::OK).output("x".repeat(1 << 20)));
            let large = RunSpans::new(&run, "large").unwrap().finish();
            let full: Vec<_> = (0..10).filter_map(|_| request.push(&large)).collect();
            assert_eq!(full.len(), 3);
            assert!(full.iter().all(|body| body.len() <= MAX_BYTES));
        }
    }
}
