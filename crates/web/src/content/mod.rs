//! What runs and events contain, as HTML: texts, JSON, Markdown, messages.
//!
//! Everything here is what others have recorded, so it is shown as text, within bounds.

mod extent;
mod json;
mod markdown;
mod messages;
mod preview;
mod text;

pub(crate) use extent::Extent;
pub(crate) use json::json;
pub(crate) use markdown::formatted;
pub(crate) use messages::{messages, render_messages};
pub(crate) use preview::{Preview, preview};
pub(crate) use text::text;
