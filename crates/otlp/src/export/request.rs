use std::mem;

use super::span::ExportedSpan;

/// The most spans of a request.
const MAX_SPANS: usize = 512;

/// The most bytes of a request.
const MAX_BYTES: usize = 4 << 20;

const START: &str = r#"{"resourceSpans":["#;
const END: &str = "]}]}]}";

/// Collects spans to requests: the JSON of an `ExportTraceServiceRequest`, in one line. Each has at
/// most 512 spans and 4 MiB.
#[derive(Clone, Debug, Default)]
pub struct TraceRequest {
    body: String,
    spans: usize,
    /// The resource of the last span.
    resource: String,
}

impl TraceRequest {
    /// Creates an empty request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a span. Returns the request with the spans before it if there is no room for this one.
    pub fn push(&mut self, span: &ExportedSpan) -> Option<String> {
        let added = span.json.get().len() + span.resource.len() + 128;
        let is_full = self.spans == MAX_SPANS || self.body.len() + added > MAX_BYTES;
        let full = if is_full { self.take() } else { None };
        if self.spans == 0 {
            self.body.push_str(START);
            self.begin_resource(span);
        } else if self.resource == span.resource {
            self.body.push(',');
        } else {
            self.body.push_str("]}]},");
            self.begin_resource(span);
        }
        self.body.push_str(span.json.get());
        self.spans += 1;
        full
    }

    /// Returns the request with the spans that were added last, if there are any, and starts a new
    /// one.
    pub fn take(&mut self) -> Option<String> {
        let Self {
            mut body, spans, ..
        } = mem::take(self);
        if spans == 0 {
            return None;
        }
        body.push_str(END);
        Some(body)
    }

    fn begin_resource(&mut self, span: &ExportedSpan) {
        self.resource.clone_from(&span.resource);
        self.body.push_str(r#"{"resource":"#);
        self.body.push_str(&span.resource);
        self.body
            .push_str(r#","scopeSpans":[{"scope":{"name":"runtrail"},"spans":["#);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;

    fn span(resource: &str, json: &Value) -> ExportedSpan {
        ExportedSpan {
            resource: json!({ "attributes": [resource] }).to_string(),
            json: RawValue::from_string(json.to_string()).unwrap(),
        }
    }

    #[test]
    fn spans_are_grouped_by_their_resource() {
        let mut request = TraceRequest::new();
        assert_eq!(request.take(), None);
        for (resource, number) in [("a", 1), ("a", 2), ("b", 3)] {
            assert_eq!(request.push(&span(resource, &json!(number))), None);
        }
        let body: Value = serde_json::from_str(&request.take().unwrap()).unwrap();
        let scope = |spans: Value| json!([{"scope": {"name": "runtrail"}, "spans": spans}]);
        assert_eq!(
            body,
            json!({"resourceSpans": [
                {"resource": {"attributes": ["a"]}, "scopeSpans": scope(json!([1, 2]))},
                {"resource": {"attributes": ["b"]}, "scopeSpans": scope(json!([3]))},
            ]})
        );
        assert_eq!(request.take(), None);
    }

    #[test]
    fn requests_have_limits() {
        let mut request = TraceRequest::new();
        let full: Vec<_> = (0..1_300)
            .filter_map(|number| request.push(&span("a", &json!(number))))
            .collect();
        assert_eq!(full.len(), 2);
        assert_eq!(full[0].matches(',').count(), 512 + 1);
        let last = request.take().unwrap();
        assert!(last.ends_with("1299]}]}]}"), "{last}");

        let large = json!("x".repeat(1 << 20));
        let full: Vec<_> = (0..10)
            .filter_map(|_| request.push(&span("a", &large)))
            .collect();
        assert_eq!(full.len(), 3);
        assert!(full.iter().all(|body| body.len() <= MAX_BYTES));
    }
}
