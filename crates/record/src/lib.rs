//! Handles that record runs into a history.
//!
//! A [`Recorder`] starts runs. A [`RunHandle`] numbers the events of its run, adds up its tool
//! calls and tokens, and finishes the run, even if the handle is dropped or the task panics.
//! Recording an event never waits for the database: a background task writes it.

mod buffer;
mod event;
mod handle;
mod heartbeats;
#[cfg(feature = "tracing")]
mod layer;
mod recorder;
mod scope;
mod start;
mod writer;

pub use event::Event;
pub use handle::RunHandle;
pub use heartbeats::keep_alive;
#[cfg(feature = "tracing")]
pub use layer::{RunLayer, layer};
pub use recorder::{Recorder, Unwritten};
pub use scope::ScopeError;
pub use start::StartRun;
