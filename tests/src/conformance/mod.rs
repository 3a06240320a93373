//! The contract of `Storage` and of its extension traits, case by case.
//!
//! The cases without SQL are in `crates/conformance`, and run here on each kind of store. A case's
//! name in the output shows where it ran, as in
//! `conformance::finish_run::postgres::finishing_twice_with_other_stats_is_refused`.

macro_rules! on_every_store {
    ($module:ident: $($name:ident)*) => {
        mod $module {
            cases! {
                $(
                    async fn $name(cx) {
                        runtrail_conformance::$module::$name(&cx.context()).await;
                    }
                )*
            }
        }
    };
}

macro_rules! on_own_stores_only {
    ($module:ident: $($name:ident)*) => {
        mod $module {
            cases_of_the_store! {
                $(
                    async fn $name(cx) {
                        runtrail_conformance::$module::$name(&cx.context()).await;
                    }
                )*
            }
        }
    };
}

runtrail_conformance::storage_cases!(on_every_store);
runtrail_conformance::history_cases!(on_own_stores_only);

mod budget_time;
mod configured_limits;
mod cursors;
mod damage;
mod group_commit;
mod in_transactions;
mod owners;
mod purge_atomicity;
mod raced_batches;
mod stored_values;
