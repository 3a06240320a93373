//! Receiving the spans and logs of agents over HTTP.

/// An exporter: builds spans and logs, and sends them.
pub(crate) mod exporter;

/// A receiver on a free port, and what it has stored.
mod server;

/// What becomes of spans.
mod spans;

/// Spans that arrive late, more than once, or never.
mod arrival;

/// What becomes of logs, and of the messages of model calls.
mod logs;

/// Receivers that end, share a store, or lose it.
mod receivers;

/// Runs that are exported as traces, and received again.
mod export;
