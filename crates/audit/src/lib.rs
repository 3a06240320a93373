//! The port of Runtrail: what a run history stores and promises, without saying how.
//!
//! A *run* is one execution of a skill, agent or job; an *event* is one line of what it did.
//! [`Storage`] is the contract that every implementation keeps; `runtrail-store` keeps it on SQLite and
//! PostgreSQL.
//! This crate has no SQL and needs no async runtime.
//!
//! Reading order: [`SkillRun`], [`RunStats`] and [`SkillRunLog`] are the records, [`RunFilter`] and [`Page`]
//! choose among them, [`Storage`] says what can be done with them, [`Error`] what can go wrong.
//! [`BulkStorage`], [`PagedStorage`], [`RunTree`], [`RunCreation`], [`RunLookup`] and [`Retention`] add further
//! operations, and [`History`] is all of them.
//! An implementer also uses [`rules`], the checks that make two implementations refuse the same input.

mod run;
mod run_log;
mod run_stats;
mod run_status;
mod run_summary;

mod cursor;
mod list_order;
mod log_filter;
mod page;
mod run_filter;
mod run_query;

mod storage;

mod bulk_storage;
mod forwarding;
mod history;
mod paged_storage;
mod retention;
mod run_creation;
mod run_lookup;
mod run_tree;

mod clock;
mod error;
mod ids;
mod limits;
pub mod rfc3339;
pub mod rules;

pub use bulk_storage::BulkStorage;
pub use clock::{Clock, SystemClock};
pub use cursor::{Cursor, CursorPage, PageRequest};
pub use error::{Error, ErrorKind, ErrorSource, Result};
pub use history::History;
pub use ids::new_run_id;
pub use limits::Limits;
pub use list_order::ListOrder;
pub use log_filter::LogFilter;
pub use page::Page;
pub use paged_storage::PagedStorage;
pub use retention::{PurgeBatch, PurgeSize, PurgeSummary, Retention, SkippedRun};
pub use run::SkillRun;
pub use run_creation::RunCreation;
pub use run_filter::RunFilter;
pub use run_log::SkillRunLog;
pub use run_lookup::RunLookup;
pub use run_query::{Bounds, Choice, Parent, RunQuery};
pub use run_stats::RunStats;
pub use run_status::RunStatus;
pub use run_summary::RunSummary;
pub use run_tree::RunTree;
pub use storage::Storage;
