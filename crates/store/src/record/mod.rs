//! The calls that record runs and events, and their group commit.

mod dispatch;
mod write;
mod writer;

pub(crate) use dispatch::dispatch;
pub(crate) use write::Write;
pub(crate) use writer::{TaskTarget, Writer};
