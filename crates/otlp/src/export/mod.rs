//! Exporting runs as OTLP traces.
//!
//! The spans have the names that the receiver reads, so that a run that is exported and received
//! again is the same run.

mod answer;
mod attributes;
mod event;
mod ids;
mod protobuf;
mod request;
mod run;
mod span;

pub use answer::TraceAnswer;
pub use request::TraceRequest;
pub use run::RunSpans;
pub use span::ExportedSpan;
