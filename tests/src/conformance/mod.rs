//! The contract of `Storage` and of its extension traits, case by case.
//!
//! A case is a sentence and is written once. Its name in the output tells where it ran, as in
//! `conformance::finish_run::postgres::finishing_twice_with_other_stats_is_refused`.

mod append_log;
mod finish_run;
mod start_run;

mod counts;
mod filters;
mod lists;

mod last_run;
mod lineage;

mod purge;

// What the store can do beside `Storage`.
mod append_logs;
mod create_run;
mod ids;
mod measured_purge;
mod pages;
mod streams;
mod subtree;
mod together;
mod whole_purge;

mod damage;
mod identifiers;
mod json;
mod limits;
mod numbers;
mod texts;
mod times;
