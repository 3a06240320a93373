//! The contract of `Storage` and of its extension traits, case by case.
//!
//! Each case is a sentence and is written once. Its name in the output shows where it ran, as in
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

// The traits of a store other than `Storage`.
mod append_logs;
mod create_run;
mod group_commit;
mod ids;
mod measured_purge;
mod pages;
mod purge_atomicity;
mod streams;
mod subtree;

mod damage;
mod identifiers;
mod json;
mod limits;
mod numbers;
mod texts;
mod times;
