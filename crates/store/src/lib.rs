//! Runtrail's run history on SQLite and PostgreSQL.
//!
//! [`AuditStore`] implements [`Storage`](runtrail_audit::Storage) with SeaORM's query builder.
//! There are three ways to open one:
//!
//! - [`AuditStore::connect`] opens a database by URL, with connections of its own;
//! - [`AuditStore::new`] uses a host's `DatabaseConnection`;
//! - [`AuditStore::on`] uses a host's open transaction, or any other `ConnectionTrait`.
//!
//! ```
//! use runtrail_audit::{RunStats, RunStatus, SkillRun, Storage};
//! use runtrail_store::AuditStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> runtrail_audit::Result<()> {
//! let store = AuditStore::connect("sqlite::memory:").await?;
//! store.initialize().await?;
//!
//! let run = SkillRun::new("run-1", "summarise", store.now());
//! store.start_run(&run).await?;
//! store.finish_run("run-1", &RunStats::new(RunStatus::OK)).await?;
//! assert_eq!(store.get_run("run-1").await?.status, RunStatus::OK);
//! # Ok(())
//! # }
//! ```
//!
//! The files mirror those of `runtrail-audit`: each trait has a file of the same name. The SQL that
//! it calls is in files named after a noun, such as `runs` or `logs`.

mod store;

mod budgets;
mod bulk_storage;
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

mod stored_rows;

mod record;

mod read;
mod statements;

mod codec;
mod error;
mod settings;
mod store_owner;

pub use store::AuditStore;
pub use stored_rows::StoredRows;
