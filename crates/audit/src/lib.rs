//! The port of Runtrail: what a run history stores and promises, without saying how.
//!
//! A *run* is one execution of a skill, agent or job; an *event* is one line of what it did.
//! [`Storage`] is the contract that every implementation keeps; `runtrail-store` keeps it on SQLite and
//! PostgreSQL.
//! This crate has no SQL and needs no async runtime.
//!
//! Reading order: [`SkillRun`], [`RunStats`] and [`SkillRunLog`] are the records, [`RunFilter`] and [`Page`]
//! choose among them, [`Storage`] says what can be done with them, [`Error`] what can go wrong.
//! An implementer also uses [`rules`], the checks that make two implementations refuse the same input.

mod run;
mod run_log;
mod run_stats;
mod run_status;

mod page;
mod run_filter;

mod storage;

mod clock;
mod error;
mod limits;
pub mod rules;

pub use clock::{Clock, SystemClock};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use limits::Limits;
pub use page::Page;
pub use run::SkillRun;
pub use run_filter::RunFilter;
pub use run_log::SkillRunLog;
pub use run_stats::RunStats;
pub use run_status::RunStatus;
pub use storage::Storage;
