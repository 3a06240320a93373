//! Test cases for implementations of [`Storage`](runtrail_audit::Storage) and
//! [`History`](runtrail_audit::History).
//!
//! Each case is an async function that gets a [`Context`]: a store without any runs, and the clock
//! that the store has to use. A case panics if the store breaks the contract. A case uses only the
//! traits, so it works on any database, on a remote service, or in memory.
//!
//! A case needs a fresh store with the default [`Limits`](runtrail_audit::Limits).
//!
//! A minor version may add cases, and may make a case stricter if it missed a violation of the
//! contract: pin the version if your tests must not change.
//!
//! [`storage_cases!`] passes the names of all cases to your macro, which turns them into tests.
//! [`history_cases!`] does the same for the cases that also need the other traits.
//!
//! ```
//! use std::sync::Arc;
//!
//! use runtrail_audit::Storage;
//! use runtrail_conformance::ManualClock;
//!
//! /// Opens an empty store of the kind under test, with this clock.
//! async fn open(clock: Arc<ManualClock>) -> Arc<dyn Storage> {
//! #   let _ = clock;
//! #   unimplemented!()
//!     // …
//! }
//!
//! macro_rules! tests {
//!     ($module:ident: $($case:ident)*) => {
//!         mod $module {
//!             $(
//!                 #[tokio::test]
//!                 async fn $case() {
//!                     let clock = Arc::new(ManualClock::default());
//!                     let store = super::open(clock.clone()).await;
//!                     let context = runtrail_conformance::Context::new(&*store, &clock);
//!                     runtrail_conformance::$module::$case(&context).await;
//!                 }
//!             )*
//!         }
//!     };
//! }
//!
//! runtrail_conformance::storage_cases!(tests);
//! # fn main() {}
//! ```

#![expect(clippy::unwrap_used, reason = "a case fails by a panic")]

#[macro_use]
mod macros;

mod clock;
mod context;
#[doc(hidden)]
pub mod support;

// Storage.
pub mod append_log;
pub mod counts;
pub mod filters;
pub mod finish_run;
pub mod identifiers;
pub mod json;
pub mod last_run;
pub mod limits;
pub mod lineage;
pub mod lists;
pub mod numbers;
pub mod purge;
pub mod start_run;
pub mod texts;
pub mod times;
pub mod usage;

// The other traits of a history.
pub mod append_logs;
pub mod budgets;
pub mod create_run;
pub mod ids;
pub mod labels;
pub mod measured_purge;
pub mod pages;
pub mod run_owners;
pub mod staging;
pub mod statistics;
pub mod streams;
pub mod subtree;
pub mod usage_totals;
pub mod watch;

pub use clock::ManualClock;
pub use context::Context;
