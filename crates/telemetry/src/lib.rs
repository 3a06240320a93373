//! What the spans and logs of agents mean for a history.
//!
//! A receiver converts what it has received to a [`Span`] or a [`LogRecord`], and this crate to a
//! [`Record`]: part of a run, or an event of one. It is data and pure functions: no I/O, no state.

mod record;
mod span;

pub use record::{EventPart, Record, Role, RunPart};
pub use span::{LogRecord, Source, Span, SpanEvent, SpanStatus};
