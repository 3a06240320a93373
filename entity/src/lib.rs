//! SeaORM entities of Runtrail's tables: rows, nothing else.
//!
//! They are here so that a host can read the history in its own queries and join it with its own tables.
//! Writing is the business of `runtrail-store`, which keeps the promises that a row alone can't.
//!
//! Times are microseconds since the epoch, JSON is the text that `serde_json` made of it.

#![expect(
    clippy::disallowed_methods,
    reason = "the model macro generates methods that write, and nothing here calls them"
)]

pub mod skill_run;
pub mod skill_run_log;
