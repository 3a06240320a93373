use std::sync::Arc;

use chrono::{DateTime, Utc};
use runtrail_telemetry::{LogRecord, Source};
use serde_json::Value;

use super::digest::LogIds;
use super::span::{id, time};
use super::value::{Attributes, MAX_ATTRIBUTES};

/// A log record as it was sent.
#[derive(Debug)]
pub(super) struct LogParts {
    pub(super) nanos: u64,
    pub(super) observed_nanos: u64,
    pub(super) severity_number: u64,
    pub(super) severity_text: String,
    pub(super) event_name: String,
    pub(super) body: Value,
    pub(super) attributes: Attributes,
    pub(super) trace_id: Vec<u8>,
    pub(super) span_id: Vec<u8>,
}

impl Default for LogParts {
    fn default() -> Self {
        Self {
            nanos: 0,
            observed_nanos: 0,
            severity_number: 0,
            severity_text: String::new(),
            event_name: String::new(),
            body: Value::Null,
            attributes: Attributes::new(MAX_ATTRIBUTES),
            trace_id: Vec::new(),
            span_id: Vec::new(),
        }
    }
}

impl LogParts {
    /// Ids that aren't valid are left out: a log may have none.
    pub(super) fn into_log(
        self,
        source: &Arc<Source>,
        received_at: DateTime<Utc>,
        ids: &mut LogIds,
    ) -> LogRecord {
        let trace_id = id::<16>(&self.trace_id);
        let span_id = trace_id.as_ref().and_then(|_| id::<8>(&self.span_id));
        let severity = if self.severity_text.is_empty() {
            severity_name(self.severity_number)
        } else {
            self.severity_text
        };
        let sent_at = time(self.nanos).or_else(|| time(self.observed_nanos));
        let attributes = self.attributes.into_map();

        // Not the time of receipt, which is another one when the log is sent again.
        let mut digest = ids.digest(source);
        digest.number(self.nanos);
        digest.number(self.observed_nanos);
        for text in [&severity, &self.event_name] {
            digest.text(text);
        }
        for id in [&trace_id, &span_id] {
            digest.text(id.as_deref().unwrap_or_default());
        }
        digest.value(&self.body);
        digest.object(&attributes);

        LogRecord {
            id: ids.next(digest),
            trace_id,
            span_id,
            event_name: self.event_name,
            severity,
            at: sent_at.unwrap_or(received_at),
            body: self.body,
            attributes,
            source: Arc::clone(source),
        }
    }
}

const SEVERITIES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

/// Each severity has four numbers from 1 on: `TRACE`, `TRACE2`, `TRACE3`, `TRACE4`, `DEBUG`, ….
fn severity_name(number: u64) -> String {
    let index = usize::try_from(number.wrapping_sub(1)).unwrap_or(usize::MAX);
    match (SEVERITIES.get(index / 4), index % 4) {
        (None, _) => String::new(),
        (Some(name), 0) => (*name).to_owned(),
        (Some(name), rest) => format!("{name}{}", rest + 1),
    }
}

/// The inverse of [`severity_name`], for a name such as `SEVERITY_NUMBER_WARN2`.
pub(super) fn severity_number(name: &str) -> Option<u64> {
    let name = name.strip_prefix("SEVERITY_NUMBER_")?;
    if name == "UNSPECIFIED" {
        return Some(0);
    }
    (1..=24).find(|number| severity_name(*number) == name)
}
