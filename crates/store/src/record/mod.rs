//! The calls that record what runs do: together with others where there is a task for it, or alone.

mod dispatch;
mod write;
mod writer;

pub(crate) use dispatch::dispatch;
pub(crate) use write::Write;
pub(crate) use writer::Writer;
