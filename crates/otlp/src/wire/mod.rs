//! From the bytes of a body to spans and logs.
//!
//! Both encodings are decoded one span or log at a time, into a [`SpanParts`](span::SpanParts) or
//! [`LogParts`](log::LogParts): what is malformed is rejected alone, what is over a limit is
//! skipped, and memory for generated messages, which can take a hundred times the size of a body,
//! isn't needed.

mod digest;
mod json;
mod log;
pub(crate) mod protobuf;
mod span;
mod text;
mod value;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use runtrail_telemetry::{LogRecord, Source, Span};

use crate::reply::Encoding;
use digest::LogIds;
use log::LogParts;
use span::SpanParts;
use value::Budget;

pub(crate) use span::hex;

/// Which signal a path is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Traces,
    Logs,
    Metrics,
    /// Traces or logs, depending on the content.
    Unknown,
}

/// What a request holds.
#[derive(Debug)]
pub(crate) enum Export {
    /// At least one span.
    Spans(Batch<Span>),
    /// At least one log.
    Logs(Batch<LogRecord>),
    /// Nothing to store.
    Nothing,
}

/// The spans or logs of a request.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    pub(crate) items: Vec<T>,
    /// The number of items that can't be decoded or have no id.
    pub(crate) rejected: u64,
    /// What is wrong with the first of them.
    pub(crate) reason: Option<Rejection>,
}

/// What is wrong with a span or log, as a predicate of it.
pub(crate) type Rejection = &'static str;

/// A body to which the response is 400.
#[derive(Debug)]
pub(crate) struct Undecodable {
    pub(crate) message: String,
}

/// Decodes a body.
pub(crate) fn decode(
    body: &[u8],
    encoding: Encoding,
    target: Target,
    received_at: DateTime<Utc>,
) -> Result<Export, Undecodable> {
    let spans = || decode_spans(body, encoding, received_at);
    let logs = || decode_logs(body, encoding, received_at);
    match target {
        Target::Metrics => Ok(Export::Nothing),
        Target::Traces => only(spans(), Export::Spans, "span", || {
            has_items(&logs()).then_some("the body holds logs, which /v1/logs accepts")
        }),
        Target::Logs => only(logs(), Export::Logs, "log record", || {
            has_items(&spans()).then_some("the body holds spans, which /v1/traces accepts")
        }),
        // In protobuf, requests with traces and logs have the same outer fields. But a span's first
        // field holds the bytes of its trace id, and that of a log the number of its time. So no
        // item can be decoded as both.
        Target::Unknown => {
            let spans = spans();
            if !has_items(&spans) {
                let logs = logs();
                if has_items(&logs) {
                    return only(logs, Export::Logs, "log record", || None);
                }
            }
            only(spans, Export::Spans, "span", || None)
        }
    }
}

fn has_items<T>(batch: &Result<Batch<T>, Rejection>) -> bool {
    batch.as_ref().is_ok_and(|batch| !batch.items.is_empty())
}

/// Returns what was decoded, or why nothing was.
fn only<T>(
    batch: Result<Batch<T>, Rejection>,
    export: impl FnOnce(Batch<T>) -> Export,
    noun: &str,
    other_signal: impl FnOnce() -> Option<&'static str>,
) -> Result<Export, Undecodable> {
    let problem = match batch {
        Ok(batch) if !batch.items.is_empty() => return Ok(export(batch)),
        Ok(Batch {
            rejected, reason, ..
        }) => reason.map(|reason| {
            format!("none of {rejected} {noun}s can be stored: the first one {reason}")
        }),
        Err(reason) => Some(format!("the body {reason}")),
    };
    let message = match (problem, other_signal()) {
        (None, None) => return Ok(Export::Nothing),
        (Some(problem), None) => problem,
        (None, Some(hint)) => hint.to_owned(),
        (Some(problem), Some(hint)) => format!("{problem}; {hint}"),
    };
    Err(Undecodable { message })
}

fn decode_spans(
    body: &[u8],
    encoding: Encoding,
    received_at: DateTime<Utc>,
) -> Result<Batch<Span>, Rejection> {
    let mut batch = Batch::default();
    let mut budget = Budget::default();
    let each = |span: Result<SpanParts, Rejection>, source: &Arc<Source>| {
        batch.push(span.and_then(|it| it.into_span(source, received_at)));
    };
    match encoding {
        Encoding::Protobuf => protobuf::spans(body, &mut budget, each),
        Encoding::Json => json::spans(body, &mut budget, each),
    }?;
    Ok(batch)
}

fn decode_logs(
    body: &[u8],
    encoding: Encoding,
    received_at: DateTime<Utc>,
) -> Result<Batch<LogRecord>, Rejection> {
    let mut batch = Batch::default();
    let mut budget = Budget::default();
    let mut ids = LogIds::default();
    let each = |log: Result<LogParts, Rejection>, source: &Arc<Source>| {
        batch.push(log.map(|it| it.into_log(source, received_at, &mut ids)));
    };
    match encoding {
        Encoding::Protobuf => protobuf::logs(body, &mut budget, each),
        Encoding::Json => json::logs(body, &mut budget, each),
    }?;
    Ok(batch)
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            rejected: 0,
            reason: None,
        }
    }
}

impl<T> Batch<T> {
    fn push(&mut self, item: Result<T, Rejection>) {
        match item {
            Ok(item) => self.items.push(item),
            Err(reason) => {
                self.rejected += 1;
                self.reason.get_or_insert(reason);
            }
        }
    }
}
