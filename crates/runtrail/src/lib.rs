//! A durable run history in a SQLite or PostgreSQL database.
//!
//! A *run* is one execution of a skill, agent or job; an *event* is one step recorded during a run.
//! [`AuditStore`] stores both. Its methods are those of [`Storage`] and the other traits of this
//! crate.
//!
//! ```
//! use runtrail::{AuditStore, RunStats, RunStatus, SkillRun, Storage};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> runtrail::Result<()> {
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
//! Hosts depend only on this crate. It has no code of its own and re-exports the other Runtrail
//! crates, which are meant for tools and for other implementations.

/// Runs the examples of the documents as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct CrateReadme;

#[cfg(all(doctest, feature = "web"))]
#[doc = include_str!("../../../docs/page.md")]
struct Page;

#[doc(inline)]
pub use runtrail_audit::*;
#[doc(inline)]
pub use runtrail_db::{
    Borrowed, ConnectError, Connection, DatabaseOptions, Durability, Pool, Retry,
    discard_open_transactions,
};
#[doc(inline)]
pub use runtrail_migration::SchemaName;
#[doc(inline)]
pub use runtrail_record::{
    Event, Recorder, RunHandle, ScopeError, StartRun, Unwritten, keep_alive,
};
#[cfg(feature = "tracing")]
#[doc(inline)]
pub use runtrail_record::{RunLayer, layer};
#[doc(inline)]
pub use runtrail_store::AuditStore;

#[cfg(feature = "copy")]
pub use runtrail_copy as copy;
#[cfg(feature = "cost")]
pub use runtrail_cost as cost;
pub use runtrail_entity as entity;
pub use runtrail_migration as migration;
#[cfg(feature = "otlp")]
pub use runtrail_otlp as otlp;
#[cfg(feature = "web")]
pub use runtrail_web as web;
