//! The storage interface of Runtrail: what a run history stores and guarantees, without any SQL.
//!
//! A *run* is one execution of a skill, agent or job; an *event* is one step recorded during a run.
//! [`Storage`] is the contract of every implementation; `runtrail-store` implements it on SQLite
//! and PostgreSQL. This crate needs no async runtime.
//!
//! Reading order: [`SkillRun`], [`RunStats`], [`SkillRunLog`] and its [`Usage`] are the
//! records, [`RunFilter`] and [`Page`] select some of them, [`Storage`] defines the operations,
//! and [`Error`] their failures. [`BulkStorage`], [`PagedStorage`], [`RunTree`],
//! [`RunCreation`], [`RunLookup`], [`RunLabels`], [`UsageTotals`], [`Statistics`], [`Ownership`],
//! [`Retention`], [`Staging`], [`Budgets`] and [`Watch`] add further operations, and [`History`]
//! combines all of these traits.
//! Implementers also use [`rules`], the checks that make all implementations reject the same input.

mod budget;
mod owner;
mod reservation;
mod run;
mod run_log;
mod run_stats;
mod run_status;
mod run_summary;
mod usage;

mod cursor;
mod label_filter;
mod list_order;
mod log_filter;
mod page;
mod run_filter;
mod run_query;

mod buckets;
mod durations;

mod storage;

mod budgets;
mod bulk_storage;
mod forwarding;
mod history;
mod ownership;
mod paged_storage;
mod retention;
mod run_creation;
mod run_labels;
mod run_lookup;
mod run_tree;
mod staging;
mod statistics;
mod usage_totals;
mod watch;

mod clock;
mod error;
mod ids;
mod limits;
pub mod micros;
pub mod rfc3339;
pub mod rules;

pub use buckets::{BucketWidth, Buckets};
pub use budget::{Amount, Budget, BudgetPeriod, BudgetScope, BudgetStatus};
pub use budgets::Budgets;
pub use bulk_storage::BulkStorage;
pub use clock::{Clock, SystemClock};
pub use cursor::{Cursor, CursorPage, PageRequest};
pub use durations::{Durations, Percentiles};
pub use error::{Error, ErrorKind, ErrorSource, Result};
pub use history::History;
pub use ids::new_run_id;
pub use label_filter::LabelFilter;
pub use limits::Limits;
pub use list_order::ListOrder;
pub use log_filter::LogFilter;
pub use owner::{Heartbeat, Owner, OwnerRecord};
pub use ownership::Ownership;
pub use page::Page;
pub use paged_storage::PagedStorage;
pub use reservation::{ReservationRequest, Spending};
pub use retention::{PurgeBatch, PurgeSize, PurgeSummary, Retention, SkippedRun};
pub use run::SkillRun;
pub use run_creation::RunCreation;
pub use run_filter::RunFilter;
pub use run_labels::RunLabels;
pub use run_log::SkillRunLog;
pub use run_lookup::RunLookup;
pub use run_query::{Bounds, Choice, Parent, RunQuery};
pub use run_stats::RunStats;
pub use run_status::RunStatus;
pub use run_summary::RunSummary;
pub use run_tree::{RunTree, SubtreeTotals};
pub use staging::{StagedRecord, Staging, WaitingGroup};
pub use statistics::{
    CallStatistics, Dimension, RunStatistics, Statistics, StatisticsQuery, StatisticsRow,
    retain_top,
};
pub use storage::Storage;
pub use usage::Usage;
pub use usage_totals::{ModelUsage, UsageTotals};
pub use watch::{Watch, WatchStart, Watched};
